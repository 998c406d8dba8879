"""Progress of a command: live bars on a terminal, a plain line now and then anywhere else.

`Progress` shows it; `CommandMonitor` passes on that of a computation of the library.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars

from inversion.monitor import Monitor

# Between two plain lines of a stage.
_PLAIN_SECONDS = 10.0


class Bar(NamedTuple):
    """One live bar on a terminal."""

    bars: Bars
    id: TaskID

    def show(self, text: str, *, total: int | None, completed: int = 0) -> None:
        """Restart with another text; without `total` its length is unknown."""
        self.bars.reset(
            self.id, description=text, total=total, completed=completed, losses="", visible=True
        )


class Stage:
    """Progress of one stage; `update` after each chunk of steps."""

    def __init__(self, name: str, num_steps: int, done: int, console: Console, bar: Bar | None):
        self.name, self.num_steps, self.step = name, num_steps, done
        self._console, self._bar = console, bar
        self._started = self._told = time.monotonic()
        self._first = done
        if bar is not None:
            bar.show(name, total=num_steps, completed=done)

    def update(self, step: int, terms: Mapping[str, object] | None = None) -> None:
        """Advance the stage to a step.

        Args:
          step: steps done of the stage.
          terms: newest value of each loss, a number or an array whose last entry counts.
        """
        self.step = step
        losses = "  ".join(f"{k} {_last(v):.4g}" for k, v in (terms or {}).items())
        if self._bar is not None:
            self._bar.bars.update(self._bar.id, completed=step, losses=losses)
            return
        now = time.monotonic()
        if step < self.num_steps and now - self._told < _PLAIN_SECONDS:
            return
        self._told = now
        left = f", {clock(self._seconds_left(now))} left" if step < self.num_steps else ""
        self._console.print(f"{self.name}: step {step}/{self.num_steps}{left}  {losses}".rstrip())

    def _seconds_left(self, now: float) -> float:
        done = max(self.step - self._first, 1)
        return (now - self._started) / done * (self.num_steps - self.step)


class Progress:
    """Progress of a command's stages and tasks, on its screen."""

    def __init__(self, *, console: Console | None = None):
        # A long plain line is wrapped by the terminal, not by us.
        self.console = console or Console(file=sys.stdout, soft_wrap=True, highlight=False)
        self.live = self.console.is_terminal and not self.console.is_dumb_terminal
        self._table: dict[str, Bar] | None = None
        self._ended: Bar | None = None  # of more rows than the screen has

    def say(self, text: str) -> None:
        """Print one line above the bar."""
        self.console.print(text, markup=False, highlight=False)

    @contextmanager
    def table(self, rows: Sequence[str]) -> Iterator[None]:
        """Show a row for each of several videos inside the context.

        Stages and tasks whose name begins with 'ROW: ' are shown in that row. Of more rows than
        the screen has lines, those are shown that are worked on, and how many have ended.
        """
        if not self.live:
            yield
            return
        with self._bars() as bars:
            many = len(rows) > self.console.height - 2
            self._table = {row: _add(bars, f"{row}: waiting", visible=not many) for row in rows}
            if many:
                self._ended = _add(bars, "videos ended", total=len(rows))
            try:
                yield
            finally:
                self._table = self._ended = None

    def end_row(self, row: str, status: str) -> None:
        """Show the status of a video in the table."""
        if self._table and row in self._table:
            bar = self._table[row]
            bar.show(f"{row}: {status}", total=1, completed=1)
            if self._ended is not None:
                bar.bars.update(bar.id, visible=False)
                self._ended.bars.advance(self._ended.id)

    @contextmanager
    def stage(self, name: str, num_steps: int, *, done: int = 0) -> Iterator[Stage]:
        """Context of a stage of known length, with losses.

        Args:
          name: shown.
          num_steps: its length.
          done: steps that an interrupted run has done already.
        """
        with self.stages([name], num_steps, done=[done]) as shown:
            yield shown[0]

    @contextmanager
    def stages(
        self, names: Sequence[str], num_steps: int, *, done: Sequence[int]
    ) -> Iterator[list[Stage]]:
        """Context of several stages at once, a line each."""
        with self._lines(names) as bars:
            yield [
                Stage(name, num_steps, d, self.console, bar)
                for name, d, bar in zip(names, done, bars, strict=True)
            ]

    @contextmanager
    def task(self, name: str) -> Iterator[None]:
        """Context of work of unknown length: a spinner, then a line with its seconds."""
        started = time.monotonic()
        if row := self._row(name):
            row.show(name, total=None)
            yield
        elif self.live and self._table is None:
            with self.console.status(f"{name} ..."):
                yield
        else:
            self.say(f"{name} ...")
            yield
        self.say(f"{name}: {time.monotonic() - started:.1f} s")

    @contextmanager
    def _lines(self, names: Sequence[str]) -> Iterator[list[Bar | None]]:
        """Bars of their own, unless there is a table."""
        if self.live and self._table is None:
            with self._bars() as bars:
                yield [_add(bars, name) for name in names]
        else:
            yield [self._row(name) for name in names]

    def _row(self, name: str) -> Bar | None:
        """Row of the table to which a stage or task belongs."""
        rows = (self._table or {}).items()
        return next((bar for row, bar in rows if name.startswith(f"{row}: ")), None)

    def _bars(self) -> Bars:
        return Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}", style="dim"),
            console=self.console,
        )


def _add(bars: Bars, text: str, *, total: int | None = None, visible: bool = True) -> Bar:
    return Bar(bars, bars.add_task(text, total=total, visible=visible, losses=""))


def clock(seconds: float) -> str:
    """Format minutes and seconds: 83 is 1:23."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _last(value: object) -> float:
    return float(np.asarray(value).reshape(-1)[-1])


class CommandMonitor(Monitor):
    """Monitor that shows a library's computation on a command's `Progress`."""

    def __init__(self, progress: Progress):
        self.progress = progress
        self._shown: dict[str, Stage] = {}

    def say(self, text: str, video: str = "") -> None:  # noqa: D102
        self.progress.say(_named(video, text))

    @contextmanager
    def task(self, name: str, video: str = "") -> Iterator[None]:  # noqa: D102
        with self.progress.task(_named(video, name)):
            yield

    @contextmanager
    def stages(  # noqa: D102
        self, videos: Sequence[str], stages: Sequence[str], num_steps: int, done: Sequence[int]
    ) -> Iterator[None]:
        names = [_named(*pair) for pair in zip(videos, stages, strict=True)]
        with self.progress.stages(names, num_steps, done=done) as shown:
            self._shown |= dict(zip(names, shown, strict=True))
            try:
                yield
            finally:  # those of other videos may go on
                for name in names:
                    del self._shown[name]

    def steps(self, video: str, stage: str, first: int, terms: Mapping[str, np.ndarray]) -> None:  # noqa: D102
        taken = max((len(values) for values in terms.values()), default=0)
        self._shown[_named(video, stage)].update(first + taken, terms if taken else None)


def _named(video: str, text: str) -> str:
    """Title of a stage of one of several videos, by which `Progress.table` finds its row."""
    return f"{video}: {text}" if video else text
