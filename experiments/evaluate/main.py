"""Measure finished runs: how well each shows every frame, by kind of frame and by yaw.

`python -m experiments.evaluate runs/demo` measures the tuned result on the frames that the run was
made of; `python -m experiments.evaluate runs/a runs/b --output runs/both` also compares several,
each counted once. Every run keeps its own numbers in RUN/evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import tyro

from eg3d_jax.errors import InputError
from eg3d_jax.folders import sha256
from experiments import command
from experiments.evaluate.files import FILES, MARK, Evaluated, write_evaluation, write_overview
from experiments.progress import Progress
from experiments.runs.folder import read_config
from experiments.runs.output_folder import OutputFolder
from experiments.subjects import DEMO_RUN
from inversion.features.networks import load_networks
from inversion.frames.folder import Frames, labels_fingerprint, load_frames, pictures_fingerprint
from inversion.objectives import FeatureNetworks
from inversion.result import Inversion, load


@dataclass(frozen=True, kw_only=True)
class Args:
    """Measure runs of `python -m experiments.invert`.

    Attributes:
      runs: run folders; runs/demo if none is given
      frames: folder of frames to measure on; those that each run was made of if not given
      identity: a network of faces, IR-SE-50 or IR-101 as .pth, for the identity similarity; for
        generators of 256 pixels or more
      same_network: allow the network that the run's own identity loss looked through
      crop: take the central square of frames that are not square
      output: folder for the overview of several runs
      overwrite: replace earlier evaluations
    """

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    frames: Path | None = None
    identity: Path | None = None
    same_network: bool = False
    crop: bool = False
    output: Path = Path("runs/evaluation")
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class _Job:
    run: Path
    result: Inversion
    frames: Frames
    networks: FeatureNetworks


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    progress = Progress()
    runs = args.runs or (DEMO_RUN,)
    names = [run.resolve().name for run in runs]
    if len(set(names)) < len(names):
        raise InputError(f"runs {', '.join(map(str, runs))} must differ in their folders' names")
    with progress.task("reading runs and frames"):
        jobs = [prepare(run, args) for run in runs]
        folders = [run / "evaluation" for run in runs] + [args.output] * (len(runs) > 1)
        outputs = [OutputFolder(f, MARK, FILES, overwrite=args.overwrite) for f in folders]
    evaluated = []
    for job, output in zip(jobs, outputs, strict=False):
        with progress.task(f"measuring {job.run}"):
            evaluated.append(
                Evaluated.of_run(job.run, job.result, job.frames, job.networks, args.identity)
            )
            with output.writing() as staging:
                write_evaluation(staging, evaluated[-1])
        progress.say(f"{output.path}:\n{evaluated[-1].table()}")
    if len(runs) > 1:
        with outputs[-1].writing() as staging:
            write_overview(staging, evaluated)
        progress.say(f"{args.output}: overview of {len(runs)} runs")


def prepare(run: Path, args: Args) -> _Job:
    """A run's result and the frames to measure it on, all checked.

    Raises:
      InputError: if something is missing or damaged, the frames are not those of the run, or the
        network is the one that the run was trained with.
    """
    if not run.is_dir():
        raise InputError(f"{run} is no folder; name a run made by `python -m experiments.invert`")
    result, config = load(run / "result"), read_config(run)
    settings = config.get("settings", {})
    folder = config.get("frames_folder") if args.frames is None else args.frames
    if folder is None:
        raise InputError(f"{run}/config.json does not name its frames; give their folder: --frames")
    generator = result.generator
    frames = load_frames(folder, generator, crop=args.crop or bool(settings.get("crop")))
    if args.frames is None and (changed := changes(frames, settings)):
        raise InputError(
            f"{folder} has changed since {run} was made of it: its {changed} are others; restore "
            "it, or name frames of the same head by --frames"
        )
    if args.identity is not None and not args.same_network:
        if settings.get("identity") == sha256(args.identity):
            raise InputError(
                f"--identity {args.identity} is the network that {run} was trained with, which "
                "would mark its own work; give another, or allow it by --same-network"
            )
    networks = load_networks(generator.config.image_side, args.identity)
    return _Job(run=run, result=result, frames=frames, networks=networks)


def changes(frames: Frames, settings: dict) -> str | None:
    """What a run was made of and is no longer: 'cameras', 'pictures', or None."""
    if labels_fingerprint(frames) != settings["frame_labels"]:
        return "cameras"
    # Runs from before these were noted may have seen others.
    pictures = settings.get("frame_pictures")
    return "pictures" if pictures and pictures != pictures_fingerprint(frames) else None


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.evaluate", prog=prog)
