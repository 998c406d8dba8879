"""Inverts videos batch by batch: all methods of a batch, then what each video leaves behind."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np

from eg3d_jax.cameras import to_label
from eg3d_jax.errors import InputError, is_disk_full, is_out_of_memory
from experiments.invert.fitting import TERMS, Fit, Fitter, Job, steps_done
from experiments.invert.outputs import (
    Finished,
    measure,
    write_metrics,
    write_page,
    write_pictures,
    write_turntable,
)
from experiments.invert.plan import Plan, Video
from experiments.invert.summary_page import Outcome, finished_outcome
from experiments.progress import Progress
from experiments.report.summary import Comparison
from experiments.runs.folder import RunFolder
from experiments.runs.log import EventLog
from inversion.frames.folder import read_images
from inversion.result import save_result
from inversion.views import Views


@dataclass
class _Running:
    """A video of the batch that is on its way."""

    video: Video
    run: RunFolder
    log: EventLog
    finished: list[Finished] = field(default_factory=list)
    fits: dict[str, Fit] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        return f"{self.video.name}: " if self.video.name else ""

    @property
    def stopped(self) -> list[str]:
        return [said for fit in self.fits.values() for said in fit.stopped]


class Inverter:
    """Inverts batches of videos; a video that fails among several leaves the others alone."""

    def __init__(
        self,
        plan: Plan,
        fitter: Fitter,
        progress: Progress,
        open_run: Callable[[Video], RunFolder],
        report: Callable[[Outcome], None],
    ):
        self._plan, self._fitter, self._progress = plan, fitter, progress
        self._open_run, self._report = open_run, report
        self._failed: set[str] = set()

    def invert(self, batch: Sequence[Video]) -> list[Comparison]:
        """All methods for videos of one shape; the numbers of those that did not fail."""
        compared = []
        with ExitStack() as stack:
            running = []
            for video in batch:
                with self._attempt(video):
                    running.append(self._open(video, stack))
            for number in range(len(batch[0].methods)):
                self._fit(running, number)
            for one in running:
                if one.video.name not in self._failed:
                    with self._attempt(one.video):
                        compared.append(self._leave(one))
        return compared

    def _open(self, video: Video, stack: ExitStack) -> _Running:
        run = stack.enter_context(self._open_run(video))
        keep = steps_done(run.states, video.methods)
        return _Running(video, run, stack.enter_context(EventLog(run.path, TERMS, keep=keep)))

    def _fit(self, running: Sequence[_Running], number: int) -> None:
        """One method, fitted and measured."""
        ready: list[tuple[_Running, Job]] = []
        for one in running:
            if one.video.name not in self._failed:
                with self._attempt(one.video):
                    ready.append((one, _job(one, number)))
        for one, job, fit in self._fitted(ready):
            with self._attempt(one.video):
                if fit.unusable:
                    raise InputError(f"{fit.stopped[0]}; check the generator and the frames")
                one.fits[job.method.name] = fit
                frames = one.video.frames
                one.finished.append(measure(self._fitter, frames, job, fit, self._progress))

    def _fitted(self, ready: list[tuple[_Running, Job]]) -> list[tuple[_Running, Job, Fit]]:
        """Fit videos together; if that fails, each by itself, so that one alone can be blamed."""
        if len(ready) > 1:
            try:
                fits = self._fitter.fit([job for _, job in ready])
                return [(*pair, fit) for pair, fit in zip(ready, fits, strict=True)]
            except Exception as error:
                if _ends_all(error):
                    raise
        found = []
        for one, job in ready:
            with self._attempt(one.video):
                found.append((one, job, self._fitter.fit([job])[0]))
        return found

    def _leave(self, one: _Running) -> Comparison:
        """Write what a finished run leaves, and report it."""
        best, frames = one.finished[-1], one.video.frames
        with self._progress.task(f"{one.prefix}pictures, turntable and report"):
            labels = np.asarray(to_label(frames.cameras))[best.method.frames]
            metadata = self._plan.metadata
            save_result(one.run.result, best.fit.generator, best.fit.latents, labels, metadata)
            compared = write_metrics(one.run, frames, one.finished)
            rows = write_pictures(one.run, frames, one.finished)
            write_turntable(one.run, best.fit)
            seconds = self._seconds(one)
            write_page(
                one.run, frames, one.finished, compared, rows,
                settings=one.video.settings, seconds=seconds, notes=one.stopped,
            )  # fmt: skip
        own = sum(seconds.values()) if one.video.name else 0.0
        self._report(finished_outcome(one.video.name, compared, one.stopped, own))
        return compared

    def _seconds(self, one: _Running) -> dict[str, float]:
        """By what was done for this video, or for all."""
        every, prefix = self._progress.seconds, one.prefix
        return {
            name.removeprefix(prefix): value
            for name, value in every.items()
            if name.startswith(prefix)
        }

    @contextmanager
    def _attempt(self, video: Video) -> Iterator[None]:
        """Work for one video of several; what goes wrong is reported and ends only that one."""
        try:
            yield
        except Exception as error:
            if not video.name or _ends_all(error):
                raise
            self._failed.add(video.name)
            expected = isinstance(error, InputError)
            message = str(error) if expected else f"{type(error).__name__}: {error}"
            if not expected:  # a defect of ours: keep where it happened
                self._progress.say("".join(traceback.format_exception(error)))
            self._progress.say(f"{video.name} failed: {message}")
            self._report(Outcome(video=video.name, status="failed", message=message))


def _ends_all(error: Exception) -> bool:
    """Whether no other video would fare better."""
    return is_disk_full(error) or is_out_of_memory(error)


def _job(one: _Running, number: int) -> Job:
    method, frames = one.video.methods[number], one.video.frames
    images = jnp.asarray(read_images(frames, method.frames))
    return Job(
        method=method,
        views=Views(images=images, cameras=frames.cameras[method.frames]),
        start=None if method.start is None else one.fits[method.start.name],
        folder=one.run.states,
        log=one.log,
        prefix=one.prefix,
    )
