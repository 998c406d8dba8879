"""Compare the ways to invert a head, as the paper's Table 1, its curve and its pictures do.

`python -m experiments.compare` inverts both demo heads by each method and measures all on every
frame; `--frames DIR1 DIR2 --generator DIR` does it for videos of your own. Every inversion is an
ordinary run, OUTPUT/runs/METHOD/HEAD. Stopped and started again, it goes on; finished runs are
kept. Several latents start from what 'multi-view' found, if that is among the methods.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from eg3d_jax.errors import InputError
from experiments import command
from experiments.compare.claims import DEPTH, DISTANCE, INTERPOLATION, ONE_LATENT, SEVERAL
from experiments.compare.files import FILES, MARK, Compared, write_comparison
from experiments.compare.jobs import Job, run_jobs
from experiments.evaluate.files import Evaluated
from experiments.invert.args import Schedule, choose_config
from experiments.invert.plan import RunOptions, RunVideo, load_models
from experiments.invert.videos import find_videos
from experiments.progress import Progress
from experiments.runs.output_folder import OutputFolder
from experiments.subjects import DEMO, EMBEDDED
from inversion.config import InversionConfig
from inversion.features.networks import load_networks
from inversion.result import load

DEMOS = tuple(DEMO.parent / name for name in ("demo_a", "demo_b"))


@dataclass(frozen=True, kw_only=True)
class Args(Schedule):
    """Invert heads by several methods and compare.

    Every method draws as many views a step: two where the preset has one, for with interpolation a
    step sees a frame between the latents, too.

    Attributes:
      frames: folders of frames, one a head, or patterns and lists of them as `eg3d-jax invert`
        takes them; the demo heads if not given
      generator: folder or .safetensors file made by `python -m convert_weights`, or 'embedded':
        small heads
      output: folder for the tables, curves and pictures, and below it the runs
      methods: of 'single view', 'multi-view', 'multi-latent' and, with several latents that a
        regulariser holds together, '+ distance', '+ interpolation', '+ depth' and '+ all', which
        are wanted
      views: number of fitted frames, but for the single view
      latents: number of latents where interpolation takes part, and the other views see what lies
        between; elsewhere each view has its own, as in the paper
      identity: a network of faces for the metric, as in `experiments.evaluate`
      crop: take the central square of frames that are not square
      seed: of all draws
    """

    frames: tuple[Path, ...] = DEMOS
    generator: Path = EMBEDDED
    output: Path = Path("runs/compare")
    methods: tuple[str, ...] = (
        "single view",
        "multi-view",
        "multi-latent",
        "+ distance",
        "+ interpolation",
        "+ depth",
        "+ all",
    )
    views: int = 7
    latents: int = 4
    identity: Path | None = None
    crop: bool = False
    seed: int = 0


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    progress = Progress()
    jobs = jobs_of(args)
    # Made of the runs alone, so that an earlier call's files may always be replaced.
    output = OutputFolder(args.output, MARK, FILES, overwrite=True)
    models = load_models(args.generator)
    # Looked through at the end, and refused now if it cannot be.
    networks = load_networks(models.generator.config.image_side, args.identity)
    planned = run_jobs(jobs, models, progress)
    heads = planned[next(iter(jobs))]
    videos = {(head, method): planned[method][head] for head in heads for method in jobs}

    def measure(video: RunVideo) -> Evaluated:
        with progress.task(f"measuring {video.run}"):
            result = load(video.run / "result")
            return Evaluated.of_run(video.run, result, video.frames, networks, args.identity)

    compared = Compared(
        heads=tuple(heads),
        methods=tuple(jobs),
        evaluated={key: measure(video) for key, video in videos.items()},
        runs={key: video.run for key, video in videos.items()},
        frames={head: video.frames for head, video in heads.items()},
    )
    with progress.task("tables, curves and pictures"), output.writing() as staging:
        write_comparison(staging, compared)
    progress.say(compared.text())
    progress.say(f"{args.output}: {', '.join(FILES)}")


def jobs_of(args: Args) -> dict[str, Job]:
    """What is inverted, by method in the usual order.

    Raises:
      InputError: if a method is unknown or named twice, or there are no heads; see `find_videos`.
    """
    config = shared_config(args)
    ways = methods_of(args)
    unknown = [method for method in args.methods if method not in ways]
    if unknown or not args.methods or len(set(args.methods)) < len(args.methods):
        problem = f"{unknown[0]!r} is unknown" if unknown else "name each once, and one at least"
        raise InputError(f"--methods: {problem}; there are {', '.join(ways)}")
    heads = find_videos(args.frames)
    jobs = {}
    for method in (method for method in ways if method in args.methods):
        home = args.output / "runs" / _folder_name(method)
        runs = {head: home / head for head in heads}
        views, changes = ways[method]
        several = changes.get("num_latents", 1) > 1
        jobs[method] = Job(
            frames=tuple(heads.values()),
            runs=runs,
            options=RunOptions(
                run=home if len(heads) > 1 else next(iter(runs.values())),
                config=replace(config, **changes),
                views=views,
                crop=args.crop,
                seed=args.seed,
            ),
            start=ONE_LATENT if several and ONE_LATENT in args.methods else None,
        )
    return jobs


def methods_of(args: Args) -> dict[str, tuple[int, dict[str, Any]]]:
    """By name, in what the methods differ (spec inversion 5.1): views, and the configuration."""
    each, fewer = {"num_latents": args.views}, {"num_latents": args.latents}
    return {
        "single view": (1, {}),
        ONE_LATENT: (args.views, {}),
        SEVERAL: (args.views, {**each, "regularizers": ()}),
        DISTANCE: (args.views, {**each, "regularizers": ("distance",)}),
        INTERPOLATION: (args.views, {**fewer, "regularizers": ("interpolation",)}),
        DEPTH: (args.views, {**each, "regularizers": ("depth",)}),
        "+ all": (args.views, fewer),
    }


def shared_config(args: Args) -> InversionConfig:
    """What all methods have in common.

    Raises:
      InputError: naming the option whose value cannot be.
    """
    for name in ("views", "latents"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} {getattr(args, name)} must be at least 1")
    config = choose_config(args, args.generator)
    if args.views_per_step is None and config.views_per_step == 1:
        return replace(config, views_per_step=2)  # interpolation needs as many
    return config


def _folder_name(method: str) -> str:
    return method.replace("+ ", "with ").replace(" ", "_")


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.compare", prog=prog)
