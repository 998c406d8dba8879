"""Plan of a run: all inputs read and checked before it starts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from eg3d_jax.errors import InputError
from eg3d_jax.folders import sha256
from eg3d_jax.generator import TriPlaneGenerator
from experiments.command import check_seed
from experiments.invert.args import (
    Args,
    check_names,
    check_numbers,
    check_rays,
    choose_config,
    choose_preset,
    cluster_of,
    printable,
)
from experiments.invert.videos import find_videos, is_one_folder
from experiments.prepare.folder import prepared_world
from experiments.subjects import load_generator
from inversion.cluster import Cluster
from inversion.config import InversionConfig
from inversion.features.networks import load_networks
from inversion.fitting.memory import Resources
from inversion.frames.folder import (
    Frames,
    labels_fingerprint,
    load_frames,
    pictures_fingerprint,
    truth_fingerprint,
)
from inversion.methods import Method
from inversion.objectives import FeatureNetworks
from inversion.pipeline import Video, plan_methods
from inversion.units import world_of
from inversion.warm_start import Start, start_of


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What is chosen for a run, beside its frames and the generator.

    Attributes:
      run: output folder; of several videos, of their run folders and the summary.
      config: schedules, weights, number of latents.
      views: number of frames to fit; of several videos, those with fewer take all they have.
      baseline: whether the single most frontal view is inverted as well, to compare.
      crop: whether the central square of frames is taken that are not square.
      refine: whether the frames' camera labels are refined first.
      seed: of all draws.
      resources: how much is worked on at once.
      save_steps: from one saved state to the next.
      resume: whether an interrupted run goes on.
      overwrite: whether an earlier run is removed.
      again: how the user continues an interrupted run, in words.
      cluster: whose workers invert several videos; None for this process.
      url: where the run is kept, of which `run` is this process's copy; None where it is itself.
    """

    run: Path
    config: InversionConfig
    views: int
    baseline: bool = False
    crop: bool = False
    refine: bool = False
    seed: int = 0
    resources: Resources = Resources()
    save_steps: int = 50
    resume: bool = False
    overwrite: bool = False
    again: str = "--resume"
    cluster: Cluster | None = None
    url: str | None = None


def options_of(args: Args, url: str | None = None) -> RunOptions:
    """What the command is told; what the preset decides is decided.

    Args:
      args: of the command.
      url: where the run is kept, if not in the folder that they name.

    Raises:
      InputError: naming the option whose value cannot be.
    """
    check_numbers(args)
    quick = choose_preset(args, args.generator) == "quick"
    return RunOptions(
        run=args.run,
        config=choose_config(args, args.generator),
        views=args.views,
        baseline=quick and args.start_from is None if args.baseline is None else args.baseline,
        crop=args.crop,
        refine=not quick if args.refine_cameras is None else args.refine_cameras,
        seed=args.seed,
        resources=Resources(
            videos_at_once=args.videos_at_once,
            memory_budget=None if args.memory_budget is None else 1e9 * args.memory_budget,
        ),
        save_steps=args.save_steps,
        resume=args.resume,
        overwrite=args.overwrite and not args.resume,  # nothing of what will go on
        cluster=cluster_of(args),
        url=url,
    )


@dataclass(frozen=True, kw_only=True)
class Models:
    """The networks of a run, read once for all its videos.

    Attributes:
      generator: as loaded, with its `origin`.
      folder: of its checkpoint, or 'embedded'.
      networks: that the losses look through.
      identity: SHA-256 of the file of the network of faces; None if there is none.
      start: latents that all videos start from; None for the mean latent.
      start_file: SHA-256 of their file.
    """

    generator: TriPlaneGenerator
    folder: Path
    networks: FeatureNetworks
    identity: str | None = None
    start: Start | None = None
    start_file: str | None = None


def load_models(
    folder: Path, identity: Path | None = None, start_from: Path | None = None
) -> Models:
    """Read a generator, networks for its size, and latents to start from.

    Args:
      folder: of the generator's checkpoint, or 'embedded'.
      identity: file of a network of faces.
      start_from: file of latents.

    Raises:
      InputError: if one cannot be read or used.
    """
    generator = load_generator(folder)
    start = None if start_from is None else start_of(start_from, generator)
    return Models(
        generator=generator,
        folder=folder,
        networks=load_networks(generator.config.image_side, identity),
        identity=None if identity is None else sha256(identity),
        start=start,
        start_file=None if start_from is None else sha256(start_from),
    )


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
      options: what was chosen.
      models: generator and networks.
      videos: to be inverted.
      several: whether the run is of several videos, in a folder each.
      names: of all videos, refused ones among them.
      refused: why some videos cannot be, by name.
    """

    options: RunOptions
    models: Models
    videos: list[RunVideo]
    several: bool = False
    names: tuple[str, ...] = ("",)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def page(self) -> Path:
        """Where a browser shows the results."""
        return self.options.run / ("index.html" if self.several else "report.html")


def read_plan(args: Args, url: str | None = None) -> Plan:
    """The plan of what the command is told; see `options_of` and `make_plan`."""
    options = options_of(args, url)
    models = load_models(args.generator, args.identity, args.start_from)
    return make_plan(args.frames, options, models)


def make_plan(sources: Sequence[Path], options: RunOptions, models: Models) -> Plan:
    """Read and check all frames that a run needs.

    Args:
      sources: folders of frames, patterns and lists of them; see `find_videos`.
      options: of the run.
      models: that it uses.

    Raises:
      InputError: if something cannot be used; of one video among several, it is noted instead.
    """
    check_seed(options.seed)
    check_rays(options.config, models.generator.config.neural_side)
    several = not is_one_folder(sources)
    plan = Plan(options=options, models=models, videos=[], several=several)
    if not several:
        if options.cluster is not None:
            raise InputError(
                "--cluster shares several videos among workers, and --frames names one; name "
                "several, or leave --cluster out"
            )
        return replace(plan, videos=[prepare_video(plan, "", sources[0], options.run)])
    videos, refused = [], {}
    found = {printable(name): path for name, path in find_videos(sources).items()}
    for name, path in found.items():
        try:
            videos.append(prepare_video(plan, name, path, options.run / name))
        except InputError as error:
            refused[name] = str(error)
    return replace(plan, videos=videos, names=tuple(found), refused=refused)


def prepare_video(plan: Plan, name: str, folder: Path, run: Path) -> RunVideo:
    """The same for one video, of what the plan says of all."""
    check_names(folder, run)
    options, models = plan.options, plan.models
    frames = load_frames(
        folder, models.generator, crop=options.crop, min_frames=1 if name else options.views
    )
    world = world_of(models.generator.origin.metadata)
    if prepared_world(folder) not in (world, None):
        warnings.warn(
            f"{folder} was prepared for a generator whose heads lie otherwise, so that this one's "
            f"will be deformed; prepare it by --world {world}",
            stacklevel=2,
        )
    methods = plan_methods(
        frames, options.config, models.networks, views=options.views, baseline=options.baseline,
        start=models.start,
    )  # fmt: skip
    settings = describe(plan, folder, frames, methods)
    return RunVideo(
        name=name, folder=folder, run=run, frames=frames, methods=methods, settings=settings,
        start=models.start, most_views=options.views if name else 0,
    )  # fmt: skip


def describe(plan: Plan, folder: Path, frames: Frames, methods: Sequence[Method]) -> dict:
    """All that the result depends on; a run is only resumed with the same."""
    last = methods[-1]
    return {
        "frames": folder.name,
        "frame_labels": labels_fingerprint(frames),
        "frame_pictures": pictures_fingerprint(frames),
        "frame_truth": truth_fingerprint(frames),
        "num_frames": len(frames),
        "generator": plan.models.generator.origin.metadata["fingerprint"],
        "views": len(last.frames),
        "latents": 1 if last.knots is None else len(last.knots),
        "knots": None if last.knots is None else last.knots.tolist(),
        "identity": plan.models.identity,
        "start_from": plan.models.start_file,
        "crop": plan.options.crop,
        "seed": plan.options.seed,
        "inversion": plan.options.config,
    }
