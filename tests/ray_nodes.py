"""A Ray cluster on this machine's loopback, of nodes that a test may kill."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_STORE = 80 * 2**20  # bytes, about the least that Ray takes


class Nodes:
    """A head that holds no worker, and nodes with room for some each.

    They belong to a process of their own: Ray forks, which those that use JAX should not.
    """

    def __init__(self):
        context = multiprocessing.get_context("spawn")
        self._calls, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other,))
        self._process.start()
        self.address = self._calls.recv()

    def add(self, cores: int = 1) -> int:
        """One more; its number."""
        return self._call("add", cores)

    def kill(self, number: int) -> None:
        """End a node as a power cut does."""
        self._call("kill", number)

    def shutdown(self) -> None:
        """End all nodes."""
        self._call("shutdown", None)
        self._process.join()

    def _call(self, name: str, value: int | None) -> int:
        self._calls.send((name, value))
        return self._calls.recv()


def _serve(calls) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": False,
            "object_store_memory": _STORE,
            # So that a test need not wait as long as a network may.
            "_system_config": {
                "health_check_initial_delay_ms": 500,
                "health_check_period_ms": 500,
                "health_check_timeout_ms": 2000,
                "health_check_failure_threshold": 3,
            },
        },
    )
    calls.send(cluster.address)
    nodes = []
    while True:
        name, value = calls.recv()
        if name == "add":
            nodes.append(cluster.add_node(num_cpus=value, object_store_memory=_STORE, wait=True))
        elif name == "kill":
            cluster.remove_node(nodes[value], allow_graceful=False)
        else:
            cluster.shutdown()
            calls.send(0)
            return
        calls.send(len(nodes) - 1)


@contextmanager
def nodes() -> Iterator[Nodes]:
    """Start them, with a Python path that has the tests; skip where Ray is not installed."""
    if find_spec("ray") is None:
        pytest.skip("clusters are Ray's, of the extra cluster")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        found = Nodes()
        try:
            yield found
        finally:
            found.shutdown()
