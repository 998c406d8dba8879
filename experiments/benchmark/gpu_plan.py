"""What a GPU would run and for how long, modelled: compiled for it on a machine without one.

`python -m experiments.benchmark.gpu_plan --out FILE` compiles each program for each kind of GPU,
about a minute each on idle cores, and sets what comes out beside the bounds of `gpu_bounds.json`;
the exit status is 1 if one is not kept. It needs the extra `gpu-plan` and ends with status 0 and
the reason where that is not installed. Kernels, layouts, atomics and planned memory are the
compiler's own; every time is modelled, not measured: the convolutions are taken at a share of the
peak in TF32, all else by XLA's cost model, which knows no launches and no contention, and no sm_80.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import jax

from eg3d_jax.errors import InputError
from eg3d_jax.folders import check_file_writable, check_writable
from experiments import command
from experiments.benchmark.gpu_programs import LATENT, NAMES, TUNING, shapes_of
from experiments.benchmark.gpu_reading import as_numbers, compares_and_swaps
from experiments.benchmark.gpu_target import TARGETS, Plan, Target, compile_for, missing, sharding
from experiments.benchmark.promises import Bar
from experiments.command import check_limits
from experiments.progress import Progress
from experiments.report.tables import markdown
from experiments.runs.settings import versions
from inversion.files import write_json
from inversion.wording import beside

BOUNDS = Path(__file__).with_name("gpu_bounds.json")
_LIMITS = {"share": (0.01, 1.0), "margin": (0.0, 10.0)}
_SCHEDULE = "schedule of 500 + 500 steps"
_STEPS = 500
# Of each program: its name in the results, in the bounds and in the table, and its unit.
_BOUNDED = (
    ("launches", "launches", ""), ("modelled_ms", "modelled time", "ms"),
    ("temporary_gb", "temporary memory", "GB"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Args:
    """Compile for GPUs without one, and compare with bounds.

    Attributes:
      programs: only those whose names hold one of these words; all if not given
      targets: architectures of GPUs: sm_90 is an H200, sm_80 an A100, for which only programs
        without convolutions compile (`--programs sampler`)
      share: of the peak that convolutions are taken to reach
      precision: of convolutions and matrix products: default is TF32; bfloat16 also keeps what the
        convolutions read and write so
      out: JSON file to write
      texts: folder for the compiled programs, to be read
      bounds: JSON file with the bounds; the project's own if not given
      write_bounds: JSON file to write bounds to, what is found now and a margin, instead of
        comparing
      margin: of those bounds, as a share
    """

    programs: tuple[str, ...] = ()
    targets: tuple[Literal["sm_90", "sm_80"], ...] = ("sm_90",)
    share: float = 0.4
    precision: Literal["default", "bfloat16"] = "default"
    out: Path | None = None
    texts: Path | None = None
    bounds: Path | None = None
    write_bounds: Path | None = None
    margin: float = 0.1


def main(args: Args) -> int:
    """Run the command; the exit status."""
    check_limits(args, _LIMITS)
    chosen = [n for n in NAMES if not args.programs or any(w in n for w in args.programs)]
    if not chosen:
        raise InputError(f"--programs {' '.join(args.programs)} names none of: {', '.join(NAMES)}")
    for option, path in (("--out", args.out), ("--write-bounds", args.write_bounds)):
        if path is not None:
            check_file_writable(path, option=option)
    if args.texts is not None:
        check_writable(args.texts, option="--texts")
    bounds = read_bounds(args.bounds or BOUNDS)
    progress = Progress()
    reason = missing()
    if reason is not None:
        progress.say(f"skipped: {reason}")
        return 0
    found: dict[str, dict[str, Any]] = {}
    for target in args.targets:
        where = sharding(TARGETS[target])
        for name in chosen:
            with progress.task(f"{target}: {name}"):
                case = shapes_of(name)
                with jax.default_matmul_precision(args.precision):
                    plan = compile_for(
                        where,
                        case.function,
                        case.arguments,
                        carries=case.carries,
                        timed=TARGETS[target].timed,
                    )
            found.setdefault(target, {})[name] = numbers(plan, TARGETS[target], args.share)
            if args.texts is not None:
                args.texts.mkdir(parents=True, exist_ok=True)
                file = f"{target} {name}".replace(",", "").replace(" ", "_")
                (args.texts / f"{file}.txt").write_text(plan.text)
            add_schedule(found[target])
            if args.out is not None:  # after each, as they take minutes
                write_json(args.out, as_json(found, args))
        progress.console.print(table(target, found[target]), markup=False)
    if args.write_bounds is not None:
        write_json(args.write_bounds, bounds_from(found, args.margin))
        progress.say(f"wrote {args.write_bounds}")
        return 0
    broken = [bar for bar in bars(found, bounds) if not bar.kept]
    for bar in broken:
        value, bound = beside(bar.value, bar.bound, 4)
        progress.say(f"beyond its bound: {bar.name}: {value} {bar.unit}, at most {bound}")
    if not broken:
        progress.say("all within their bounds (modelled, not measured)")
    return 1 if broken else 0


def numbers(plan: Plan, target: Target, share: float) -> dict[str, Any]:
    """A plan as plain values, with convolutions at a share of the target's peak.

    Modelled times are None where XLA has no model of the target.
    """
    found = as_numbers(plan.reading)
    modelled = plan.reading.milliseconds(share * target.tf32, share * target.bf16)
    if not target.timed:
        found |= {"kernels_modelled_ms": None, "kernels_modelled_ms_by_kind": {}}
    return {
        "modelled_ms": round(modelled, 3) if target.timed else None,
        **found,
        "atomics": dict(plan.atomics.most_common()),
        "compares_and_swaps": compares_and_swaps(plan.atomics),
        "planned_gb": round(plan.peak_bytes / 1e9, 3),
        "temporary_gb": round(plan.temporary_bytes / 1e9, 3),
        "compile_seconds": round(plan.compile_seconds, 1),
    }


def add_schedule(found: dict[str, Any]) -> None:
    """Add the modelled seconds of a schedule of nine views, if both its steps are there."""
    steps = [found.get(name, {}).get("modelled_ms") for name in (LATENT, TUNING)]
    if None not in steps:
        found[_SCHEDULE] = {"modelled_s": round(_STEPS * sum(steps) / 1e3, 1)}


def bars(found: Mapping[str, Mapping[str, Any]], bounds: Mapping[str, Any]) -> list[Bar]:
    """All bounds of what was compiled.

    Those of the file, and for every program: no compare-and-swap, every convolution a call of
    cuDNN with channels last, no number of 64 bits.
    """
    result = []
    for target, programs in found.items():
        limits = bounds.get(target, {})
        for name, values in programs.items():
            title = f"{target}: {name}"
            if name == _SCHEDULE:
                bound = limits.get(name, {}).get("modelled_s", math.inf)
                result.append(
                    Bar(name=f"{title}, modelled", value=values["modelled_s"], bound=bound,
                        unit="s")
                )  # fmt: skip
                continue
            for key, what, unit in _BOUNDED:
                if key in limits.get(name, {}):
                    bound = limits[name][key]
                    result.append(
                        Bar(name=f"{title}, {what}", value=values[key], bound=bound, unit=unit)
                    )
            result += [
                Bar(name=f"{title}, {what}", value=count, bound=0, unit="")
                for what, count in (
                    ("atomics that compare and swap", values["compares_and_swaps"]),
                    ("convolutions not of cuDNN", values["convolutions_not_of_cudnn"]),
                    ("convolutions not with channels last", _other_layouts(values)),
                    ("kinds of float64", int("f64" in values["element_types"])),
                )
            ]
    return result


def _other_layouts(values: Mapping[str, Any]) -> int:
    return sum(
        count
        for kind, count in values["convolutions"].items()
        if not kind.split()[-1].startswith("b01f_") or not kind.endswith("->b01f")
    )


def bounds_from(found: Mapping[str, Mapping[str, Any]], margin: float) -> dict[str, Any]:
    """Bounds that what is found keeps with a margin; launches and memory are rounded up."""

    def above(value: float, digits: int) -> float:
        scale = 10**digits
        return math.ceil(value * (1 + margin) * scale) / scale

    result: dict[str, Any] = {}
    for target, programs in found.items():
        result[target] = {}
        for name, values in programs.items():
            if name == _SCHEDULE:
                result[target][name] = {"modelled_s": above(values["modelled_s"], 1)}
                continue
            result[target][name] = {
                "launches": int(above(values["launches"], 0)),
                "temporary_gb": above(values["temporary_gb"], 3),
            }
            if values["modelled_ms"] is not None:
                result[target][name]["modelled_ms"] = above(values["modelled_ms"], 2)
    return result


def read_bounds(path: Path) -> dict[str, Any]:
    """Bounds by target and program.

    Raises:
      InputError: if the file holds none.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"--bounds {path} cannot be read ({error}); see gpu_bounds.json") from None
    if not isinstance(content, dict) or not set(content) <= set(TARGETS):
        raise InputError(f"--bounds {path} holds no bounds by target; see gpu_bounds.json")
    return content


def table(target: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: a row for each program."""
    rows: list[Sequence[str]] = []
    for name, values in found.items():
        if name == _SCHEDULE:
            rows.append([name, *["-"] * 5, f"{values['modelled_s']:.1f} s", "-", "-"])
            continue
        rows.append([
            name, str(values["launches"]), str(sum(values["convolutions"].values())),
            ", ".join(values["atomics"]) or "-", f"{values['convolution_tflop']:.3f}",
            *("-" if values[key] is None else f"{values[key]:.2f}"
              for key in ("kernels_modelled_ms", "modelled_ms")),
            f"{values['temporary_gb']:.2f}", f"{values['compile_seconds']:.0f}",
        ])  # fmt: skip
    head = [
        f"{target}, modelled", "launches", "cuDNN calls", "atomics", "conv TFLOP",
        "other kernels ms", "all ms", "temporary GB", "compile s",
    ]  # fmt: skip
    return markdown(head, rows)


def as_json(found: Mapping[str, Any], args: Args) -> dict[str, Any]:
    """All numbers, and what they are."""
    return {
        "format": "eg3d_jax gpu-plan 1",
        "what": "modelled, not measured: compiled for a GPU that is not there",
        "convolutions_at_share_of_peak": args.share,
        "precision": args.precision,
        "peak": {name: {"tf32": t.tf32, "bf16": t.bf16} for name, t in TARGETS.items()},
        "versions": versions(),
        "targets": found,
    }


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    jax.config.update("jax_platforms", "cpu")  # else JAX's plug-in looks for a driver, and fails
    command.start(main, Args, name="experiments.benchmark.gpu_plan", prog=prog, cached=False)


if __name__ == "__main__":
    start()
