"""Plan of a run: all inputs read and checked before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from convert_weights.pickle_reader import sha256
from eg3d_jax.cameras import azimuth
from eg3d_jax.errors import InputError
from eg3d_jax.generator import TriPlaneGenerator
from experiments.command import check_seed
from experiments.invert.args import (
    Args,
    check_names,
    check_numbers,
    check_rays,
    choose_config,
    choose_preset,
    printable,
)
from experiments.invert.processes import ALONE, Share
from experiments.invert.videos import find_videos, is_one_folder
from experiments.subjects import load_generator
from inversion.config import InversionConfig
from inversion.features.networks import load_networks
from inversion.frames.folder import (
    Frames,
    labels_fingerprint,
    load_frames,
    pictures_fingerprint,
    truth_fingerprint,
)
from inversion.methods import Method, choose_methods, place_knots
from inversion.objectives import FeatureNetworks
from inversion.pipeline import Video


@dataclass(frozen=True, kw_only=True)
class RunVideo(Video):
    """A video with checked frames, and its run.

    Attributes:
      frames: all of the video's.
      folder: of its frames.
      run: folder of its run.
      settings: all that the result depends on.
    """

    frames: Frames
    folder: Path
    run: Path
    settings: dict


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Videos of a run and what they share.

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
    videos: list[RunVideo]
    share: Share = ALONE
    several: bool = False
    names: tuple[str, ...] = ("",)
    refused: dict[str, str] = field(default_factory=dict)


def read_plan(args: Args, share: Share = ALONE) -> Plan:
    """Read and check all inputs of a run.

    Raises:
      InputError: if something cannot be used; of one video among several, it is noted instead.
    """
    check_seed(args.seed)
    generator, metadata = load_generator(args.generator)
    networks = load_networks(generator.config.image_side, args.identity)
    check_numbers(args)
    config = choose_config(args, args.generator)
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
    found = {printable(name): path for name, path in find_videos(args.frames).items()}
    for name in list(found)[share.number :: share.count]:
        try:
            videos.append(prepare_video(args, plan, name, found[name], args.run / name))
        except InputError as error:
            refused[name] = str(error)
    return replace(plan, videos=videos, names=tuple(found), refused=refused)


def prepare_video(args: Args, plan: Plan, name: str, folder: Path, run: Path) -> RunVideo:
    """Read and check one video, with what the plan holds for all."""
    check_names(folder, run)
    frames = load_frames(
        folder, plan.generator, crop=args.crop, min_frames=1 if name else args.views
    )
    methods = plan_methods(args, frames, plan.networks)
    settings = describe(args, plan, folder, frames, methods)
    return RunVideo(
        name=name, folder=folder, run=run, frames=frames, methods=methods, settings=settings
    )


def plan_methods(args: Args, frames: Frames, networks: FeatureNetworks) -> list[Method]:
    """Choose the methods that are fitted and compared."""
    baseline = (
        choose_preset(args, args.generator) == "quick" if args.baseline is None else args.baseline
    )
    angles = np.asarray(azimuth(frames.cameras))
    views = min(args.views, len(frames))
    latents = min(args.latents, views) if views < args.views else args.latents
    methods = choose_methods(angles, views=views, latents=latents, baseline=baseline)
    if args.knots == "change" and latents > 1:
        last = methods[-1]
        methods[-1] = place_knots(
            last, networks, Video(name="", frames=frames, methods=()).views(last)
        )
    return methods


def choose_refinement(args: Args) -> bool:
    """Decide whether labels are refined first: as asked for, or by the preset."""
    return (
        choose_preset(args, args.generator) == "paper"
        if args.refine_cameras is None
        else args.refine_cameras
    )


def describe(
    args: Args, plan: Plan, folder: Path, frames: Frames, methods: Sequence[Method]
) -> dict:
    """Settings on which the result depends; a run is only resumed with the same."""
    last = methods[-1]
    return {
        "frames": folder.name,
        "frame_labels": labels_fingerprint(frames),
        "frame_pictures": pictures_fingerprint(frames),
        "frame_truth": truth_fingerprint(frames),
        "num_frames": len(frames),
        "generator": plan.metadata["fingerprint"],
        "views": len(last.frames),
        "latents": 1 if last.knots is None else len(last.knots),
        "knots": None if last.knots is None else last.knots.tolist(),
        "identity": None if args.identity is None else sha256(args.identity),
        "crop": args.crop,
        "seed": args.seed,
        "inversion": plan.config,
    }
