"""Several processes, on one machine or many, that share the videos of a run (jax.distributed)."""

from __future__ import annotations

import jax

from experiments.errors import InputError


def join_processes(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Join the processes of a run; nothing happens if no coordinator is named.

    They exchange nothing but their number: each works on its own devices, so that one that dies
    takes no other with it. Call it before JAX computes anything.

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
        return
    if processes is not None and process is not None and not 0 <= process < processes:
        raise InputError(f"--process {process} must be from 0 to {processes - 1}")
    jax.config.update("jax_enable_recoverability", True)
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--coordinator {coordinator}: {reason}") from None
