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
from experiments.invert.summary_page import Outcome, Outcomes, table
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
    if args.resume:  # nothing of what will go on
        args = dataclasses.replace(args, overwrite=False)
    if not is_one_folder(args.frames):  # by every process, before any can have written there
        Outcomes(args.run, ()).check(resume=args.resume, overwrite=args.overwrite)
    share = join_processes(args.coordinator, args.processes, args.process)
    monitor, started = RunMonitor(Progress()), time.perf_counter()
    with monitor.task("reading generator and frames"):
        plan = read_plan(args, share)
    fine = (invert_several if plan.several else invert_one)(args, plan, monitor)
    where = args.run / ("index.html" if plan.several else "report.html")
    monitor.say(f"{where}: open it in a browser ({time.perf_counter() - started:.0f} s)")
    return fine


def invert_one(args: Args, plan: Plan, monitor: RunMonitor) -> bool:
    """One video, in the run folder itself."""
    outcomes: list[Outcome] = []
    needed_bytes = disk_bytes(plan.generator, len(plan.videos[0].methods))
    # The folder is taken before the long work begins, and changed once nothing can be refused.
    with RunFolder.take(
        args.run, resume=args.resume, overwrite=args.overwrite, needed_bytes=needed_bytes
    ) as run:
        if choose_refinement(args):
            plan = refine_first(args, plan, monitor)
        video = plan.videos[0]
        if args.resume:
            run.go_on(video.settings)
        fitter, _ = prepare_fitter(args, plan, monitor)
        if not args.resume:
            run.begin(video.settings, video.folder)
        hooks = RunHooks(
            fitter, monitor, lambda _: run, outcomes.append, save_steps=args.save_steps, alone=True
        )
        with going_on():
            fit_batch(fitter, plan.videos, hooks)
    for sentence in hooks.compared[""].sentences():
        monitor.say(sentence)
    return outcomes[0].status == "done"


def prepare_fitter(args: Args, plan: Plan, monitor: RunMonitor) -> tuple[Fitter, int]:
    """The steps of all videos, compiled and within memory, and how many videos make a batch.

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
    """Several videos, batch by batch; those that an earlier run finished are left as they are."""
    check_writable(args.run)
    outcomes, number = Outcomes(args.run, plan.names), plan.share.number
    with made(args.run), RunLock(args.run / (f"run{number}.lock" if number else "run.lock")):
        if not number:  # the first alone says what the folder is for
            outcomes.check(resume=args.resume, overwrite=args.overwrite)
        if choose_refinement(args):
            plan = refine_first(args, plan, monitor)
        plan = without_changed(args, plan)
        mine = [*(video.name for video in plan.videos), *plan.refused]
        waiting = [video for video in plan.videos if not is_done(args, outcomes, video)]
        waiting = dataclasses.replace(plan, videos=waiting)
        fitter, at_once = prepare_fitter(args, waiting, monitor) if waiting.videos else (None, 1)
        if not number:
            outcomes.claim()
        if args.overwrite:
            outcomes.forget(mine)
        for name, message in plan.refused.items():
            monitor.say(f"{name} refused: {message}")
            outcomes.write(Outcome(video=name, status="failed", message=message))
        if fitter is not None:
            with going_on():
                invert_batches(args, waiting, fitter, at_once, outcomes, monitor)
        ended = outcomes.summarise()
    monitor.say(table(ended))
    return all(outcome.status == "done" for outcome in ended if outcome.video in mine)


def invert_batches(
    args: Args, plan: Plan, fitter: Fitter, at_once: int, outcomes: Outcomes, monitor: RunMonitor
) -> None:
    """Videos, so many at once, each in its run folder."""

    def report(outcome: Outcome) -> None:
        outcomes.write(outcome)
        monitor.progress.end_row(outcome.video, outcome.status)

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
    """The run folder of one of several videos, new or continued."""
    needed_bytes = disk_bytes(plan.generator, len(video.methods))
    if begun(args, video):
        return RunFolder.resume(video.run, video.settings, needed_bytes=needed_bytes)
    return RunFolder.create(
        video.run,
        video.settings,
        needed_bytes=needed_bytes,
        overwrite=args.overwrite,
        frames_folder=video.folder,
    )


def begun(args: Args, video: RunVideo) -> bool:
    """Whether an earlier run of several began this video, and this one goes on."""
    return args.resume and RunFolder.begun(video.run)


def is_done(args: Args, outcomes: Outcomes, video: RunVideo) -> bool:
    """Whether an earlier run finished this video."""
    return begun(args, video) and outcomes.read(video.name).status == "done"


def without_changed(args: Args, plan: Plan) -> Plan:
    """The plan with those videos refused whose frames are not those that their runs began with.

    Raises:
      InputError: if the runs began with other options.
    """
    videos, refused = [], dict(plan.refused)
    for video in plan.videos:
        try:
            if begun(args, video):
                RunFolder.check_settings(video.run, video.settings)
            videos.append(video)
        except OtherSettings as error:
            refused[video.name] = error.of_one_video()
        except InputError as error:
            refused[video.name] = str(error)
    return dataclasses.replace(plan, videos=videos, refused=refused)


@contextmanager
def going_on() -> Iterator[None]:
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


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(
        lambda args: 0 if main(args) else 1,
        Args,
        name="experiments.invert",
        prog=prog,
        interrupted="give the same command again",
    )
