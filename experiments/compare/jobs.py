"""The runs of a comparison: one method for all heads at a time, finished ones kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from eg3d_jax.errors import InputError
from experiments.invert.batch import RunMonitor
from experiments.invert.execute import execute
from experiments.invert.plan import Models, Plan, RunOptions, RunVideo, make_plan
from experiments.invert.summary_page import SummaryFolder
from experiments.progress import CommandMonitor, Progress
from experiments.runs.folder import RunFolder

Videos = dict[str, RunVideo]  # by head


@dataclass(frozen=True, kw_only=True)
class Job:
    """One method for all heads.

    Attributes:
      frames: folder of each head.
      runs: run folder of each head.
      options: of their runs.
      start: another method, whose latent several latents start from; None if each run finds it
        itself, or needs none.
    """

    frames: Sequence[Path]
    runs: dict[str, Path]
    options: RunOptions
    start: str | None = None


def run_jobs(jobs: Mapping[str, Job], models: Models, progress: Progress) -> dict[str, Videos]:
    """Run or continue all jobs, all of them checked before the first.

    Args:
      jobs: by method; one comes after the one that it starts from.
      models: of all runs.
      progress: told what is done.

    Returns:
      The heads by method.

    Raises:
      InputError: if a head cannot be inverted so, or failed.
    """
    with progress.task("checking heads and methods"):
        plans = {method: plan_job(job, models) for method, job in jobs.items()}
    heads = {method: heads_of(jobs[method], plan) for method, plan in plans.items()}
    for number, (method, job) in enumerate(jobs.items()):
        videos = heads[method]
        states = {head: run_state(video) for head, video in videos.items()}
        shown = ", ".join(f"{head} {state}" for head, state in states.items())
        progress.say(f"{number + 1} of {len(jobs)}: {method} ({shown})")
        if set(states.values()) == {"finished"}:
            continue
        if job.start is not None:
            for head in (head for head, state in states.items() if state == "new"):
                begin_from(videos[head], heads[job.start][head].run)
        run_job(plans[method], videos, progress)
    return heads


def plan_job(job: Job, models: Models) -> Plan:
    """A job with its heads, checked.

    Raises:
      InputError: if a head cannot be inverted so.
    """
    plan = make_plan(job.frames, job.options, models)
    for message in plan.refused.values():
        raise InputError(message)
    return plan


def heads_of(job: Job, plan: Plan) -> Videos:
    """The videos of a job's plan, by head."""
    videos = {video.run: video for video in plan.videos}
    return {head: videos[run] for head, run in job.runs.items()}


def run_state(video: RunVideo) -> str:
    """'new', 'begun' or 'finished'.

    Raises:
      InputError: if the folder holds a run with other settings, or something else.
    """
    if not RunFolder.has_run(video.run):
        return "new"
    with RunFolder.resume(video.run, video.settings) as run:
        return "finished" if run.report.exists() else "begun"


def begin_from(video: RunVideo, done: Path) -> None:
    """Begin a run of several latents with the one of all views that another run has found.

    That run's only method is this one's first, with the same settings.
    """
    first = video.methods[0]
    with RunFolder.create(video.run, video.settings, frames_folder=video.folder) as run:
        run.adopt(done, (first.latent_stage, first.tuning_stage))


def run_job(plan: Plan, videos: Videos, progress: Progress) -> None:
    """Run or continue a job.

    Raises:
      InputError: if a head failed.
    """
    home = plan.options.run
    if plan.several and not SummaryFolder.has_run(home):
        summary = SummaryFolder(home, plan.names)
        summary.check(resume=False, overwrite=False)
        summary.prepare()
    begun = any(RunFolder.has_run(video.run) for video in videos.values())
    options = replace(plan.options, resume=plan.several or begun, again="the same command")
    # A monitor of its own: another method's seconds and logs are not this one's.
    progress = Progress(console=progress.console)
    execute(replace(plan, options=options), RunMonitor(CommandMonitor(progress)), progress)
    progress.say(f"{plan.page}: open it in a browser")
    missing = [head for head, video in videos.items() if run_state(video) != "finished"]
    if missing:
        raise InputError(f"{videos[missing[0]].run} did not end; see {home / 'summary.md'}")
