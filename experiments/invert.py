"""Invert the head in a folder of frames: several views in, a 3D head out.

`python -m experiments.invert` shows it on the embedded generator and demo head. With weights from
`python -m convert_weights` and frames labelled as EG3D does it,
`python -m experiments.invert --generator weights/ffhq512-128 --frames video --run runs/video`.
Several folders, `--frames 'videos/*'` say, are inverted together, a run folder each.
"""

from __future__ import annotations

import dataclasses
import sys
import time

import tyro

from experiments import compilation_cache
from experiments.errors import explained
from experiments.generators import disk_bytes
from experiments.inversion_args import DEMO, Args
from experiments.inversion_batches import Inverter
from experiments.inversion_plan import Plan, Video, batches, choose_refinement, prepare
from experiments.outcomes import Outcome, Outcomes, table
from experiments.preparation import prepare_fitter
from experiments.processes import join_processes
from experiments.progress import Progress
from experiments.refined_frames import refine_first
from experiments.run_lock import RunLock
from experiments.runs import RunFolder

__all__ = ["DEMO", "Args", "main", "prepare"]


def main(args: Args) -> bool:
    """Run the command; errors that a user can act on are `InputError`s.

    Returns:
      Whether everything went as it should: no video failed, no stage ended early.
    """
    share = join_processes(args.coordinator, args.processes, args.process)
    progress, started = Progress(), time.perf_counter()
    with progress.task("reading generator and frames"):
        plan = prepare(args, share)
    if choose_refinement(args):  # after the check of what was given
        args = refine_first(args, plan, progress)
        plan = prepare(args, share)
    fine = (invert_several if plan.several else invert_one)(args, plan, progress)
    where = args.run / ("index.html" if plan.several else "report.html")
    progress.say(f"{where}: open it in a browser ({time.perf_counter() - started:.0f} s)")
    return fine


def invert_one(args: Args, plan: Plan, progress: Progress) -> bool:
    """One video, in the run folder itself."""
    outcomes: list[Outcome] = []
    # The folder is taken before the long work begins.
    with open_run(args, plan, plan.videos[0], resume=args.resume) as run:
        fitter, _ = prepare_fitter(args, plan, progress)
        inverter = Inverter(plan, fitter, progress, lambda video: run, outcomes.append)
        compared = inverter.invert(plan.videos)
    for sentence in compared[0].sentences():
        progress.say(sentence)
    return outcomes[0].status == "done"


def invert_several(args: Args, plan: Plan, progress: Progress) -> bool:
    """Several videos, batch by batch; those that an earlier run finished are left as they are."""
    outcomes = Outcomes(args.run, plan.names)
    args.run.mkdir(parents=True, exist_ok=True)
    number = plan.share.number
    lock = RunLock(args.run / (f"run{number}.lock" if number else "run.lock"))
    lock.acquire()
    try:
        if not number:
            outcomes.claim(resume=args.resume, overwrite=args.overwrite)
        for name, message in plan.refused.items():
            progress.say(f"{name} refused: {message}")
            outcomes.write(Outcome(video=name, status="failed", message=message))
        waiting = [video for video in plan.videos if not is_done(args, outcomes, video)]
        if waiting:
            remaining = dataclasses.replace(plan, videos=waiting)
            fitter, at_once = prepare_fitter(args, remaining, progress)

            def report(outcome: Outcome) -> None:
                outcomes.write(outcome)
                progress.end_row(outcome.video, outcome.status)

            inverter = Inverter(
                plan, fitter, progress,
                lambda video: open_run(args, plan, video, resume=begun(args, video)),
                report,
            )  # fmt: skip
            done = 0
            with progress.table([video.name for video in waiting]):
                for batch in batches(waiting, at_once):
                    names = ", ".join(video.name for video in batch)
                    progress.say(f"{done} of {len(waiting)} videos done; now {names}")
                    inverter.invert(batch)
                    done += len(batch)
        ended = outcomes.summarise()
    finally:
        lock.release()
    progress.say(table(ended))
    mine = [o for o in ended if o.video in {v.name for v in plan.videos} | set(plan.refused)]
    return all(outcome.status == "done" for outcome in mine)


def open_run(args: Args, plan: Plan, video: Video, *, resume: bool) -> RunFolder:
    """The video's run folder, new or continued."""
    needed_bytes = disk_bytes(plan.generator, len(video.methods))
    if resume:
        return RunFolder.resume(video.run, video.settings, needed_bytes=needed_bytes)
    return RunFolder.create(
        video.run,
        video.settings,
        needed_bytes=needed_bytes,
        overwrite=args.overwrite,
        frames_folder=video.folder,
    )


def begun(args: Args, video: Video) -> bool:
    """Whether an earlier run of several began this video."""
    return args.resume and RunFolder.begun(video.run)


def is_done(args: Args, outcomes: Outcomes, video: Video) -> bool:
    """Whether an earlier run finished this video, with the same settings."""
    if not begun(args, video) or outcomes.read(video.name).status != "done":
        return False
    RunFolder.resume(video.run, video.settings).close()
    return True


if __name__ == "__main__":
    with explained(interrupted="--resume continues from the last save"):
        compilation_cache.enable()
        sys.exit(0 if main(tyro.cli(Args)) else 1)
