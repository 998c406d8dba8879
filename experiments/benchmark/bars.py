"""Measure all that this project promises about speed and memory, on whatever device there is.

`python -m experiments.benchmark.bars --out FILE` takes about half an hour on two CPU cores and
minutes on a GPU. The exit status is 1 if a promise is not kept. Random weights of the official
faces' size are enough; let nothing else run on the machine.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

import jax

from eg3d_jax.folders import check_file_writable
from eg3d_jax.generator import TriPlaneGenerator
from experiments import command
from experiments.benchmark.cases import Case, make_cases, sampler_case
from experiments.benchmark.main import make_generator
from experiments.benchmark.measuring import Ceilings, Measurement, Pace, measure, measure_ceilings
from experiments.benchmark.memory_table import memory_table
from experiments.benchmark.precision import end_results, errors
from experiments.benchmark.promises import (
    ONE_VIEW,
    VIEWS,
    Bar,
    compilation_bar,
    cpu_bars,
    gpu_bars,
    memory_bars,
    sampler_share,
)
from experiments.benchmark.schedules import run_schedule, videos_speedup
from experiments.command import check_limits
from experiments.progress import Progress
from experiments.report.tables import markdown
from experiments.runs.settings import versions
from inversion.config import InversionConfig
from inversion.features.networks import load_networks
from inversion.files import write_json
from inversion.objectives import FeatureNetworks
from inversion.wording import beside

Part = Literal["speed", "steps", "table", "quality", "schedule"]
_ON_CPU: tuple[Part, ...] = ("speed", "steps", "table")


@dataclass(frozen=True, kw_only=True)
class Args:
    """Measure all promises about speed and memory.

    Attributes:
      config: ffhq, the official faces' size; tiny, to try the command
      repeats: runs of each program after its first
      parts: what to measure: 'speed' of one view, 'steps' of nine with their memory, the 'table' of
        memory planned, the 'quality' of faster arithmetic and many videos at once, or the
        whole 'schedule' of nine views; by default all on an accelerator, and the first three on a
        CPU, where the others take half a day
      out: JSON file to write
    """

    config: Literal["ffhq", "tiny"] = "ffhq"
    repeats: int = 3
    parts: tuple[Part, ...] | None = None
    out: Path | None = None


@dataclass(kw_only=True)
class Findings:
    """What has been measured so far.

    Attributes:
      cases: by name.
      pace: this machine's around each case, operations a second.
      bars: promises, and whether they are kept.
      notes: what else there is to tell, by its title.
    """

    cases: dict[str, Measurement] = field(default_factory=dict)
    pace: dict[str, float] = field(default_factory=dict)
    bars: list[Bar] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


def main(args: Args) -> int:
    """Run the command; the exit status."""
    check_limits(args, {"repeats": (1, 1_000_000)})
    if args.out is not None:
        check_file_writable(args.out, option="--out")
    progress = Progress()
    on_cpu = jax.default_backend() == "cpu"
    parts = args.parts or (_ON_CPU if on_cpu else get_args(Part))
    generator = make_generator(args.config)
    # On a CPU rays in chunks, which bounds memory, and views one after another; all at once
    # elsewhere, as an inversion does where that fits.
    chunk = min(4096, generator.config.neural_side**2)
    at_once = (1, chunk) if on_cpu else (None, None)
    config = InversionConfig(views_at_once=at_once[0], rays_at_once=at_once[1])
    networks = load_networks(generator.config.image_side)
    found = Findings()
    with jax.default_matmul_precision("highest"):
        with progress.task("ceilings"):
            ceilings = measure_ceilings()
        if "speed" in parts:
            cases = make_cases(generator, networks, config, 1)
            cases = [*(c for c in cases if c.name in ONE_VIEW), sampler_case(generator)]
            measure_cases(cases, args.repeats, found, progress)
            found.notes["share of the sampler's backward pass"] = sampler_share(found.cases)
            found.bars += cpu_bars(found.cases, found.pace) if on_cpu else []
        if "steps" in parts:
            cases = make_cases(generator, networks, config, VIEWS)[-2:]
            measure_cases(cases, args.repeats, found, progress)
            found.bars += memory_bars(found.cases, on_cpu)
        if found.cases:
            found.bars += [] if on_cpu else gpu_bars(found.cases)
            found.bars.append(compilation_bar(found.cases))
    if "table" in parts:
        with progress.task("memory table"):
            table = memory_table(
                generator, networks, views=(1, 4, VIEWS), rays_at_once=(chunk, None)
            )
            found.notes["memory of a latent step, GB"] = "\n" + table
    if "quality" in parts:
        found.bars += quality_bars(generator, found.notes, progress)
    if "schedule" in parts:
        with progress.task("whole schedule"):
            found.bars.append(schedule_bar(generator, networks, config, 1 if on_cpu else 10))
    show(found, progress)
    if args.out is not None:
        write(args.out, found, ceilings)
    return 0 if all(bar.kept for bar in found.bars) else 1


def measure_cases(cases: Sequence[Case], repeats: int, found: Findings, progress: Progress) -> None:
    """Add what the cases take, and this machine's pace around each, to what is found."""
    pace = Pace()
    for case in cases:
        with progress.task(case.name):
            before = pace.measure()
            found.cases[case.name] = measure(case, repeats)
            found.pace[case.name] = (before + pace.measure()) / 2
    rates = {name: rate / 1e9 for name, rate in found.pace.items()}
    found.notes["convolution, GFLOP/s"] = rates


def quality_bars(
    generator: TriPlaneGenerator, notes: dict[str, Any], progress: Progress
) -> list[Bar]:
    """What faster arithmetic costs at the end of an inversion, and what videos at once gain."""
    with progress.task("precisions"):
        notes |= {f"errors, {k}": v for k, v in errors(generator).items()}
    end = end_results(progress)
    notes["end result, dB"] = end
    bars = [
        Bar(name=f"end result with {precision} against float32", unit="dB", bound=0.1,
            value=abs(psnr - end["highest"]))
        for precision, psnr in end.items() if precision != "highest"
    ]  # fmt: skip
    bars.append(Bar(name="8 videos of the embedded size against 8 single runs", unit="x",
                    value=videos_speedup(8), bound=4.0, at_least=True))  # fmt: skip
    return bars


def schedule_bar(
    generator: TriPlaneGenerator, networks: FeatureNetworks, config: InversionConfig, at_once: int
) -> Bar:
    """How long a whole inversion takes, `at_once` steps a call."""
    seconds = run_schedule(generator, networks, config, views=VIEWS, steps=500, chunk=at_once)
    return Bar(name="schedule, 9 views, 500 + 500 steps", unit="s", value=seconds, bound=150.0)


def show(found: Findings, progress: Progress) -> None:
    """Print the promises as a table, and the notes."""
    rows = []
    for bar in found.bars:
        value, bound = beside(bar.value, bar.bound, 4)
        sign = "≥" if bar.at_least else "≤"
        rows.append([bar.name, value, f"{sign} {bound}", bar.unit, "yes" if bar.kept else "NO"])
    progress.say(markdown(["promise", "found", "bound", "unit", "kept"], rows))
    for name, value in found.notes.items():
        progress.say(f"{name}: {value}")


def write(path: Path, found: Findings, ceilings: Ceilings) -> None:
    """Write all that is found as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "bars": [dataclasses.asdict(bar) | {"kept": bar.kept} for bar in found.bars],
        "notes": found.notes,
        "cases": found.cases,
        "ceilings": ceilings,
        "versions": versions(),
    }
    write_json(path, content)


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.benchmark.bars", prog=prog, cached=False)


if __name__ == "__main__":
    start()
