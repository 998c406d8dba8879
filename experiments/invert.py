"""Invert the head in a folder of frames: several views in, a 3D head out.

`python -m experiments.invert` shows it on the embedded generator and demo head. With weights from
`python -m convert_weights` and frames labelled as EG3D does it,
`python -m experiments.invert --generator weights/ffhq512-128 --frames video --run runs/video`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

from convert_weights.pickle_reader import sha256
from eg3d_jax.cameras import azimuth, to_label
from eg3d_jax.generator import TriPlaneGenerator
from experiments import compilation_cache, states
from experiments.errors import InputError, explained
from experiments.event_log import EventLog
from experiments.finished import Finished, finish
from experiments.fitting import TERMS, Fit, Fitter, steps_done
from experiments.frames_io import Frames, load_frames
from experiments.generators import EMBEDDED, disk_bytes, load_generator, mean_latent, ray_range
from experiments.methods import Method, choose_methods
from experiments.networks import load_networks
from experiments.outputs import write_metrics, write_page, write_pictures, write_turntable
from experiments.presets import Preset, inversion_config
from experiments.progress import Progress
from experiments.results import save_result
from experiments.runs import RunFolder
from inversion.config import InversionConfig, Regularizer
from inversion.objectives import FeatureNetworks

DEMO = Path(__file__).parent / "demo" / "demo_a"


@dataclass(frozen=True, kw_only=True)
class Args:
    """Fit one latent and a tuned generator to several views of a head.

    Attributes:
      frames: folder of square frames with EG3D's dataset.json; the demo head if not given
      generator: folder made by `python -m convert_weights`; the embedded heads if not given
      run: output folder
      views: number of frames to fit, evenly spaced in yaw
      latents: number of latents; with more than one, that many of the views get one each, and the
        others see what lies between
      regularise: what holds several latents together, of distance, interpolation and depth; all if
        not given, none if empty
      update: how the terms of several latents are minimised, see `InversionConfig.update`
      preset: 'paper' or 'quick'; quick for the embedded generator, paper for others, if not given
      latent_steps: instead of the preset's
      latents_steps: instead of the preset's
      tuning_steps: instead of the preset's
      baseline: also invert the single most frontal view, to compare; by default with quick only
      views_at_once: views rendered together; fewer need less memory
      rays_at_once: rays of a view rendered together; must divide their number
      identity: model_ir_se50.pth, whose face embeddings then join the losses; for generators of 256
        pixels or more
      crop: take the central square of frames that are not square
      resume: go on with an interrupted run
      overwrite: remove an earlier run from the folder
      seed: of all draws
    """

    frames: Path = DEMO
    generator: Path = EMBEDDED
    run: Path = Path("runs/demo")
    views: int = 7
    latents: int = 1
    regularise: tuple[Regularizer, ...] | None = None
    update: Literal["joint", "alternating"] = "joint"
    preset: Preset | None = None
    latent_steps: int | None = None
    latents_steps: int | None = None
    tuning_steps: int | None = None
    baseline: bool | None = None
    views_at_once: int | None = None
    rays_at_once: int | None = None
    identity: Path | None = None
    crop: bool = False
    resume: bool = False
    overwrite: bool = False
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run before it starts, its input checked.

    Attributes:
      generator, metadata: of the checkpoint.
      networks: that the losses look through.
      frames: all of them.
      methods: what is fitted and compared.
      config: schedules.
      settings: all that the result depends on.
    """

    generator: TriPlaneGenerator
    metadata: dict
    networks: FeatureNetworks
    frames: Frames
    methods: list[Method]
    config: InversionConfig
    settings: dict


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    progress, started = Progress(), time.perf_counter()
    with progress.task("reading generator and frames"):
        plan = prepare(args)
    frames = plan.frames
    create = partial(RunFolder.create, overwrite=args.overwrite, frames_folder=args.frames)
    open_run = RunFolder.resume if args.resume else create
    needed_bytes = disk_bytes(plan.generator, len(plan.methods))
    with open_run(args.run, plan.settings, needed_bytes=needed_bytes) as run:
        finished = fit_all(args, run, plan, progress)
        best = finished[-1]
        with progress.task("pictures, turntable and report"):
            labels = np.asarray(to_label(frames.cameras))[best.method.frames]
            save_result(run.result, best.fit.generator, best.fit.latents, labels, plan.metadata)
            compared = write_metrics(run, frames, finished)
            rows = write_pictures(run, frames, finished)
            write_turntable(run, best.fit)
            write_page(
                run, frames, finished, compared, rows,
                settings=plan.settings, seconds=progress.seconds,
            )  # fmt: skip
    for sentence in compared.sentences():
        progress.say(sentence)
    progress.say(f"{run.report}: open it in a browser ({time.perf_counter() - started:.0f} s)")


def prepare(args: Args) -> Plan:
    """Read and check everything that a run needs."""
    generator, metadata = load_generator(args.generator)
    networks = load_networks(generator.config.image_side, args.identity)
    frames = read_frames(args, generator)
    methods, config = plan_methods(args, frames), choose_config(args)
    return Plan(
        generator=generator,
        metadata=metadata,
        networks=networks,
        frames=frames,
        methods=methods,
        config=config,
        settings=describe(args, config, metadata, frames),
    )


def fit_all(args: Args, run: RunFolder, plan: Plan, progress: Progress) -> list[Finished]:
    """Fit and measure every method, from where an earlier run left it."""
    keep = steps_done(run.states, plan.methods) if args.resume else None
    with progress.task("statistics of the latent space"):
        statistics = mean_latent(plan.generator)
    with EventLog(run.path, TERMS, keep=keep) as log:
        fitter = Fitter(
            generator=plan.generator,
            networks=plan.networks,
            w_statistics=statistics,
            config=plan.config,
            folder=run.states,
            log=log,
            progress=progress,
            seed=args.seed,
            max_views=args.views,
        )
        fits: dict[str, Fit] = {}
        finished = []
        for method in plan.methods:
            start = None if method.start is None else fits[method.start.name]
            finished.append(finish(fitter, plan.frames, method, start))
            fits[method.name] = finished[-1].fit
        return finished


def read_frames(args: Args, generator: TriPlaneGenerator) -> Frames:
    """The frames, all checked."""
    return load_frames(
        args.frames,
        image_side=generator.config.image_side,
        crop=args.crop,
        min_frames=args.views,
        box_side=generator.config.render.box_warp,
        ray_range=ray_range(generator),
    )


def plan_methods(args: Args, frames: Frames) -> list[Method]:
    """What is fitted and compared."""
    baseline = choose_preset(args) == "quick" if args.baseline is None else args.baseline
    angles = np.asarray(azimuth(frames.cameras))
    return choose_methods(angles, views=args.views, latents=args.latents, baseline=baseline)


def choose_preset(args: Args) -> Preset:
    """The preset asked for, or the one that fits the generator."""
    return args.preset or ("quick" if args.generator == EMBEDDED else "paper")


def choose_config(args: Args) -> InversionConfig:
    """Schedules of the run."""
    try:
        return inversion_config(
            choose_preset(args),
            latent_steps=args.latent_steps,
            latents_steps=args.latents_steps,
            tuning_steps=args.tuning_steps,
            regularizers=args.regularise,
            update=args.update,
            views_at_once=args.views_at_once,
            rays_at_once=args.rays_at_once,
        )
    except ValueError as error:
        raise InputError(f"--latent-steps, --latents-steps or --tuning-steps: {error}") from None


def describe(args: Args, config: InversionConfig, metadata: dict, frames: Frames) -> dict:
    """All that the result depends on; a run is only resumed with the same."""
    labels = np.asarray(to_label(frames.cameras))
    return {
        "frames": args.frames.name,
        "frame_labels": states.fingerprint({"labels": labels}),
        "num_frames": len(frames),
        "generator": metadata["fingerprint"],
        "views": args.views,
        "latents": args.latents,
        "identity": None if args.identity is None else sha256(args.identity),
        "crop": args.crop,
        "seed": args.seed,
        "inversion": config,
    }


if __name__ == "__main__":
    with explained():
        compilation_cache.enable()
        main(tyro.cli(Args))
