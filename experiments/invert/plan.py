"""A run before it starts: everything that it needs, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from convert_weights.pickle_reader import sha256
from eg3d_jax.cameras import azimuth
from eg3d_jax.errors import InputError
from eg3d_jax.generator import TriPlaneGenerator, ray_range
from experiments.command import check_seed
from experiments.invert.args import Args, as_text, check_names, check_numbers, check_rays
from experiments.invert.processes import ALONE, Share
from experiments.invert.videos import find_videos, is_one_folder
from experiments.subjects import EMBEDDED, load_generator
from inversion.config import InversionConfig, Preset, inversion_config
from inversion.features.lpips import Lpips
from inversion.features.networks import load_networks
from inversion.frames.folder import (
    Frames,
    labels_fingerprint,
    load_frames,
    pictures_fingerprint,
    truth_fingerprint,
)
from inversion.methods import Method, change_along, choose_methods
from inversion.objectives import FeatureNetworks
from inversion.views import select_along


@dataclass(frozen=True, kw_only=True)
class Video:
    """One video, its frames checked.

    Attributes:
      name: of the video; empty if it is the only one.
      folder: of its frames.
      run: folder of its run.
      frames: all of them.
      methods: what is fitted and compared.
      settings: all that the result depends on.
    """

    name: str
    folder: Path
    run: Path
    frames: Frames
    methods: list[Method]
    settings: dict

    @property
    def shape(self) -> tuple:
        """Equal for videos that can be fitted together."""
        each = [(len(m.frames), 0 if m.knots is None else len(m.knots)) for m in self.methods]
        return tuple(each)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All videos of a run and what they share.

    Attributes:
      generator: as loaded.
      metadata: of its checkpoint.
      networks: that the losses look through.
      config: schedules.
      videos: to be inverted, by this process if there are several.
      share: which of several processes this one is.
      several: whether the run is of several videos, in a folder each.
      names: of all videos, other processes' and refused ones among them.
      refused: why some videos cannot be, by name.
    """

    generator: TriPlaneGenerator
    metadata: dict
    networks: FeatureNetworks
    config: InversionConfig
    videos: list[Video]
    share: Share = ALONE
    several: bool = False
    names: tuple[str, ...] = ("",)
    refused: dict[str, str] = field(default_factory=dict)


def prepare(args: Args, share: Share = ALONE) -> Plan:
    """Read and check everything that a run needs.

    Raises:
      InputError: if something cannot be used; of one video among several, it is noted instead.
    """
    check_seed(args.seed)
    generator, metadata = load_generator(args.generator)
    networks = load_networks(generator.config.image_side, args.identity)
    check_numbers(args)
    config = choose_config(args)
    check_rays(args, config, generator.config.neural_side)
    plan = Plan(
        generator=generator,
        metadata=metadata,
        networks=networks,
        config=config,
        videos=[],
        share=share,
        several=not is_one_folder(args.frames),
    )
    if not plan.several:
        if share.count > 1:
            raise InputError(f"{share.count} processes cannot share one video; name several")
        return replace(plan, videos=[prepare_video(args, plan, "", args.frames[0], args.run)])
    videos, refused = [], {}
    found = {as_text(name): path for name, path in find_videos(args.frames).items()}
    for name in list(found)[share.number :: share.count]:
        try:
            videos.append(prepare_video(args, plan, name, found[name], args.run / name))
        except InputError as error:
            refused[name] = str(error)
    return replace(plan, videos=videos, names=tuple(found), refused=refused)


def prepare_video(args: Args, plan: Plan, name: str, folder: Path, run: Path) -> Video:
    """The same for one video, of what the plan says of all."""
    check_names(folder, run)
    generator = plan.generator
    frames = load_frames(
        folder,
        image_side=generator.config.image_side,
        crop=args.crop,
        min_frames=1 if name else args.views,
        box_side=generator.config.render.box_warp,
        ray_range=ray_range(generator),
    )
    methods = plan_methods(args, frames, plan.networks.lpips)
    settings = describe(args, plan.config, plan.metadata, folder, frames, methods)
    return Video(
        name=name, folder=folder, run=run, frames=frames, methods=methods, settings=settings
    )


def plan_methods(args: Args, frames: Frames, lpips: Lpips) -> list[Method]:
    """What is fitted and compared."""
    baseline = choose_preset(args) == "quick" if args.baseline is None else args.baseline
    angles = np.asarray(azimuth(frames.cameras))
    views = min(args.views, len(frames))
    latents = min(args.latents, views) if views < args.views else args.latents
    methods = choose_methods(angles, views=views, latents=latents, baseline=baseline)
    if args.knots == "change" and latents > 1:
        changed = change_along(lpips, frames, methods[-1].frames)
        methods[-1] = replace(methods[-1], knots=select_along(changed, latents))
    return methods


def batches(videos: Sequence[Video], size: int) -> list[list[Video]]:
    """Videos to be fitted together: of one shape, at most `size`, of as equal sizes as can be."""
    shapes = list(dict.fromkeys(video.shape for video in videos))
    found = []
    for shape in shapes:
        alike = [video for video in videos if video.shape == shape]
        count = -(-len(alike) // size)
        found += [alike[i * len(alike) // count : (i + 1) * len(alike) // count]
                  for i in range(count)]  # fmt: skip
    return found


def choose_preset(args: Args) -> Preset:
    """The preset asked for, or the one that fits the generator."""
    return args.preset or ("quick" if args.generator == EMBEDDED else "paper")


def choose_refinement(args: Args) -> bool:
    """Whether labels are refined first: as asked for, or with the preset for real footage."""
    return choose_preset(args) == "paper" if args.refine_cameras is None else args.refine_cameras


def choose_config(args: Args) -> InversionConfig:
    """Schedules of the run."""
    try:
        return inversion_config(
            choose_preset(args),
            latent_steps=args.latent_steps,
            latents_steps=args.latents_steps,
            tuning_steps=args.tuning_steps,
            pixel_weight=args.pixel_weight,
            regularizers=args.regularise,
            update=args.update,
            views_per_step=args.views_per_step,
            views_at_once=args.views_at_once,
            rays_at_once=args.rays_at_once,
            latent_space=args.latent_space,
            fit_noise_maps=args.fit_noise_maps,
            target_lpips=args.target_lpips,
        )
    except ValueError as error:
        raise InputError(f"--latent-steps, --latents-steps or --tuning-steps: {error}") from None


def describe(
    args: Args,
    config: InversionConfig,
    metadata: dict,
    folder: Path,
    frames: Frames,
    methods: Sequence[Method],
) -> dict:
    """All that the result depends on; a run is only resumed with the same."""
    last = methods[-1]
    return {
        "frames": folder.name,
        "frame_labels": labels_fingerprint(frames),
        "frame_pictures": pictures_fingerprint(frames),
        "frame_truth": truth_fingerprint(frames),
        "num_frames": len(frames),
        "generator": metadata["fingerprint"],
        "views": len(last.frames),
        "latents": 1 if last.knots is None else len(last.knots),
        "knots": None if last.knots is None else last.knots.tolist(),
        "identity": None if args.identity is None else sha256(args.identity),
        "crop": args.crop,
        "seed": args.seed,
        "inversion": config,
    }
