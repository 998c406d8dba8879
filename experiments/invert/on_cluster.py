"""Several videos inverted by the workers of a cluster, each in its run folder on a disk of all."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from eg3d_jax.errors import use_float32
from experiments.command import (
    Interrupt,
    deferred_interrupt,
    enable_compilation_cache,
    quiet_cache_loader,
)
from experiments.invert.batch import RunHooks, RunMonitor
from experiments.invert.execute import (
    SeveralRuns,
    advise_resume,
    drop_changed_videos,
    open_run,
    prepare_fitter,
)
from experiments.invert.plan import Plan, RunVideo
from experiments.invert.refine_first import refine_first, refined_home
from experiments.invert.summary_page import SUMMARY_FILES, VideoStatus
from experiments.progress import CommandMonitor, Progress
from experiments.runs.folder import InUse, RunFolder
from experiments.runs.mirror import Mirror, url_of
from experiments.runs.settings import OtherSettings
from inversion.cluster import work_through
from inversion.fitting.memory import within
from inversion.outbox import Outbox
from inversion.pipeline import batches, fit_batch, largest_video

Opened = TypeVar("Opened")
# A worker that is cut off from the others, or whose machine is gone, may hold the folder of a video
# until the shared disk notices.
_PATIENCE = 120.0


def execute_on_cluster(plan: Plan, progress: Progress) -> bool:
    """Have the workers of a cluster invert the videos of a plan; see `execute.execute`.

    This process hands them out, keeps the summary and shows what is done.

    Raises:
      InputError: if the run cannot begin or go on in its folder, or the cluster cannot be used.
      KeyboardInterrupt: if the user stopped it; workers have saved everything then.
    """
    cluster = plan.options.cluster
    assert cluster is not None
    with SeveralRuns(plan, progress) as home:
        if not plan.options.refine:  # else the workers refine labels, and only then can tell
            plan = drop_changed_videos(plan)
        waiting = [video for video in plan.videos if not home.is_done(video)]
        if not waiting:
            home.begin(plan)
            return home.end(plan, None)
        number = 0

        def receive(entry: VideoStatus) -> None:
            nonlocal number
            number += 1
            home.report(entry)
            said = f"{entry.video}: {entry.status}, {number} of {len(waiting)}"
            progress.say(f"{said} ({entry.message})" if entry.message else said)

        shared = replace(
            plan, videos=[largest_video(waiting)] * len(waiting), names=(), refused={},
        )  # fmt: skip
        with advise_resume(plan.options), stoppable(progress) as screen:
            with progress.table([video.name for video in waiting]):
                work_through(
                    cluster,
                    functools.partial(RunWorker, shared),
                    lambda at_once: batches(waiting, at_once),
                    monitor=screen,
                    ready=lambda: home.begin(plan),
                    receive=receive,
                    lost=lambda video, why: receive(
                        VideoStatus(video=video.name, status="failed", message=why)
                    ),
                )
        return home.end(plan, None)


@contextmanager
def local_copy(run: Path) -> Iterator[tuple[Path, str | None]]:
    """The folder of a run and None, or a temporary one with what is at a URL's top, and the URL."""
    url = url_of(run)
    if url is None:
        yield run.absolute(), None
        return
    with TemporaryDirectory(prefix="eg3d_jax_") as scratch:
        folder = Path(scratch) / run.name
        Mirror(folder, url, SUMMARY_FILES).fetch()
        yield folder, url


class Screen(CommandMonitor):
    """Shows what many workers do: their stages in the table only, which a file has not."""

    def __init__(self, progress: Progress, interrupt: Interrupt):
        super().__init__(progress)
        self._interrupt = interrupt

    @contextmanager
    def task(self, name: str, video: str = "") -> Iterator[None]:  # noqa: D102
        with super().task(name, video) if self.progress.live else nullcontext():
            yield

    @contextmanager
    def stages(  # noqa: D102
        self, videos: Sequence[str], stages: Sequence[str], num_steps: int, done: Sequence[int]
    ) -> Iterator[None]:
        live = self.progress.live
        with super().stages(videos, stages, num_steps, done) if live else nullcontext():
            yield

    def steps(self, video, stage, first, terms) -> None:  # noqa: D102
        if self.progress.live:
            super().steps(video, stage, first, terms)

    def stop_requested(self) -> bool:  # noqa: D102
        return self._interrupt.asked


@contextmanager
def stoppable(progress: Progress) -> Iterator[Screen]:
    """A screen that asks to stop after Ctrl-C."""
    with deferred_interrupt() as interrupt:
        yield Screen(progress, interrupt)


class RunWorker:
    """Inverts batches of videos on a worker, each in its run folder; sends how each ended."""

    def __init__(self, plan: Plan, outbox: Outbox):
        """Compile the steps, for the largest video in the plan."""
        quiet_cache_loader()
        enable_compilation_cache()
        use_float32()
        resources = within(plan.options.resources, outbox.memory)
        self._plan = replace(plan, options=replace(plan.options, resources=resources))
        self._outbox, self._scratch = outbox, None
        if plan.options.url is not None:
            self._scratch = TemporaryDirectory(prefix="eg3d_jax_")
            run = Path(self._scratch.name) / "run"
            self._plan = replace(self._plan, options=replace(self._plan.options, run=run))
        # A stage that is finished for this video may not be for others.
        every = replace(self._plan, options=replace(self._plan.options, resume=False))
        self._monitor = RunMonitor(outbox)
        self._fitter, self.at_once = prepare_fitter(every, self._monitor)

    def work(self, batch: Sequence[RunVideo], *, again: bool) -> None:
        """Invert videos of equal shape; see `inversion.cluster.Worker`."""
        run, url = self._plan.options.run, self._plan.options.url
        plan = replace(self._plan, videos=[replace(v, run=run / v.name) for v in batch])
        mirrors = {}
        if url is not None:
            mirrors = {v.name: Mirror(v.run, f"{url}/{v.name}") for v in plan.videos}
            for mirror in mirrors.values():
                if again or plan.options.resume:
                    mirror.fetch()
        if plan.options.refine:
            plan = drop_changed_videos(self._refined(plan))
        for name, message in plan.refused.items():
            self._outbox.send(VideoStatus(video=name, status="failed", message=message))
        if plan.videos:
            hooks = RunHooks(
                self._fitter,
                self._monitor,
                lambda video: self._open(video, mirrors.get(video.name), again=again),
                self._outbox.send,
                save_steps=plan.options.save_steps,
                alone=False,
            )
            fit_batch(self._fitter, plan.videos, hooks)
        for name in mirrors:  # so that the disk holds one batch at a time
            shutil.rmtree(run / name, ignore_errors=True)

    def _refined(self, plan: Plan) -> Plan:
        """The plan with refined labels, which other workers may have found and stored."""
        if plan.options.url is None:
            return refine_first(plan, self._outbox)
        home, mirrors = refined_home(plan.options.run), []
        for video in plan.videos:
            mirrors.append(Mirror(home / video.name, f"{plan.options.url}_frames/{video.name}"))
            mirrors[-1].fetch()
        plan = refine_first(plan, self._outbox)
        for mirror in mirrors:
            mirror.push()
        return plan

    def _open(self, video: RunVideo, mirror: Mirror | None, *, again: bool) -> RunFolder:
        """The video's run folder; what a worker has begun that died is continued."""
        options = self._plan.options
        if again and RunFolder.has_run(video.run):
            with suppress(OtherSettings):
                RunFolder.check_settings(video.run, video.settings)
                options = replace(options, resume=True)
        run = patiently(lambda: open_run(options, self._plan.models.generator, video))
        run.mirror = mirror
        return run


def patiently(open_folder: Callable[[], Opened], seconds: float = _PATIENCE) -> Opened:
    """Wait for a folder that another process holds, for so long.

    Raises:
      InUse: if it still does.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return open_folder()
        except InUse:
            if time.monotonic() > until:
                raise
            time.sleep(1.0)
