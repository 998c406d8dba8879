"""The runs of a comparison: one method for all heads at a time, finished ones kept."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from experiments import invert
from experiments.errors import InputError
from experiments.inversion_plan import Video
from experiments.outcomes import Outcomes
from experiments.runs import RunFolder


@dataclass(frozen=True, kw_only=True)
class Job:
    """One method for all heads.

    Attributes:
      args: of `experiments.invert`.
      runs: run folder of each head.
    """

    args: invert.Args
    runs: dict[str, Path]

    @property
    def several_latents(self) -> bool:
        """Whether it starts from the latent that 'multi-view' finds."""
        return self.args.latents > 1


def videos_of(job: Job) -> dict[str, Video]:
    """The heads of a job, checked; its generator and networks are let go.

    Raises:
      InputError: if a head cannot be inverted so.
    """
    plan = invert.prepare(job.args)
    for message in plan.refused.values():
        raise InputError(message)
    videos = {video.run: video for video in plan.videos}
    return {head: videos[run] for head, run in job.runs.items()}


def run_state(video: Video) -> str:
    """'new', 'begun' or 'finished'.

    Raises:
      InputError: if the folder holds a run with other settings, or something else.
    """
    if not (video.run / "config.json").exists():
        return "new"
    with RunFolder.resume(video.run, video.settings) as run:
        return "finished" if run.report.exists() else "begun"


def start_from(video: Video, done: Path) -> None:
    """Begin a run of several latents with the one of all views that another run has found.

    The settings of that stage are the same, so it goes on from there as from its own.
    """
    with RunFolder.create(video.run, video.settings, frames_folder=video.folder) as run:
        shutil.copytree(done / run.states.name, run.states, dirs_exist_ok=True)
        shutil.copy(done / "log.csv", run.path / "log.csv")


def invert_all(job: Job, videos: Mapping[str, Video]) -> None:
    """Run or continue a job.

    Raises:
      InputError: if a head failed.
    """
    several = len(videos) > 1
    if several and not Outcomes.begun(job.args.run):
        Outcomes(job.args.run, tuple(videos)).claim(resume=False, overwrite=False)
    begun = any((video.run / "config.json").exists() for video in videos.values())
    invert.main(replace(job.args, resume=several or begun))
    missing = [head for head, video in videos.items() if run_state(video) != "finished"]
    if missing:
        raise InputError(f"{videos[missing[0]].run} did not end; see {job.args.run / 'summary.md'}")
