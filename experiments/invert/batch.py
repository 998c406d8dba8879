"""Monitor and hooks of a run: log, run folder, measures and pages of each video."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np

from eg3d_jax.errors import InputError
from experiments.command import Interrupt, deferred_interrupt
from experiments.invert.outputs import (
    Finished,
    measure,
    write_metrics,
    write_page,
    write_pictures,
    write_turntable,
)
from experiments.invert.plan import RunVideo
from experiments.invert.summary_page import VideoStatus, finished_status
from experiments.report.summary import Comparison
from experiments.runs.folder import RunFolder
from experiments.runs.log import EventLog
from inversion.fitting.states import StateFolder
from inversion.methods import Method
from inversion.monitor import Monitor
from inversion.objectives import TERMS
from inversion.pipeline import Fitter, Hooks, Job, Video
from inversion.result import Inversion


class RunMonitor(Monitor):
    """Logs an inversion's losses, stops it at Ctrl-C, and passes on what is to be shown.

    Attributes:
      shown: told of everything; work before a run goes to it alone.
      logs: of the videos in progress, by name.
      seconds: of the tasks shown, by video and task.
    """

    def __init__(self, shown: Monitor):
        self.shown = shown
        self.logs: dict[str, EventLog] = {}
        self.seconds: dict[str, dict[str, float]] = {}
        self._interrupt = Interrupt()

    def note(self, video: str, seconds: Mapping[str, float]) -> None:
        """Add to the seconds of a video."""
        known = self.seconds.setdefault(video, {})
        for name, value in seconds.items():
            known[name] = known.get(name, 0.0) + value

    def say(self, text: str, video: str = "") -> None:  # noqa: D102
        self.shown.say(text, video)

    def forget(self, video: str) -> None:
        """Drop the log and the seconds of a video that has ended."""
        self.logs.pop(video, None)
        self.seconds.pop(video, None)

    @contextmanager
    def task(self, name: str, video: str = "") -> Iterator[None]:  # noqa: D102
        started = time.monotonic()
        try:
            with self.shown.task(name, video):
                yield
        finally:
            self.note(video, {name: time.monotonic() - started})

    def resumed(self, video: str, stage: str, step: int) -> None:  # noqa: D102
        self.logs[video].go_back(stage, step)
        self.shown.resumed(video, stage, step)

    @contextmanager
    def stages(  # noqa: D102
        self, videos: Sequence[str], stages: Sequence[str], num_steps: int, done: Sequence[int]
    ) -> Iterator[None]:
        shown = self.shown.stages(videos, stages, num_steps, done)
        with shown, deferred_interrupt() as self._interrupt:
            yield

    def steps(self, video: str, stage: str, first: int, terms: Mapping[str, np.ndarray]) -> None:  # noqa: D102
        self.logs[video].scalars(stage, first, terms)
        self.shown.steps(video, stage, first, terms)

    def stop_requested(self) -> bool:  # noqa: D102
        return self._interrupt.asked or self.shown.stop_requested()


@dataclass
class _Running:
    """A video of the batch in progress."""

    video: RunVideo
    run: RunFolder
    finished: list[Finished] = field(default_factory=list)

    @property
    def stopped(self) -> list[str]:
        return [said for item in self.finished for said in item.found.stopped]


class RunHooks(Hooks):
    """Keeps each video in its run folder, and reports how it ended.

    Attributes:
      compared: the numbers of a video that is alone, once it is done.
    """

    def __init__(
        self,
        fitter: Fitter,
        monitor: RunMonitor,
        open_run: Callable[[RunVideo], RunFolder],
        report: Callable[[VideoStatus], None],
        *,
        save_steps: int,
        alone: bool,
    ):
        """Prepare for batches.

        Args:
          fitter: of all videos.
          monitor: of all videos.
          open_run: makes or opens the folder of a video's run.
          report: told how a video ended.
          save_steps: from one saved state to the next.
          alone: whether there is but one video, whose failure ends the command.
        """
        self._fitter, self._monitor = fitter, monitor
        self._open_run, self._report = open_run, report
        self._save_steps, self._alone = save_steps, alone
        self._running: dict[str, _Running] = {}  # of the batch alone: they hold every rendering
        self.compared: Comparison | None = None

    def open(self, video: Video, stack: ExitStack) -> StateFolder:  # noqa: D102
        assert isinstance(video, RunVideo)
        run = stack.enter_context(self._open_run(video))
        store = StateFolder(run.states, self._save_steps, run.push)
        keep = steps_done(store, video.methods)
        self._monitor.logs[video.name] = stack.enter_context(EventLog(run.path, TERMS, keep=keep))
        self._running[video.name] = _Running(video, run)
        return store

    def fitted(self, job: Job, found: Inversion) -> None:  # noqa: D102
        name = job.video.name
        self._monitor.note(name, {k: s for k, s in found.seconds.items() if s})
        losses = self._monitor.logs[name].history
        self._running[name].finished.append(
            measure(
                self._fitter, job, found, self._running[name].video.frames, losses, self._monitor
            )
        )

    def done(self, video: Video) -> None:  # noqa: D102
        one = self._running.pop(video.name)
        best, frames, seconds = one.finished[-1], one.video.frames, {}
        with self._monitor.task("pictures, turntable and report", video.name):
            best.found.save(one.run.result)
            compared = write_metrics(one.run, frames, one.finished)
            rows = write_pictures(one.run, frames, one.finished)
            write_turntable(one.run, best.found)
            seconds = dict(self._monitor.seconds.get(video.name, {}))
            write_page(
                one.run, frames, one.finished, compared, rows,
                settings=one.video.settings, seconds=seconds, notes=one.stopped,
            )  # fmt: skip
        one.run.push()
        self._monitor.forget(video.name)
        if self._alone:
            self.compared = compared
        own = 0.0 if self._alone else sum(seconds.values())
        self._report(finished_status(video.name, compared, one.stopped, own))

    def failed(self, video: Video, error: Exception) -> None:  # noqa: D102
        if self._alone:
            raise error
        self._running.pop(video.name, None)
        self._monitor.forget(video.name)
        expected = isinstance(error, InputError)
        message = str(error) if expected else f"{type(error).__name__}: {error}"
        if not expected:  # a bug of ours: print the traceback
            self._monitor.say("".join(traceback.format_exception(error)))
        self._monitor.say(f"{video.name} failed: {message}")
        self._report(VideoStatus(video=video.name, status="failed", message=message))


def steps_done(store: StateFolder, methods: Sequence[Method]) -> dict[str, int]:
    """Steps of the newest state of every stage that has one, damaged or not."""
    names = [name for method in methods for name in (method.latent_stage, method.tuning_stage)]
    found = {name: store.newest_step(name) for name in names}
    return {name: step for name, step in found.items() if step is not None}
