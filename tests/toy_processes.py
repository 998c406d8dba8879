"""Processes that invert toys, for tests to start and kill, and what they leave meanwhile."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np


def starter() -> Callable:
    """Starts functions with their arguments in processes that have imported the toys already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["toy_inversion"])

    def begin(function, *arguments):
        process = context.Process(target=function, args=arguments)
        process.start()
        return process

    return begin


def ended(process, status: int = 0, *, seconds: float = 600.0) -> None:
    """Wait until a process ends with that status."""
    process.join(seconds)
    assert process.exitcode == status


def rows(run: Path, names: Iterable[str]) -> int:
    """Steps of these videos that are logged."""
    found = 0
    for name in names:
        with suppress(OSError):
            found += max((run / name / "log.csv").read_bytes().count(b"\n") - 1, 0)
    return found


def unfinished(run: Path) -> bool:
    """Whether a save is on its way, or was when its process was killed."""
    # os.walk passes over what vanishes meanwhile, over which Path.rglob fails.
    return any("orbax-checkpoint-tmp" in name for _, names, _ in os.walk(run) for name in names)


def assert_same(found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray]) -> None:
    """All arrays are equal to the bit."""
    assert set(found) == set(wanted)
    different = [key for key, value in wanted.items() if not np.array_equal(found[key], value)]
    assert not different
