"""A Ray cluster on this machine's loopback, of nodes that a test may kill."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_STORE = 80 * 2**20  # bytes, the least that Ray takes


class Nodes:
    """A head that holds no worker, and nodes with room for one each."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
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
        self.address = self._cluster.address

    def add(self, cores: int = 1):
        """One more."""
        return self._cluster.add_node(num_cpus=cores, object_store_memory=_STORE, wait=True)

    def kill(self, node) -> None:
        """End a node as a power cut does."""
        self._cluster.remove_node(node, allow_graceful=False)

    def shutdown(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()


@contextmanager
def nodes() -> Iterator[Nodes]:
    """Start them, with a Python path that has the tests; skip where Ray is not installed."""
    pytest.importorskip("ray", reason="clusters are Ray's, of the extra cluster")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        found = Nodes()
        try:
            yield found
        finally:
            found.shutdown()
