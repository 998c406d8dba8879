"""How much memory a piece of work took at its peak, as the system measured it."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import jax

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """A context; afterwards `grown` is by how many bytes memory grew in it at most.

    Of the device if it tells (allocators do not forget their peak, so only a new one is seen), else
    of the process, where other threads count, too. None where neither can be known.
    """

    def __init__(self):
        self.grown: int | None = None
        self._before: int | None = None

    def __enter__(self) -> PeakMemory:
        self._before = _device("bytes_in_use")
        self._peak_before = _device("peak_bytes_in_use")
        if self._before is None:
            self._before = _reset_process_peak()
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            return
        peak = _device("peak_bytes_in_use")
        if peak is None:
            self.grown = max(_process("VmHWM") - self._before, 0)
        elif peak != self._peak_before:
            self.grown = peak - self._before


def tree_bytes(tree: Any) -> int:
    """Bytes of a tree's arrays."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array))


def _device(name: str) -> int | None:
    return (jax.devices()[0].memory_stats() or {}).get(name)


def _reset_process_peak() -> int | None:
    """Resident bytes now, from which the peak is counted anew; None where that is not possible."""
    # Freed memory that the C library kept would be taken again without being seen.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    try:
        _RESET.write_text("5")
        return _process("VmRSS")
    except (OSError, StopIteration):
        return None


def _process(name: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
