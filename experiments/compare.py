"""Compare the ways to invert a head, as the paper's Table 1, its curve and its pictures do.

`python -m experiments.compare` inverts both demo heads by each method and measures all on every
frame; `--frames DIR1 DIR2 --generator DIR` does it for videos of your own. Every inversion is an
ordinary run, OUTPUT/runs/METHOD/HEAD. Stopped and started again, it goes on; finished runs are
kept. Several latents start from what 'multi-view' found, if that is among the methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments import compilation_cache, evaluate, invert, output_folder
from experiments.compare_files import FILES, MARK, Compared, write_comparison
from experiments.compare_jobs import Job, invert_all, run_state, start_from, videos_of
from experiments.disk import check_writable
from experiments.errors import InputError, explained
from experiments.evaluation_files import Evaluated
from experiments.generators import EMBEDDED
from experiments.presets import Preset
from experiments.progress import Progress

_ONE_LATENT = "multi-view"
DEMOS = tuple(invert.DEMO.parent / name for name in ("demo_a", "demo_b"))


@dataclass(frozen=True, kw_only=True)
class Args:
    """Invert heads by several methods and compare.

    Attributes:
      frames: folders of frames, one a head; the demo heads if not given
      generator: folder made by `python -m convert_weights`; the embedded heads if not given
      output: folder for the tables, curves and pictures, and below it the runs
      methods: which of 'single view', 'multi-view', 'multi-latent', '+ distance',
        '+ interpolation', '+ depth' and '+ all'; those with a plus are several latents held
        together by that regulariser
      views: number of fitted frames, but for the single view
      latents: number of latents, where there are several
      preset: see `experiments.invert`
      latent_steps: instead of the preset's
      latents_steps: instead of the preset's
      tuning_steps: instead of the preset's
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
    identity: Path | None = None
    crop: bool = False
    seed: int = 0


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    progress = Progress()
    with progress.task("checking heads and methods"):
        jobs = jobs_of(args)
        check_writable(args.output, option="--output")
        planned = {method: videos_of(job) for method, job in jobs.items()}
    for number, (method, job) in enumerate(jobs.items()):
        states = {head: run_state(video) for head, video in planned[method].items()}
        shown = ", ".join(f"{head} {state}" for head, state in states.items())
        progress.say(f"{number + 1} of {len(jobs)}: {method} ({shown})")
        if set(states.values()) == {"finished"}:
            continue
        if job.several_latents and _ONE_LATENT in jobs:
            for head, video in planned[method].items():
                if states[head] == "new":
                    start_from(video, planned[_ONE_LATENT][head].run)
        invert_all(job, planned[method])
    compared = Compared(
        heads=tuple(_names(args.frames)),
        methods=tuple(jobs),
        evaluated={
            (head, method): measure(run, folder, args, progress)
            for method, job in jobs.items()
            for (head, run), folder in zip(job.runs.items(), args.frames, strict=True)
        },
        runs={
            (head, method): run for method, job in jobs.items() for head, run in job.runs.items()
        },
        frames={head: video.frames for head, video in planned[next(iter(jobs))].items()},
    )
    # Made of the runs alone, so that an earlier call's may always be replaced.
    output_folder.claim(args.output, MARK, FILES, overwrite=True)
    with progress.task("tables, curves and pictures"):
        write_comparison(args.output, compared)
    progress.say(compared.table())
    progress.say(f"{args.output}: {', '.join(FILES)}")


def jobs_of(args: Args) -> dict[str, Job]:
    """What is inverted, by method in the usual order.

    Raises:
      InputError: if heads share a name, or a method is unknown or named twice.
    """
    ways = method_settings(args)
    unknown = [method for method in args.methods if method not in ways]
    if unknown or not args.methods or len(set(args.methods)) < len(args.methods):
        problem = f"{unknown[0]!r} is unknown" if unknown else "name each once, and one at least"
        raise InputError(f"--methods: {problem}; there are {', '.join(ways)}")
    names = _names(args.frames)
    if not names or len(set(names)) < len(names):
        raise InputError(f"--frames: {', '.join(names) or 'none'}; name folders of different names")
    jobs = {}
    for method in (method for method in ways if method in args.methods):
        home = args.output / "runs" / _folder_name(method)
        runs = {head: home / head for head in names}
        jobs[method] = Job(
            args=invert.Args(
                frames=args.frames,
                generator=args.generator,
                run=home if len(names) > 1 else runs[names[0]],
                preset=args.preset,
                latent_steps=args.latent_steps,
                latents_steps=args.latents_steps,
                tuning_steps=args.tuning_steps,
                baseline=False,
                crop=args.crop,
                seed=args.seed,
                **ways[method],
            ),
            runs=runs,
        )
    return jobs


def method_settings(args: Args) -> dict[str, dict]:
    """By name, in what the methods differ."""
    several = {"views": args.views, "latents": args.latents}
    return {
        "single view": {"views": 1},
        "multi-view": {"views": args.views},
        "multi-latent": {**several, "regularise": ()},
        "+ distance": {**several, "regularise": ("distance",)},
        "+ interpolation": {**several, "regularise": ("interpolation",)},
        "+ depth": {**several, "regularise": ("depth",)},
        "+ all": {**several, "regularise": None},
    }


def measure(run: Path, frames: Path, args: Args, progress: Progress) -> Evaluated:
    """Measure a finished run on all its frames."""
    settings = evaluate.Args(identity=args.identity, frames=frames, crop=args.crop)
    with progress.task(f"measuring {run}"):
        return evaluate.evaluate(evaluate.prepare(run, settings), settings)


def _names(folders: tuple[Path, ...]) -> list[str]:
    return [folder.resolve().name for folder in folders]


def _folder_name(method: str) -> str:
    return method.replace("+ ", "with ").replace(" ", "_")


if __name__ == "__main__":
    with explained():
        compilation_cache.enable()
        main(tyro.cli(Args))
