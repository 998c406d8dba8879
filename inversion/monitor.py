"""What a long computation tells whoever waits for it, and asks of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np


class Monitor:
    """Told how an inversion goes on. This one does nothing; subclass it to show, log or stop one.

    `video` is the name of one of several videos, and empty for a single one.
    """

    def say(self, text: str, video: str = "") -> None:
        """Take one sentence."""

    @contextmanager
    def task(self, name: str, video: str = "") -> Iterator[None]:
        """Work of unknown length lasts as long as the context."""
        yield

    def resumed(self, video: str, stage: str, step: int) -> None:
        """A stage goes on after `step` steps, 0 if new; what was told of later ones is void."""

    @contextmanager
    def stages(
        self, videos: Sequence[str], stages: Sequence[str], num_steps: int, done: Sequence[int]
    ) -> Iterator[None]:
        """A stage of several videos lasts as long as the context; `done` steps are taken."""
        yield

    def steps(self, video: str, stage: str, first: int, terms: Mapping[str, np.ndarray]) -> None:
        """Steps `first`, `first` + 1, ... of a stage were taken; unweighted loss terms [n] each."""

    def stop_requested(self) -> bool:
        """Whether to stop after the steps just taken; asked after every compiled call."""
        return False


class Stopped(KeyboardInterrupt):
    """The computation stopped because its monitor asked for it; what was done is in the store."""
