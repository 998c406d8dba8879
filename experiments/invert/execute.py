"""Carries out a plan: one video or several, each in its run folder, new or continued."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import jax

from eg3d_jax.errors import DiskFullError, InputError, is_disk_full
from eg3d_jax.folders import check_writable, made
from eg3d_jax.generator import TriPlaneGenerator
from experiments.invert.batch import RunHooks, RunMonitor, steps_done
from experiments.invert.plan import Plan, RunOptions, RunVideo
from experiments.invert.refine_first import refine_first
from experiments.invert.summary_page import SUMMARY_FILES, SummaryFolder, VideoStatus, table
from experiments.progress import Progress
from experiments.runs.folder import STATES, RunFolder, RunLock, disk_bytes
from experiments.runs.mirror import Mirror
from experiments.runs.settings import OtherSettings
from inversion.fitting.states import StateFolder
from inversion.monitor import Monitor, Stopped
from inversion.pipeline import Fitter, Video, batches, fit_batch, prepare


def execute(plan: Plan, monitor: RunMonitor, progress: Progress) -> bool:
    """Invert all videos of a plan, measure them and write their reports.

    Args:
      plan: what is inverted, and how.
      monitor: a new one, told of everything.
      progress: shows the table of several videos.

    Returns:
      Whether everything went as it should: no video failed, no stage ended early.

    Raises:
      InputError: if the run cannot begin or go on in its folder, or a single video failed.
      KeyboardInterrupt: if the user stopped it; it goes on if executed again with
        `RunOptions.resume`.
    """
    # The folder is taken before the long work begins, and changed once nothing can be refused.
    home = SeveralRuns(plan, progress) if plan.several else SingleRun(plan, monitor)
    with home:
        if plan.options.refine:
            plan = refine_first(plan, monitor.shown)
        plan = drop_changed_videos(plan)
        waiting = [video for video in plan.videos if not home.is_done(video)]
        waiting = dataclasses.replace(plan, videos=waiting)
        fitter, at_once = prepare_fitter(waiting, monitor) if waiting.videos else (None, 1)
        home.begin(plan)
        hooks = None
        if fitter is not None:
            hooks = RunHooks(
                fitter,
                monitor,
                home.open,
                home.report,
                save_steps=plan.options.save_steps,
                alone=not plan.several,
            )
            with advise_resume(plan.options):
                grouped = batches(waiting.videos, at_once)
                if plan.several:
                    invert_several(grouped, fitter, hooks, progress)
                else:
                    fit_batch(fitter, grouped[0], hooks)
        return home.end(plan, hooks)


def invert_several(
    grouped: Sequence[Sequence[Video]], fitter: Fitter, hooks: RunHooks, progress: Progress
) -> None:
    """Videos, so many at once, each in its run folder."""
    names, done = [video.name for batch in grouped for video in batch], 0
    with progress.table(names):
        for batch in grouped:
            now = ", ".join(video.name for video in batch)
            progress.say(f"{done} of {len(names)} videos done; now {now}")
            fit_batch(fitter, batch, hooks)
            done += len(batch)


def prepare_fitter(plan: Plan, monitor: Monitor) -> tuple[Fitter, int]:
    """The steps of all videos, compiled and within memory, and how many videos make a batch.

    Raises:
      InputError: if the steps do not fit in memory however little is done at once.
    """
    options, models = plan.options, plan.models
    return prepare(
        models.generator,
        plan.videos,
        options.config,
        key=jax.random.key(options.seed),
        networks=models.networks,
        resources=options.resources,
        finished=finished_stages(plan) if options.resume else (),
        monitor=monitor,
    )


def finished_stages(plan: Plan) -> set[str]:
    """Names of the stages that an earlier run has finished for all videos."""
    config = plan.options.config
    methods = [method for video in plan.videos for method in video.methods]
    steps = {method.tuning_stage: config.tuning.num_steps for method in methods}
    for method in methods:
        stage = config.latent if method.knots is None else config.latents
        steps[method.latent_stage] = stage.num_steps
    done = [steps_done(StateFolder(video.run / STATES), video.methods) for video in plan.videos]
    return {name for name, wanted in steps.items() if all(d.get(name) == wanted for d in done)}


class SingleRun:
    """Folder of a run of one video, locked from beginning to end."""

    def __init__(self, plan: Plan, monitor: RunMonitor):
        self._options, self._monitor = plan.options, monitor
        self._needed_bytes = disk_bytes(plan.models.generator, len(plan.videos[0].methods))
        self._ended: list[VideoStatus] = []

    def __enter__(self) -> SingleRun:
        options = self._options
        self._run = RunFolder.lock(
            options.run,
            resume=options.resume,
            overwrite=options.overwrite,
            needed_bytes=self._needed_bytes,
        )
        return self

    def __exit__(self, *_) -> None:
        self._run.close()

    def is_done(self, video: RunVideo) -> bool:
        """No: what an earlier run finished is measured and written again."""
        return False

    def begin(self, plan: Plan) -> None:
        """Start the run in the folder, or go on with the one in it."""
        video = plan.videos[0]
        self._run.begin(video.settings, video.folder)

    def open(self, video: RunVideo) -> RunFolder:
        """The run folder of the video."""
        return self._run

    def report(self, entry: VideoStatus) -> None:
        """Keep how the video ended."""
        self._ended.append(entry)

    def end(self, plan: Plan, hooks: RunHooks | None) -> bool:
        """Say how the methods compare; whether no stage ended early."""
        assert hooks is not None  # there is always a video to invert
        assert hooks.compared is not None
        for sentence in hooks.compared.sentences():
            self._monitor.say(sentence)
        return self._ended[0].status == "done"


class SeveralRuns:
    """Folder of the runs of several videos and of their summary.

    Videos that an earlier run finished are left as they are.
    """

    def __init__(self, plan: Plan, progress: Progress):
        self._options, self._progress = plan.options, progress
        self._generator, self._mirror = plan.models.generator, None
        self._summary = SummaryFolder(plan.options.run, plan.names)
        self._stack = ExitStack()

    def __enter__(self) -> SeveralRuns:
        options = self._options
        check_writable(options.run)
        with ExitStack() as stack:
            stack.enter_context(made(options.run))
            stack.enter_context(RunLock(options.run / "run.lock"))
            self._summary.check(resume=options.resume, overwrite=options.overwrite)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *raised) -> None:
        self._stack.__exit__(*raised)

    def is_done(self, video: RunVideo) -> bool:
        """Whether an earlier run finished this video."""
        # Of a run kept at a URL the videos' folders are not here.
        begun = self._options.url if self._options.resume else None
        if not (begun or has_run(self._options, video)):
            return False
        return self._summary.read(video.name).status == "done"

    def begin(self, plan: Plan) -> None:
        """Write down which videos the folder is for, and which of them are refused."""
        self._summary.prepare()
        if self._options.overwrite:
            self._summary.clear(plan.names)
        if self._options.url is not None:
            self._mirror = Mirror(self._options.run, self._options.url, SUMMARY_FILES)
            self._mirror.push()
        for name, message in plan.refused.items():
            self._progress.say(f"{name} refused: {message}")
            self._summary.write(VideoStatus(video=name, status="failed", message=message))

    def open(self, video: RunVideo) -> RunFolder:
        """The run folder of a video, new or continued."""
        return open_run(self._options, self._generator, video)

    def report(self, entry: VideoStatus) -> None:
        """Write how a video ended into the summary."""
        self._summary.write(entry)
        if self._mirror is not None:
            self._mirror.push()
        self._progress.end_row(entry.video, entry.status)

    def end(self, plan: Plan, hooks: RunHooks | None) -> bool:
        """Show how all videos ended; whether they did as they should."""
        ended = self._summary.summarise()
        if self._mirror is not None:
            self._mirror.push()
        self._progress.say(table(ended))
        return all(entry.status == "done" for entry in ended)


def open_run(options: RunOptions, generator: TriPlaneGenerator, video: RunVideo) -> RunFolder:
    """The run folder of one of several videos, new or continued.

    Raises:
      InputError: see `RunFolder.create` and `RunFolder.resume`.
    """
    needed_bytes = disk_bytes(generator, len(video.methods))
    if has_run(options, video):
        return RunFolder.resume(video.run, video.settings, needed_bytes=needed_bytes)
    return RunFolder.create(
        video.run,
        video.settings,
        needed_bytes=needed_bytes,
        overwrite=options.overwrite,
        frames_folder=video.folder,
    )


def has_run(options: RunOptions, video: RunVideo) -> bool:
    """Whether an earlier run of several began this video, and this one goes on."""
    return options.resume and RunFolder.has_run(video.run)


def drop_changed_videos(plan: Plan) -> Plan:
    """The plan with those videos refused whose frames are not those that their runs began with.

    Raises:
      InputError: if the runs began with other options, or a single video's with other frames.
    """
    videos, refused = [], dict(plan.refused)
    for video in plan.videos:
        try:
            if has_run(plan.options, video):
                RunFolder.check_settings(video.run, video.settings)
            videos.append(video)
        except OtherSettings as error:
            if not plan.several:
                raise
            refused[video.name] = error.reraise_unless_frames_changed()
        except InputError as error:
            if not plan.several:
                raise
            refused[video.name] = str(error)
    return dataclasses.replace(plan, videos=videos, refused=refused)


@contextmanager
def advise_resume(options: RunOptions) -> Iterator[None]:
    """Once a run has begun, Ctrl-C and a full disk say how it goes on."""
    try:
        yield
    except OSError as error:
        known = isinstance(error, DiskFullError)
        if not (known or is_disk_full(error)):
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        said = str(error) if known else f"the disk is full{where}; free some space"
        raise DiskFullError(f"{said}, and continue with {options.again}") from error
    except Stopped:
        raise KeyboardInterrupt(f"everything so far is saved; go on with {options.again}") from None
    except KeyboardInterrupt as interrupt:
        advice = f"{options.again} goes on from the last save, or from the start if there is none"
        raise KeyboardInterrupt(str(interrupt) or advice) from None
