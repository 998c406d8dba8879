"""Options of `python -m experiments.invert`, and their checks."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eg3d_jax.errors import InputError
from experiments.subjects import DEMO, EMBEDDED
from inversion.cluster import Cluster
from inversion.config import (
    PRESETS,
    InversionConfig,
    LatentSpace,
    Preset,
    Regularizer,
    Update,
    changed,
)


def sets(field: str, default: Any = None) -> Any:
    """Declare an option for a field of `InversionConfig`, by dotted name; None leaves the field."""
    return dataclasses.field(default=default, metadata={"sets": field})


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long is fitted, and to what.

    Attributes:
      preset: 'paper' or 'quick'; quick for the embedded generator, paper for others, if not given
      latent_steps: instead of the preset's
      latents_steps: instead of the preset's
      tuning_steps: instead of the preset's
      views_per_step: how many of the fitted views a step draws at random; with interpolation half
        of them between the latents, but one of each at least. Instead of the preset's (quick 1,
        paper all)
      pixel_weight: of the mean squared difference beside LPIPS, whose weight is 1; instead of the
        preset's (quick 3, paper 0.1)
    """

    preset: Preset | None = None
    latent_steps: int | None = sets("latent.num_steps")
    latents_steps: int | None = sets("latents.num_steps")
    tuning_steps: int | None = sets("tuning.num_steps")
    views_per_step: int | None = sets("views_per_step")
    pixel_weight: float | None = sets("weights.pixel")


@dataclass(frozen=True, kw_only=True)
class Args(Schedule):
    """Fit one latent and a tuned generator to several views of a head, or of each of several.

    Attributes:
      frames: folder of square frames with EG3D's dataset.json; the demo head if not given. Several
        folders, a pattern in quotes or a .txt file with one folder a line invert them all. Raw
        videos, photos and folders of them without a dataset.json are prepared first, in
        RUN_footage, by `experiments.prepare`
      generator: folder or .safetensors file made by `python -m convert_weights`, or 'embedded':
        small heads
      run: output folder; of several videos, of their run folders and the summary
      views: number of frames to fit, evenly spaced in yaw; of several videos, those with fewer
        frames take all they have
      latents: number of latents; with more than one, that many of the views get one each, and the
        others see what lies between
      regularise: what holds several latents together, of distance, interpolation and depth; all
        three if the option is left out, none if it is given without a name
      knots: which views get a latent of several, spread evenly in yaw, or by how much neighbours
        look different
      update: joint, one step along the sum of all terms; or alternating as the authors do, a step
        for the views, one for depth, one for the frames between
      latent_space: w+ with a latent for each layer, or w with one for all
      fit_noise_maps: fit the backbone's noise maps with the first latent; for generators trained
        with random noise, as the official ones. The embedded one knows only its own maps, and loses
      target_lpips: end a stage once the LPIPS of its last 20 steps is no larger
      mask_background: look at the person alone: pixels outside the frames' masks take no part in
        the losses. Footage gets masks by itself; prepared frames have them after `prepare --mask`
      baseline: also invert the single most frontal view, to compare; by default with quick only,
        and not with --start-from
      videos_at_once: videos fitted together on a device; 1 on a CPU and up to 8 elsewhere, if not
        given. In tuning each device takes one at a time
      memory_budget: of each device, GB; all there is if not given. Fewer videos, views and rays at
        once are taken until the steps fit
      views_at_once: views rendered together; fewer need less memory. A resumed run may take another
        number of them, or of rays, and then rounds differently
      rays_at_once: rays of a view rendered together; must divide their number
      start_from: file of latents to start from instead of the mean latent: an earlier run's
        result/latents.npz, an npz of the authors' code, or one latent as npz, npy or .pt. Several
        latents each start from the one that it has at their yaw, and no single one is fitted before
      identity: model_ir_se50.pth, whose face embeddings then join the losses; for generators of 256
        pixels or more
      refine_cameras: refine the frames' camera labels first, by `experiments.refine_cameras`, in a
        copy beside the run, RUN_frames; by default with paper and of raw videos and photos, for
        labels of real footage are estimates
      crop: take the central square of frames that are not square
      save_steps: steps from one saved state to the next
      resume: go on with an interrupted run, of the same frames and with the same settings
      overwrite: remove an earlier run from the folder; not if it is resumed
      cluster: invert several videos by the workers of a Ray cluster: HOST:PORT of its head or, for
        the one that this machine is of and else for its own cores and GPUs, auto
      workers: at most so many; as many as there is room for, if not given
      gpus_per_worker: a fraction shares a GPU; one if the cluster has any and else none, if not
        given
      cores_per_worker: cores of each worker
      seed: of all draws
    """

    frames: tuple[Path, ...] = (DEMO,)
    generator: Path = EMBEDDED
    run: Path = Path("runs/demo")
    views: int = 7
    latents: int = sets("num_latents", 1)
    regularise: tuple[Regularizer, ...] | None = sets("regularizers")
    knots: Literal["even", "change"] = sets("knots", "even")
    update: Update = sets("update", "joint")
    latent_space: LatentSpace = sets("latent_space", "w+")
    fit_noise_maps: bool = sets("fit_noise_maps", False)
    target_lpips: float | None = sets("target_lpips")
    mask_background: bool = sets("mask_background", False)
    baseline: bool | None = None
    videos_at_once: int | None = None
    memory_budget: float | None = None
    views_at_once: int | None = sets("views_at_once")
    rays_at_once: int | None = sets("rays_at_once")
    start_from: Path | None = None
    identity: Path | None = None
    refine_cameras: bool | None = None
    crop: bool = False
    save_steps: int = 50
    resume: bool = False
    overwrite: bool = False
    cluster: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None
    cores_per_worker: int | None = None
    seed: int = 0


def choose_preset(args: Schedule, generator: Path) -> Preset:
    """Choose the preset asked for, or the one that fits the generator."""
    return args.preset or ("quick" if generator == EMBEDDED else "paper")


def choose_config(args: Schedule, generator: Path) -> InversionConfig:
    """Change the preset by the options given.

    Raises:
      InputError: naming the option whose value cannot be.
    """
    if args.views_per_step is not None and args.views_per_step < 1:
        raise InputError(f"--views-per-step {args.views_per_step} must be at least 1")
    if args.pixel_weight is not None and not 0 <= args.pixel_weight < math.inf:
        raise InputError(f"--pixel-weight {args.pixel_weight} must be 0 or a positive number")
    config = PRESETS[choose_preset(args, generator)]()
    for field in dataclasses.fields(args):
        value, name = getattr(args, field.name), field.metadata.get("sets")
        if name is None or value is None:
            continue
        try:
            config = changed(config, {name: value})
        except ValueError as error:
            raise InputError(f"--{field.name.replace('_', '-')}: {error}") from None
    return config


def check_numbers(args: Args) -> None:
    """Refuse numbers out of range, but those of the schedule.

    Raises:
      InputError: naming the option.
    """
    for name in ("videos_at_once", "views_at_once", "rays_at_once", "save_steps"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} {value} must be at least 1")
    if args.target_lpips is not None and not args.target_lpips > 0:
        raise InputError(f"--target-lpips {args.target_lpips} must be positive")
    if args.memory_budget is not None and not args.memory_budget > 0:
        raise InputError(f"--memory-budget {args.memory_budget} must be positive, in GB")


def cluster_of(args: Args) -> Cluster | None:
    """The cluster that the options describe; None if they name none.

    Raises:
      InputError: naming the option whose value cannot be.
    """
    cluster = Cluster()
    for option, (name, value) in {
        "--cluster": ("address", args.cluster),
        "--workers": ("workers", args.workers),
        "--gpus-per-worker": ("gpus", args.gpus_per_worker),
        "--cores-per-worker": ("cores", args.cores_per_worker),
    }.items():
        if value is None:
            continue
        if args.cluster is None:
            raise InputError(f"{option} {value} is of a cluster; name it by --cluster, or 'auto'")
        try:
            cluster = dataclasses.replace(cluster, **{name: value})
        except InputError as error:
            raise InputError(f"{option}: {error}") from None
    return None if args.cluster is None else cluster


def check_rays(config: InversionConfig, neural_side: int) -> None:
    """Refuse chunks of rays that do not divide a view's picture, or the depths compared.

    Raises:
      InputError: naming the option.
    """
    several = config.num_latents > 1
    compared = config.depth_side if several and "depth" in config.regularizers else None
    for side in (neural_side, compared or neural_side):
        chunk = config.rays_at_once or side * side
        if chunk < side * side and side * side % chunk:
            fewer = max(n for n in range(1, chunk) if side * side % n == 0)
            raise InputError(
                f"--rays-at-once {chunk} must divide the {side * side} rays of a view, as {fewer} "
                "does"
            )


def printable(name: object) -> str:
    """Convert a name of any bytes to text that can be written."""
    return str(name).encode(errors="backslashreplace").decode()


def check_names(*paths: Path) -> None:
    """Refuse paths that neither a page nor a saved state can name.

    Raises:
      InputError: naming the first.
    """
    for path in paths:
        if printable(path) != str(path):
            raise InputError(f"{printable(path)} is not named in UTF-8; rename it")
