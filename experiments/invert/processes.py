"""Several processes, on one machine or many, that share the videos of a run (jax.distributed)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jax

from eg3d_jax.errors import InputError


@dataclass(frozen=True)
class Share:
    """This process's share of a run of several; all of it by default."""

    number: int = 0
    count: int = 1


ALONE = Share()


def join_processes(coordinator: str | None, processes: int | None, process: int | None) -> Share:
    """Join the other processes of a run, if a coordinator is named.

    They exchange nothing but their number: each works on videos and devices of its own. So a helper
    process joins them by jax.distributed and prints the number, and this one stays independent: a
    process that dies takes no other with it. Each uses all devices that it sees: with several on
    one machine with GPUs, set CUDA_VISIBLE_DEVICES for each.

    Args:
      coordinator: HOST:PORT on which the first process listens.
      processes: how many there are; asked of the cluster's environment if None.
      process: number of this one; the same.

    Raises:
      InputError: if the options contradict each other, or the processes do not find each other.
    """
    if coordinator is None:
        if processes is not None or process is not None:
            raise InputError("--processes and --process need --coordinator HOST:PORT")
        return ALONE
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(f"--coordinator {coordinator} must be HOST:PORT, say {coordinator}:8476")
    if processes is not None and process is not None and not 0 <= process < processes:
        raise InputError(f"--process {process} must be from 0 to {processes - 1}")
    told = json.dumps([coordinator, processes, process])
    # Not from the working folder (-P), which may have an `experiments` of its own.
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    joined = subprocess.run(
        [sys.executable, "-P", "-m", "experiments.invert.processes", told],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    if joined.returncode:
        reason = joined.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise InputError(f"--coordinator {coordinator}: the processes did not meet ({reason[0]})")
    return Share(*json.loads(joined.stdout.splitlines()[-1]))


def main(coordinator: str, processes: int | None, process: int | None) -> None:
    """Run the helper process: join, print number and count, and leave."""
    jax.distributed.initialize(coordinator, processes, process)
    print(json.dumps([jax.process_index(), jax.process_count()]))
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
