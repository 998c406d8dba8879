"""Compare the ways to invert a head, as the paper's Table 1, its curve and its pictures do.

`python -m experiments.compare` inverts both demo heads by each method and measures all on every
frame; `--frames DIR1 DIR2 --generator DIR` does it for videos of your own. Every inversion is an
ordinary run, OUTPUT/runs/METHOD/HEAD. Stopped and started again, it goes on; finished runs are
kept. Several latents start from what 'multi-view' found, if that is among the methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from eg3d_jax.errors import InputError
from experiments import command
from experiments.compare.claims import DEPTH, DISTANCE, INTERPOLATION, ONE_LATENT, SEVERAL
from experiments.compare.files import FILES, MARK, Compared, write_comparison
from experiments.compare.jobs import Job, run_jobs
from experiments.evaluate import main as evaluate
from experiments.evaluate.files import Evaluated
from experiments.invert import main as invert
from experiments.invert.args import choose_preset
from experiments.invert.plan import RunVideo
from experiments.invert.videos import find_videos
from experiments.progress import Progress
from experiments.runs.output_folder import OutputFolder
from experiments.subjects import DEMO, EMBEDDED, load_generator
from inversion.config import PRESETS, Preset
from inversion.features.networks import load_networks

DEMOS = tuple(DEMO.parent / name for name in ("demo_a", "demo_b"))


@dataclass(frozen=True, kw_only=True)
class Args:
    """Invert heads by several methods and compare.

    Attributes:
      frames: folders of frames, one a head, or patterns and lists of them as in
        `experiments.invert`; the demo heads if not given
      generator: folder made by `python -m convert_weights`, or 'embedded': small heads
      output: folder for the tables, curves and pictures, and below it the runs
      methods: which of 'single view', 'multi-view', 'multi-latent', '+ distance',
        '+ interpolation', '+ depth' and '+ all'; those with a plus are several latents held
        together by that regulariser
      views: number of fitted frames, but for the single view
      latents: number of latents where interpolation takes part, and the other views see what lies
        between; elsewhere each view has its own, as in the paper
      preset: see `experiments.invert`
      latent_steps: instead of the preset's
      latents_steps: instead of the preset's
      tuning_steps: instead of the preset's
      views_per_step: as many for every method; instead of the preset's, or of two where that has
        one, for with interpolation a step sees a frame between the latents, too
      pixel_weight: instead of the preset's
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
    preset: Preset | None = None
    latent_steps: int | None = None
    latents_steps: int | None = None
    tuning_steps: int | None = None
    views_per_step: int | None = None
    pixel_weight: float | None = None
    identity: Path | None = None
    crop: bool = False
    seed: int = 0


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    progress = Progress()
    jobs = jobs_of(args)
    # Made of the runs alone, so that an earlier call's files may always be replaced.
    output = OutputFolder(args.output, MARK, FILES, overwrite=True)
    if args.identity is not None:  # looked through at the end, and refused now if it cannot be
        load_networks(load_generator(args.generator)[0].config.image_side, args.identity)
    planned = run_jobs(jobs, ONE_LATENT, progress)
    heads = planned[next(iter(jobs))]
    videos = {(head, method): planned[method][head] for head in heads for method in jobs}
    compared = Compared(
        heads=tuple(heads),
        methods=tuple(jobs),
        evaluated={key: measure(video, args, progress) for key, video in videos.items()},
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
    ways = method_settings(args)
    unknown = [method for method in args.methods if method not in ways]
    if unknown or not args.methods or len(set(args.methods)) < len(args.methods):
        problem = f"{unknown[0]!r} is unknown" if unknown else "name each once, and one at least"
        raise InputError(f"--methods: {problem}; there are {', '.join(ways)}")
    heads = find_videos(args.frames)
    views_per_step = choose_views_per_step(args)
    jobs = {}
    for method in (method for method in ways if method in args.methods):
        home = args.output / "runs" / _folder_name(method)
        runs = {head: home / head for head in heads}
        jobs[method] = Job(
            args=invert.Args(
                frames=tuple(heads.values()),
                generator=args.generator,
                run=home if len(heads) > 1 else next(iter(runs.values())),
                preset=args.preset,
                latent_steps=args.latent_steps,
                latents_steps=args.latents_steps,
                tuning_steps=args.tuning_steps,
                views_per_step=views_per_step,
                pixel_weight=args.pixel_weight,
                baseline=False,
                refine_cameras=False,  # all methods see the frames from the same cameras
                crop=args.crop,
                seed=args.seed,
                **ways[method],
            ),
            runs=runs,
        )
    return jobs


def method_settings(args: Args) -> dict[str, dict]:
    """By name, in what the methods differ (spec inversion 5.1); all see the same views."""
    each = {"views": args.views, "latents": args.views}
    fewer = {"views": args.views, "latents": args.latents}
    return {
        "single view": {"views": 1},
        ONE_LATENT: {"views": args.views},
        SEVERAL: {**each, "regularise": ()},
        DISTANCE: {**each, "regularise": ("distance",)},
        INTERPOLATION: {**fewer, "regularise": ("interpolation",)},
        DEPTH: {**each, "regularise": ("depth",)},
        "+ all": {**fewer, "regularise": None},
    }


def choose_views_per_step(args: Args) -> int | None:
    """As asked for, or the preset's, but two where that has one: interpolation needs as many."""
    if args.views_per_step is not None:
        return args.views_per_step
    preset = choose_preset(invert.Args(preset=args.preset), args.generator)
    drawn = PRESETS[preset]().views_per_step
    return 2 if drawn == 1 else drawn


def measure(video: RunVideo, args: Args, progress: Progress) -> Evaluated:
    """Measure a finished run on all its frames."""
    settings = evaluate.Args(identity=args.identity, frames=video.folder, crop=args.crop)
    with progress.task(f"measuring {video.run}"):
        return evaluate.evaluate(evaluate.prepare(video.run, settings), settings)


def _folder_name(method: str) -> str:
    return method.replace("+ ", "with ").replace(" ", "_")


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.compare", prog=prog)
