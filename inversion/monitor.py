"""Progress of a long computation, and requests to stop it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np


class Monitor:
    """Receiver of an inversion's progress. This one ignores all; subclass it to show, log or stop.

    `video` is the name of one of several videos, and empty for a single one.
    """

    def say(self, text: str, video: str = "") -> None:
        """Show one sentence."""

    @contextmanager
    def task(self, name: str, video: str = "") -> Iterator[None]:
        """Context around work of unknown length."""
        yield

    def resumed(self, video: str, stage: str, step: int) -> None:
        """Note that a stage begins after `step` steps, 0 if new; drop what was logged beyond."""

    @contextmanager
    def stages(
        self, videos: Sequence[str], stages: Sequence[str], num_steps: int, done: Sequence[int]
    ) -> Iterator[None]:
        """Context around a stage of several videos, of which `done` steps are taken already."""
        yield

    def steps(self, video: str, stage: str, first: int, terms: Mapping[str, np.ndarray]) -> None:
        """Receive unweighted loss terms [n] of the steps `first`, `first` + 1, ... of a stage."""

    def stop_requested(self) -> bool:
        """Whether to stop after the steps just taken; asked after every compiled call."""
        return False


class Stopped(KeyboardInterrupt):
    """Raised when a monitor asked to stop; all steps taken are in the store."""


@contextmanager
def counted(monitor: Monitor, name: str, count: int) -> Iterator[Callable[..., None]]:
    """Context of a loop that is shown and can be stopped; call what it gives after each step.

    It takes the number of steps done, if not one more.

    Raises:
      Stopped: if the monitor asked for it.
    """
    done = 0

    def advance(to: int | None = None) -> None:
        nonlocal done
        before, done = done, min(done + 1 if to is None else to, count)
        monitor.steps("", name, done, {})
        if done > before and monitor.stop_requested():
            raise Stopped

    with monitor.stages([""], [name], count, [0]):
        yield advance
