"""Invert the head in a folder of frames: several views in, a 3D head out.

`python -m experiments.invert` shows it on the embedded generator and demo head. With weights from
`python -m convert_weights` and frames labelled as EG3D does it,
`python -m experiments.invert --generator weights/ffhq512-128 --frames video --run runs/video`.
Several folders, `--frames 'videos/*'` say, are inverted together, a run folder each.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import jax

from eg3d_jax.errors import DiskFullError, InputError, is_disk_full
from eg3d_jax.folders import check_writable, made
from experiments import command
from experiments.invert.args import Args
from experiments.invert.batch import RunHooks, RunMonitor, steps_done
from experiments.invert.plan import Plan, RunVideo, choose_refinement, read_plan
from experiments.invert.processes import join_processes
from experiments.invert.refine_first import refine_first
from experiments.invert.summary_page import SummaryFolder, VideoStatus, table
from experiments.invert.videos import is_one_folder
from experiments.progress import Progress
from experiments.runs.folder import STATES, RunFolder, RunLock, disk_bytes
from experiments.runs.settings import OtherSettings
from inversion.fitting.memory import Resources
from inversion.fitting.states import StateFolder
from inversion.monitor import Stopped
from inversion.pipeline import Fitter, batches, fit_batch, prepare


def main(args: Args) -> bool:
    """Run the command; errors that a user can act on are `InputError`s.

    Returns:
      Whether everything went as it should: no video failed, no stage ended early.
    """
    if args.resume:  # a run that is resumed is kept
        args = dataclasses.replace(args, overwrite=False)
    if not is_one_folder(args.frames):  # in every process, before any of them writes
        SummaryFolder(args.run, ()).check(resume=args.resume, overwrite=args.overwrite)
    share = join_processes(args.coordinator, args.processes, args.process)
    monitor, started = RunMonitor(Progress()), time.perf_counter()
    with monitor.task("reading generator and frames"):
        plan = read_plan(args, share)
    fine = (invert_several if plan.several else invert_one)(args, plan, monitor)
    where = args.run / ("index.html" if plan.several else "report.html")
    monitor.say(f"{where}: open it in a browser ({time.perf_counter() - started:.0f} s)")
    return fine


def invert_one(args: Args, plan: Plan, monitor: RunMonitor) -> bool:
    """Invert one video, in the run folder itself."""
    ended: list[VideoStatus] = []
    needed_bytes = disk_bytes(plan.generator, len(plan.videos[0].methods))
    # The folder is locked before the long work begins, and changed once nothing can be refused.
    with RunFolder.lock(
        args.run, resume=args.resume, overwrite=args.overwrite, needed_bytes=needed_bytes
    ) as run:
        if choose_refinement(args):
            plan = refine_first(args, plan, monitor)
        video = plan.videos[0]
        if args.resume:
            RunFolder.check_settings(run.path, video.settings)
        fitter, _ = prepare_fitter(args, plan, monitor)
        run.begin(video.settings, video.folder)
        hooks = RunHooks(
            fitter, monitor, lambda _: run, ended.append, save_steps=args.save_steps, alone=True
        )
        with advise_resume():
            fit_batch(fitter, plan.videos, hooks)
    for sentence in hooks.compared[""].sentences():
        monitor.say(sentence)
    return ended[0].status == "done"


def prepare_fitter(args: Args, plan: Plan, monitor: RunMonitor) -> tuple[Fitter, int]:
    """Compile the steps of all videos within memory: the fitter, and how many videos make a batch.

    Raises:
      InputError: if the steps do not fit in memory however little is done at once.
    """
    resources = Resources(
        videos_at_once=args.videos_at_once,
        memory_budget=None if args.memory_budget is None else 1e9 * args.memory_budget,
    )
    return prepare(
        plan.generator,
        plan.videos,
        plan.config,
        key=jax.random.key(args.seed),
        networks=plan.networks,
        resources=resources,
        finished=finished_stages(plan) if args.resume else (),
        monitor=monitor,
    )


def finished_stages(plan: Plan) -> set[str]:
    """Names of the stages that an earlier run has finished for all videos."""
    methods = [method for video in plan.videos for method in video.methods]
    steps = {method.tuning_stage: plan.config.tuning.num_steps for method in methods}
    for method in methods:
        stage = plan.config.latent if method.knots is None else plan.config.latents
        steps[method.latent_stage] = stage.num_steps
    done = [steps_done(StateFolder(video.run / STATES), video.methods) for video in plan.videos]
    return {name for name, wanted in steps.items() if all(d.get(name) == wanted for d in done)}


def invert_several(args: Args, plan: Plan, monitor: RunMonitor) -> bool:
    """Invert several videos, batch by batch; those that an earlier run finished are left alone."""
    check_writable(args.run)
    summary, number = SummaryFolder(args.run, plan.names), plan.share.number
    with made(args.run), RunLock(args.run / (f"run{number}.lock" if number else "run.lock")):
        if not number:  # only the first process prepares the folder
            summary.check(resume=args.resume, overwrite=args.overwrite)
        if choose_refinement(args):
            plan = refine_first(args, plan, monitor)
        plan = drop_changed_videos(args, plan)
        mine = [*(video.name for video in plan.videos), *plan.refused]
        waiting = [video for video in plan.videos if not is_done(args, summary, video)]
        waiting = dataclasses.replace(plan, videos=waiting)
        fitter, at_once = prepare_fitter(args, waiting, monitor) if waiting.videos else (None, 1)
        if not number:
            summary.prepare()
        if args.overwrite:
            summary.clear(mine)
        for name, message in plan.refused.items():
            monitor.say(f"{name} refused: {message}")
            summary.write(VideoStatus(video=name, status="failed", message=message))
        if fitter is not None:
            with advise_resume():
                invert_batches(args, waiting, fitter, at_once, summary, monitor)
        ended = summary.summarise()
    monitor.say(table(ended))
    return all(entry.status == "done" for entry in ended if entry.video in mine)


def invert_batches(
    args: Args,
    plan: Plan,
    fitter: Fitter,
    at_once: int,
    summary: SummaryFolder,
    monitor: RunMonitor,
) -> None:
    """Invert videos, so many at once, each in its run folder."""

    def report(entry: VideoStatus) -> None:
        summary.write(entry)
        monitor.progress.end_row(entry.video, entry.status)

    hooks = RunHooks(
        fitter,
        monitor,
        lambda video: open_run(args, plan, video),
        report,
        save_steps=args.save_steps,
        alone=False,
    )
    done, videos = 0, plan.videos
    with monitor.progress.table([video.name for video in videos]):
        for batch in batches(videos, at_once):
            names = ", ".join(video.name for video in batch)
            monitor.say(f"{done} of {len(videos)} videos done; now {names}")
            fit_batch(fitter, batch, hooks)
            done += len(batch)


def open_run(args: Args, plan: Plan, video: RunVideo) -> RunFolder:
    """Open the run folder of one of several videos, new or resumed."""
    needed_bytes = disk_bytes(plan.generator, len(video.methods))
    if has_run(args, video):
        return RunFolder.resume(video.run, video.settings, needed_bytes=needed_bytes)
    return RunFolder.create(
        video.run,
        video.settings,
        needed_bytes=needed_bytes,
        overwrite=args.overwrite,
        frames_folder=video.folder,
    )


def has_run(args: Args, video: RunVideo) -> bool:
    """Whether an earlier run of several began this video, and this one resumes it."""
    return args.resume and RunFolder.has_run(video.run)


def is_done(args: Args, summary: SummaryFolder, video: RunVideo) -> bool:
    """Whether an earlier run finished this video."""
    return has_run(args, video) and summary.read(video.name).status == "done"


def drop_changed_videos(args: Args, plan: Plan) -> Plan:
    """Refuse the videos whose frames are not those that their runs began with.

    Returns:
      The plan without them.

    Raises:
      InputError: if the runs began with other options.
    """
    videos, refused = [], dict(plan.refused)
    for video in plan.videos:
        try:
            if has_run(args, video):
                RunFolder.check_settings(video.run, video.settings)
            videos.append(video)
        except OtherSettings as error:
            refused[video.name] = error.reraise_unless_frames_changed()
        except InputError as error:
            refused[video.name] = str(error)
    return dataclasses.replace(plan, videos=videos, refused=refused)


@contextmanager
def advise_resume() -> Iterator[None]:
    """Add to the errors of a run that has begun, Ctrl-C and a full disk, how to resume it."""
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


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(
        lambda args: 0 if main(args) else 1,
        Args,
        name="experiments.invert",
        prog=prog,
        interrupted="give the same command again",
    )
