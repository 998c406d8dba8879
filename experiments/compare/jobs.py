"""The runs of a comparison: one method for all heads at a time, finished ones kept."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from eg3d_jax.errors import InputError
from experiments.invert import main as invert
from experiments.invert.plan import RunVideo, read_plan
from experiments.invert.summary_page import SummaryFolder
from experiments.progress import Progress
from experiments.runs.folder import RunFolder

Videos = dict[str, RunVideo]  # by head


@dataclass(frozen=True, kw_only=True)
class Job:
    """One method for all heads.

    Attributes:
      args: of `experiments.invert`.
      runs: run folder of each head.
    """

    args: invert.Args
    runs: dict[str, Path]


def run_jobs(jobs: Mapping[str, Job], one_latent: str, progress: Progress) -> dict[str, Videos]:
    """Run or continue all jobs, all of them checked before the first.

    Args:
      jobs: by method.
      one_latent: the method, if it is among them, whose latent several latents start from.
      progress: told what is done.

    Returns:
      The heads by method.

    Raises:
      InputError: if a head cannot be inverted so, or failed.
    """
    with progress.task("checking heads and methods"):
        planned = {method: videos_of(job) for method, job in jobs.items()}
    for number, (method, job) in enumerate(jobs.items()):
        videos = planned[method]
        states = {head: run_state(video) for head, video in videos.items()}
        shown = ", ".join(f"{head} {state}" for head, state in states.items())
        progress.say(f"{number + 1} of {len(jobs)}: {method} ({shown})")
        if set(states.values()) == {"finished"}:
            continue
        new = [head for head, state in states.items() if state == "new"]
        if job.args.latents > 1 and one_latent in jobs:
            for head in new:
                start_from(videos[head], planned[one_latent][head].run)
        invert_all(job, videos)
    return planned


def videos_of(job: Job) -> Videos:
    """The heads of a job, checked; its generator and networks are let go.

    Raises:
      InputError: if a head cannot be inverted so.
    """
    plan = read_plan(job.args)
    for message in plan.refused.values():
        raise InputError(message)
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


def start_from(video: RunVideo, done: Path) -> None:
    """Begin a run of several latents with the one of all views that another run has found.

    The settings of that stage are the same, so it goes on from there as from its own.
    """
    with RunFolder.create(video.run, video.settings, frames_folder=video.folder) as run:
        shutil.copytree(done / run.states.name, run.states, dirs_exist_ok=True)
        shutil.copy(done / "log.csv", run.path / "log.csv")


def invert_all(job: Job, videos: Videos) -> None:
    """Run or continue a job.

    Raises:
      InputError: if a head failed.
    """
    several = len(videos) > 1
    if several and not SummaryFolder.has_run(job.args.run):
        summary = SummaryFolder(job.args.run, tuple(videos))
        summary.check(resume=False, overwrite=False)
        summary.prepare()
    begun = any(RunFolder.has_run(video.run) for video in videos.values())
    invert.main(replace(job.args, resume=several or begun))
    missing = [head for head, video in videos.items() if run_state(video) != "finished"]
    if missing:
        raise InputError(f"{videos[missing[0]].run} did not end; see {job.args.run / 'summary.md'}")
