"""A thread that draws the newest state: quickly while it changes, in full once it rests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

State = TypeVar("State")
Picture = TypeVar("Picture")


class DrawThread(Generic[State, Picture]):
    """Thread that draws the newest state after `changed` was called; skips states in between."""

    def __init__(
        self,
        read: Callable[[], State],
        draw: Callable[[State, bool], Picture],
        show: Callable[[Picture, bool], None],
        *,
        settle: float = 0.15,
    ):
        """Start the thread, which draws a first picture at once.

        Args:
          read: the state as it is now.
          draw: draws a state; the flag is true while it changes and a rough picture will do.
          show: shows a picture, with the same flag.
          settle: how long nothing may change until the state counts as resting, seconds.
        """
        self._read, self._draw, self._show, self._settle = read, draw, show, settle
        self._condition = threading.Condition()
        self._newest, self._open = 1, True
        self._thread = threading.Thread(target=self._run, name="draw", daemon=True)
        self._thread.start()

    def changed(self) -> None:
        """Ask for a picture of the newest state."""
        with self._condition:
            self._newest += 1
            self._condition.notify()

    def close(self) -> None:
        """End the thread, after the picture that it is drawing."""
        with self._condition:
            self._open = False
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        drawn = 0
        while self._changes(since=drawn, within=None):
            drawn = self._newest
            self._show(self._draw(self._read(), True), True)
            if not self._changes(since=drawn, within=self._settle) and self._open:
                picture = self._draw(self._read(), False)
                if drawn == self._newest:  # otherwise it is outdated
                    self._show(picture, False)

    def _changes(self, *, since: int, within: float | None) -> bool:
        """Wait for a change, `within` seconds at most; whether there is one and nobody closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._newest > since or not self._open, within)
            return self._newest > since and self._open
