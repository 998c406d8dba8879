"""All that is to be measured in the few minutes for which a GPU is lent, in one command.

`python -m experiments.benchmark.gpu_day --out FILE`, in a checkout, takes at most `--minutes`: what
does not fit any more is left out and said, and the file is written anew after each part. The parts,
by how much is learned from each: the tests that compare with PyTorch, in float32 and in TF32, for
two fifths of the time at most; each program of `gpu-plan` measured beside what was modelled, with
its memory; a schedule of nine views at three lengths, from which the whole one is extrapolated;
several videos at once against one. Most of the time is compilation: all programs are compiled at
once, and the schedule runs the same ones. `--config tiny` tries the command where there is no GPU.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from eg3d_jax.errors import InputError
from eg3d_jax.folders import check_file_writable
from experiments import command
from experiments.benchmark.gpu_device import (
    Day,
    compilers,
    prepare,
    programs,
    programs_table,
    schedule,
    videos,
)  # fmt: skip
from experiments.benchmark.gpu_programs import LATENT, NAMES, TUNING
from experiments.command import check_limits
from experiments.progress import Progress
from experiments.report.tables import markdown
from experiments.runs.settings import versions

PLAN = Path("docs/gpu_plan.json")
_TESTS = Path("tests/eg3d_jax")
# The test files whose results are compared with PyTorch's, by name.
_PARITY = ("backbone", "generator", "gradients", "layers", "mapping", "rendering", "resample",
           "superresolution")  # fmt: skip
PRECISIONS = ("highest", "tensorfloat32")
_ROW = re.compile(r"(.*\S) +(\d\.\de[+-]\d+|nan|inf)$")  # group and difference
_PARITY_SHARE = 0.4  # of the time, at most
Part = Literal["parity", "programs", "schedule", "videos"]
_PARTS: tuple[Part, ...] = ("parity", "programs", "schedule", "videos")
_LIMITS = {"minutes": (0.1, 600.0), "repeats": (1, 1000), "steps": (1, 50), "videos": (2, 64)}


@dataclass(frozen=True, kw_only=True)
class Args:
    """Measure on a lent GPU all that was modelled, within minutes.

    Attributes:
      minutes: after which no part is begun
      parts: what to do, always in this order
      programs: only those of `gpu-plan` whose names hold one of these words; all if not given
      config: ffhq, the official faces' size with random weights; tiny, to try the command
      repeats: runs of each program after its first
      steps: of one call, where a program is a step
      videos: at once, against one
      tests: folder of the tests that compare with PyTorch
      plan: JSON file of `gpu-plan --out`, to be set beside what is measured
      target: kind of GPU in it
      out: JSON file to write
    """

    minutes: float = 8.0
    parts: tuple[Part, ...] = _PARTS
    programs: tuple[str, ...] = ()
    config: Literal["ffhq", "tiny"] = "ffhq"
    repeats: int = 3
    steps: int = 10
    videos: int = 8
    tests: Path = _TESTS
    plan: Path = PLAN
    target: str = "sm_90"
    out: Path | None = None


def main(args: Args) -> int:
    """Run the command; 1 if something failed or was left out."""
    check_limits(args, _LIMITS)
    if args.out is not None:
        check_file_writable(args.out, option="--out")
    if args.tests != _TESTS and (missing := missing_tests(args.tests)):
        raise InputError(f"--tests: {missing[0]} is not there; name tests/eg3d_jax of a checkout")
    modelled = read_plan(args.plan, args.target)
    day = Day(
        deadline=time.monotonic() + 60 * args.minutes, progress=Progress(), out=args.out
    )  # fmt: skip
    if "parity" in args.parts:  # before this process takes the device's memory
        found = day.part("parity", lambda: parity(args.tests, day))
        day.progress.console.print(parity_table(found), markup=False)
    if set(args.parts) - {"parity"}:
        on_device(args, day, modelled)
    for name, why in day.left_out.items():
        day.progress.say(f"left out: {name}: {why}")
    return 1 if day.left_out else 0


def on_device(args: Args, day: Day, modelled: Mapping[str, Any]) -> None:
    """Everything that this process itself runs on the device."""
    day.keep("versions", versions())
    names = [n for n in NAMES if not args.programs or any(w in n for w in args.programs)]
    names = names if "programs" in args.parts else []
    steps = (LATENT, TUNING) if "schedule" in args.parts else ()
    with compilers() as pool:
        wanted = {*names, *steps}
        prepared = prepare(day, pool, wanted, config=args.config, steps=args.steps)
        if "programs" in args.parts:
            found = day.part(
                "programs", lambda: programs(day, names, prepared, modelled, args.repeats)
            )
            day.progress.console.print(programs_table(found), markup=False)
        if "schedule" in args.parts:
            found = day.part("schedule", lambda: schedule(day, prepared))
            day.progress.say(f"schedule, seconds: {found}")
    if "videos" in args.parts:
        short = args.config == "tiny"
        found = day.part("videos", lambda: videos(day, args.videos, short=short))
        day.progress.say(f"{args.videos} videos at once against one: {found}")


def parity(tests: Path, day: Day) -> dict[str, dict[str, Any]]:
    """Largest differences to PyTorch by group of tests, in each precision.

    The tests run as they are, one process a file, all at once; in TF32 their bounds do not hold,
    and the differences are what is wanted.

    Returns:
      By precision: 'passed' of the files, and 'differences' by group.
    """
    files = [tests / f"test_{name}.py" for name in _PARITY]
    if missing := missing_tests(tests):
        day.left_out["parity"] = f"{missing[0]} is not there; start in a checkout"
        return {}
    found: dict[str, dict[str, Any]] = {p: {"passed": {}, "differences": {}} for p in PRECISIONS}
    until = time.monotonic() + _PARITY_SHARE * day.left

    def run(precision: str, file: Path) -> tuple[int, str]:
        environment = os.environ | {
            "EG3D_JAX_TEST_PRECISION": precision, "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }  # fmt: skip
        words = ["-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(file)]
        done = subprocess.run(
            [sys.executable, *words], env=environment, capture_output=True, text=True,
            timeout=max(until - time.monotonic(), 1.0), check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    with ThreadPoolExecutor(max_workers=max(1, (os.cpu_count() or 2) // 2)) as pool:
        waiting = {
            (precision, file): pool.submit(run, precision, file)
            for precision in PRECISIONS
            for file in files
        }
        for (precision, file), future in waiting.items():
            done = day.attempt(f"parity in {precision}: {file.stem}", future.result)
            if done is not None:
                found[precision]["passed"][file.stem] = done[0] == 0
                found[precision]["differences"] |= read_differences(done[1])
    return found


def read_differences(output: str) -> dict[str, float]:
    """The table at the end of the tests: the largest difference of each group."""
    found, inside = {}, False
    for line in output.splitlines():
        if "largest differences to PyTorch" in line:
            inside = True
        elif line.startswith("="):
            inside = False
        elif inside and (row := _ROW.match(line)):
            found[row[1]] = float(row[2])
    return found


def missing_tests(folder: Path) -> list[Path]:
    """Those of the tests against PyTorch that a folder lacks."""
    files = (folder / f"test_{name}.py" for name in _PARITY)
    return [file for file in files if not file.is_file()]


def parity_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: a row for each group."""
    groups = sorted({group for one in found.values() for group in one["differences"]})
    rows = [
        [group, *(f"{one['differences'].get(group, float('nan')):.1e}" for one in found.values())]
        for group in groups
    ]
    return markdown(["largest difference to PyTorch", *found], rows)


def read_plan(path: Path, target: str) -> dict[str, Any]:
    """What was modelled for a kind of GPU, by program; nothing outside of a checkout, which has it.

    Raises:
      InputError: if the file is no plan or lacks the target.
    """
    if path == PLAN and not path.exists():
        return {}
    try:
        return json.loads(path.read_text())["targets"][target]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"--plan {path} has no plan for {target} ({type(error).__name__}: {error}); make one "
            "by `eg3d-jax benchmark gpu-plan --out FILE`"
        ) from None


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.benchmark.gpu_day", prog=prog, cached=False)


if __name__ == "__main__":
    start()
