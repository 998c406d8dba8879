"""Measure compile time, run time, memory and arithmetic of every part, side by side in one run.

`python -m experiments.benchmark` measures the embedded generator; `--config ffhq` the size of the
official faces, with random weights. `--compare FILE` sets the numbers beside those of an earlier
run and ends with status 1 if something got slower. Let nothing else run on the machine.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import jax
from flax import nnx

from eg3d_jax.config import ffhq_512, tiny
from eg3d_jax.errors import InputError
from eg3d_jax.folders import check_file_writable
from eg3d_jax.generator import TriPlaneGenerator
from experiments import command
from experiments.benchmark.cases import make_cases
from experiments.benchmark.measuring import Measurement, measure, measure_ceilings
from experiments.benchmark.operations import operation_shares, shares_table
from experiments.benchmark.results import as_json, read_earlier, slower, table
from experiments.command import check_limits
from experiments.progress import Progress
from experiments.runs.settings import versions
from experiments.subjects import EMBEDDED, load_generator
from inversion.config import InversionConfig
from inversion.features.networks import load_networks
from inversion.files import write_json
from inversion.wording import beside

EXIT_SLOWER = 1
_MOST = 1_000_000
_LIMITS = {
    "views": (1, 1_000), "views_at_once": (1, _MOST), "rays_at_once": (1, _MOST),
    "repeats": (1, _MOST), "tolerance": (0, _MOST),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Args:
    """Measure the generator's parts and the steps of an inversion.

    Attributes:
      config: embedded, as shipped; ffhq, the official faces' size, random weights; or tiny
      cases: measure only cases whose names hold one of these words; all if not given
      views: of a step
      views_at_once: of a step, rendered together; all if not given
      rays_at_once: rays rendered together; must divide their number
      precision: of matrix products: highest is float32; default is what the device likes, such as
        TF32
      repeats: runs of each case after its first
      operations: also show which of the renderer's operations the time of each case goes into
      out: JSON file to write
      compare: JSON file of an earlier run with the same settings
      tolerance: slower by more than this share counts as slower
    """

    config: Literal["embedded", "ffhq", "tiny"] = "embedded"
    cases: tuple[str, ...] = ()
    views: int = 1
    views_at_once: int | None = None
    rays_at_once: int | None = None
    precision: Literal["highest", "default"] = "highest"
    repeats: int = 5
    operations: bool = False
    out: Path | None = None
    compare: Path | None = None
    tolerance: float = 0.25


def main(args: Args) -> int:
    """Run the command; the exit status."""
    check_limits(args, _LIMITS)
    if args.out is not None:
        check_file_writable(args.out, option="--out")
    settings = {
        name: getattr(args, name)
        for name in ("config", "views", "views_at_once", "rays_at_once", "precision")
    }
    found = versions()
    earlier = read_earlier(args.compare, settings, found["device"]) if args.compare else {}
    progress = Progress()
    with jax.default_matmul_precision(args.precision):
        generator = make_generator(args.config)
        networks = load_networks(generator.config.image_side)
        config = InversionConfig(views_at_once=args.views_at_once, rays_at_once=args.rays_at_once)
        cases = make_cases(generator, networks, config, args.views)
        chosen = [c for c in cases if not args.cases or any(w in c.name for w in args.cases)]
        if not chosen:
            names = ", ".join(case.name for case in cases)
            raise InputError(f"--cases {' '.join(args.cases)} names none of: {names}")
        with progress.task("ceilings"):
            ceilings = measure_ceilings()
        measurements: list[Measurement] = []
        shares: dict[str, dict[str, float]] = {}
        for case in chosen:
            with progress.task(case.name):
                measurements.append(measure(case, args.repeats))
                if args.operations:
                    shares[case.name] = operation_shares(case, args.repeats)
    progress.console.print(table(measurements, ceilings, earlier))
    if shares:
        progress.console.print(shares_table(shares))
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        numbers = as_json(measurements, ceilings, settings, found)
        write_json(args.out, numbers | ({"operations": shares} if shares else {}))
        progress.say(f"wrote {args.out}")
    worse = slower(measurements, earlier, args.tolerance)
    if worse:
        ratios = (f"{n} {beside(r, 1 + args.tolerance, 3)[0]}" for n, r in worse.items())
        progress.say(
            f"slower than before by more than {100 * args.tolerance:g} %, the fastest run over the "
            f"earlier median: {', '.join(ratios)}"
        )
    return EXIT_SLOWER if worse else 0


def make_generator(config: str) -> TriPlaneGenerator:
    """The embedded generator, or one of another size with random weights."""
    if config == "embedded":
        return load_generator(EMBEDDED)
    chosen = ffhq_512()
    if config == "tiny":  # at twice its size, the least that LPIPS takes
        larger = dataclasses.replace(tiny().superresolution, input_side=16)
        chosen = dataclasses.replace(tiny(), superresolution=larger)
    return TriPlaneGenerator(chosen, rngs=nnx.Rngs(0))


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.benchmark", prog=prog, cached=False)
