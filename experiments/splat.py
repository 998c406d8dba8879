"""Make a Gaussian splat of a head, which any viewer of splats opens: `.ply`, and `.spz` beside it.

`python -m experiments.splat` splats what `python -m experiments.invert` found in runs/demo,
`python -m experiments.splat --generator embedded --seed 3` a head that no run is needed for.
Gaussians are fitted to renders from many cameras, and measured from others. Lengths are metres; the
axes are those of each format, in which viewers show the head upright (inversion/splats/files.py).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from eg3d_jax.errors import InputError
from experiments import command
from experiments.progress import CommandMonitor, Progress
from experiments.runs.output_folder import OutputFolder
from experiments.runs.settings import versions
from experiments.subjects import HeadArgs, Subjects
from inversion.files import write_json
from inversion.splats.fit import SplatSettings, fit_head, measure_splat
from inversion.splats.gaussians import Gaussians
from inversion.units import metres_of_unit

_MARK, _FILES = "splat.json", ("splat.ply", "splat.spz")


@dataclass(frozen=True, kw_only=True)
class Args(HeadArgs):
    """Make a Gaussian splat of a run's head, or of a head of a generator.

    Attributes:
      truncation: of the generator's head; 1 as sampled, 0 the mean head
      count: largest number of Gaussians
      degree: of the spherical harmonics, 0 to 3: how much colours may change with the direction
      steps: of the fit, a view each
      views: renders that it is fitted to
      max_yaw: how far they go to either side, degrees
      max_pitch: how far up and down, degrees
      yaw: of a run with a latent for each view: that of this yaw, degrees, 0 frontal
      along_path: instead of --yaw: each camera's own latent, on whose mean look the splat settles
      formats: files to write
      output: folder for them; RUN/splat if not given
      overwrite: replace earlier files there
    """

    truncation: float = 0.7
    count: int = SplatSettings.count
    degree: int = SplatSettings.degree
    steps: int = SplatSettings.steps
    views: int = SplatSettings.views
    max_yaw: float = math.degrees(SplatSettings.max_yaw)
    max_pitch: float = math.degrees(SplatSettings.max_pitch)
    yaw: float = 0.0
    along_path: bool = False
    formats: tuple[Literal["ply", "spz"], ...] = ("ply", "spz")
    output: Path | None = None
    overwrite: bool = False


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    settings = check(args)
    progress = Progress()
    with progress.task("reading"):
        subjects = args.head(args.truncation)
    folder = subjects.home / "splat" if args.output is None else args.output
    output = OutputFolder(folder, _MARK, _FILES, overwrite=args.overwrite)
    generator, latents = subjects.generator, subjects.latents[0]
    started = time.monotonic()
    gaussians = fit_head(generator, latents, settings, monitor=CommandMonitor(progress))
    seconds = time.monotonic() - started
    with progress.task("measuring on other views"):
        measures = measure_splat(gaussians, generator, latents, settings)
    with output.writing() as staging:
        for kind in args.formats:
            gaussians.save(staging / f"splat.{kind}", metres=metres_of_unit(subjects.metadata))
        sizes = {path.suffix[1:]: path.stat().st_size for path in sorted(staging.glob("splat.*"))}
        write_numbers(
            staging / _MARK, args, subjects, gaussians,
            {**measures, "seconds": seconds, "bytes": sizes},
        )  # fmt: skip
    shown = ", ".join(f"{kind} {size / 1e6:.1f} MB" for kind, size in sizes.items())
    seen = f"{measures['psnr']:.1f} dB" + (
        f", LPIPS {measures['lpips']:.3f}" if "lpips" in measures else ""
    )
    progress.say(f"{folder}: {shown}; {len(gaussians)} Gaussians, {seen} on views not fitted")


def check(args: Args) -> SplatSettings:
    """Settings of the fit; those without a possible splat are refused."""
    command.check_limits(
        args,
        {"count": (100, 10**6), "degree": (0, 3), "steps": (1, 10**6), "views": (2, 10_000),
         "max_yaw": (0, 180), "max_pitch": (0, 80), "yaw": (-180, 180)},
    )  # fmt: skip
    if not args.formats:
        raise InputError("--formats is empty; name ply or spz")
    return SplatSettings(
        count=args.count,
        degree=args.degree,
        steps=args.steps,
        views=args.views,
        max_yaw=math.radians(args.max_yaw),
        max_pitch=math.radians(args.max_pitch),
        yaw=None if args.along_path else math.radians(args.yaw),
    )


def write_numbers(
    path: Path, args: Args, subjects: Subjects, gaussians: Gaussians, measures: dict[str, Any]
) -> None:
    """Write splat.json: settings, source and licence of the generator, and what the splat is."""
    content = {
        "settings": args,
        "generator": subjects.provenance,
        "head": subjects.names[0],
        "gaussians": len(gaussians),
        "metres_of_world_unit": metres_of_unit(subjects.metadata),
        **measures,
        "versions": versions(),
    }
    write_json(path, content)


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.splat", prog=prog)


if __name__ == "__main__":
    start()
