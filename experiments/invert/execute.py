"""Carries out a plan: one video or several, each in its run folder, new or continued."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from eg3d_jax.errors import DiskFullError, InputError, is_disk_full
from eg3d_jax.folders import check_writable, made
from experiments.invert.batch import RunHooks, RunMonitor, steps_done
from experiments.invert.plan import Plan, RunOptions, RunVideo
from experiments.invert.refine_first import refine_first
from experiments.invert.summary_page import SummaryFolder, VideoStatus, table
from experiments.runs.folder import STATES, RunFolder, RunLock, disk_bytes
from experiments.runs.settings import OtherSettings
from inversion.fitting.states import StateFolder
from inversion.monitor import Stopped
from inversion.pipeline import Fitter, batches, fit_batch, prepare


def execute(plan: Plan, monitor: RunMonitor) -> bool:
    """Invert all videos of a plan, measure them and write their reports.

    Args:
      plan: what is inverted, and how.
      monitor: a new one, told of everything.

    Returns:
      Whether everything went as it should: no video failed, no stage ended early.

    Raises:
      InputError: if the run cannot begin or go on in its folder, or a single video failed.
      KeyboardInterrupt: if the user stopped it; it goes on if executed again with
        `RunOptions.resume`.
    """
    return (invert_several if plan.several else invert_one)(plan, monitor)


def invert_one(plan: Plan, monitor: RunMonitor) -> bool:
    """One video, in the run folder itself."""
    options = plan.options
    ended: list[VideoStatus] = []
    needed_bytes = disk_bytes(plan.models.generator, len(plan.videos[0].methods))
    # The folder is taken before the long work begins, and changed once nothing can be refused.
    with RunFolder.lock(
        options.run,
        resume=options.resume,
        overwrite=options.overwrite,
        needed_bytes=needed_bytes,
    ) as run:
        if options.refine:
            plan = refine_first(plan, monitor)
        video = plan.videos[0]
        if options.resume:
            RunFolder.check_settings(run.path, video.settings)
        fitter, _ = prepare_fitter(plan, monitor)
        run.begin(video.settings, video.folder)
        hooks = RunHooks(
            fitter,
            monitor,
            lambda _: run,
            ended.append,
            save_steps=options.save_steps,
            alone=True,
        )
        with advise_resume():
            fit_batch(fitter, plan.videos, hooks)
    for sentence in hooks.compared[""].sentences():
        monitor.say(sentence)
    return ended[0].status == "done"


def prepare_fitter(plan: Plan, monitor: RunMonitor) -> tuple[Fitter, int]:
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


def invert_several(plan: Plan, monitor: RunMonitor) -> bool:
    """Several videos, batch by batch; those that an earlier run finished are left as they are."""
    options, number = plan.options, plan.share.number
    check_writable(options.run)
    summary = SummaryFolder(options.run, plan.names)
    lock = RunLock(options.run / (f"run{number}.lock" if number else "run.lock"))
    with made(options.run), lock:
        if not number:  # the first alone says what the folder is for
            summary.check(resume=options.resume, overwrite=options.overwrite)
        if options.refine:
            plan = refine_first(plan, monitor)
        plan = drop_changed_videos(plan)
        mine = [*(video.name for video in plan.videos), *plan.refused]
        waiting = [video for video in plan.videos if not is_done(options, summary, video)]
        waiting = dataclasses.replace(plan, videos=waiting)
        fitter, at_once = prepare_fitter(waiting, monitor) if waiting.videos else (None, 1)
        if not number:
            summary.prepare()
        if options.overwrite:
            summary.clear(mine)
        for name, message in plan.refused.items():
            monitor.say(f"{name} refused: {message}")
            summary.write(VideoStatus(video=name, status="failed", message=message))
        if fitter is not None:
            with advise_resume():
                invert_batches(waiting, fitter, at_once, summary, monitor)
        ended = summary.summarise()
    monitor.say(table(ended))
    return all(entry.status == "done" for entry in ended if entry.video in mine)


def invert_batches(
    plan: Plan, fitter: Fitter, at_once: int, summary: SummaryFolder, monitor: RunMonitor
) -> None:
    """Videos, so many at once, each in its run folder."""

    def report(entry: VideoStatus) -> None:
        summary.write(entry)
        monitor.progress.end_row(entry.video, entry.status)

    hooks = RunHooks(
        fitter,
        monitor,
        lambda video: open_run(plan, video),
        report,
        save_steps=plan.options.save_steps,
        alone=False,
    )
    done, videos = 0, plan.videos
    with monitor.progress.table([video.name for video in videos]):
        for batch in batches(videos, at_once):
            names = ", ".join(video.name for video in batch)
            monitor.say(f"{done} of {len(videos)} videos done; now {names}")
            fit_batch(fitter, batch, hooks)
            done += len(batch)


def open_run(plan: Plan, video: RunVideo) -> RunFolder:
    """The run folder of one of several videos, new or continued."""
    needed_bytes = disk_bytes(plan.models.generator, len(video.methods))
    if has_run(plan.options, video):
        return RunFolder.resume(video.run, video.settings, needed_bytes=needed_bytes)
    return RunFolder.create(
        video.run,
        video.settings,
        needed_bytes=needed_bytes,
        overwrite=plan.options.overwrite,
        frames_folder=video.folder,
    )


def has_run(options: RunOptions, video: RunVideo) -> bool:
    """Whether an earlier run of several began this video, and this one goes on."""
    return options.resume and RunFolder.has_run(video.run)


def is_done(options: RunOptions, summary: SummaryFolder, video: RunVideo) -> bool:
    """Whether an earlier run finished this video."""
    return has_run(options, video) and summary.read(video.name).status == "done"


def drop_changed_videos(plan: Plan) -> Plan:
    """The plan with those videos refused whose frames are not those that their runs began with.

    Raises:
      InputError: if the runs began with other options.
    """
    videos, refused = [], dict(plan.refused)
    for video in plan.videos:
        try:
            if has_run(plan.options, video):
                RunFolder.check_settings(video.run, video.settings)
            videos.append(video)
        except OtherSettings as error:
            refused[video.name] = error.reraise_unless_frames_changed()
        except InputError as error:
            refused[video.name] = str(error)
    return dataclasses.replace(plan, videos=videos, refused=refused)


@contextmanager
def advise_resume() -> Iterator[None]:
    """Once a run has begun, Ctrl-C and a full disk say how it goes on."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error) or isinstance(error, DiskFullError):
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        raise DiskFullError(
            f"the disk is full{where}; free some space and continue with --resume"
        ) from error
    except Stopped:
        raise KeyboardInterrupt("everything so far is saved; go on with --resume") from None
    except KeyboardInterrupt as interrupt:
        advice = "--resume goes on from the last save, or from the start if there is none"
        raise KeyboardInterrupt(str(interrupt) or advice) from None
