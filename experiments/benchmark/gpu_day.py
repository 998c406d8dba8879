"""All that is to be measured in the few minutes for which a GPU is lent, in one command.

`python -m experiments.benchmark.gpu_day --out FILE`, in a checkout, takes at most `--minutes`: what
does not fit any more is left out and said, and the file is written anew after each part. The parts,
by how much is learned from each: the tests that compare with PyTorch, in float32 and in TF32; each
program of `gpu-plan` measured beside what was modelled, with its memory; a schedule of nine views
at three lengths, from which the whole one is extrapolated; several videos at once against one.
`--config tiny` tries the command where there is no GPU.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from eg3d_jax.errors import InputError
from eg3d_jax.folders import check_file_writable
from experiments import command
from experiments.command import check_limits
from experiments.progress import Progress
from experiments.report.tables import markdown
from inversion.files import write_json

PLAN = Path("docs/gpu_plan.json")
_TESTS = Path("tests/eg3d_jax")
# The test files whose results are compared with PyTorch's, by name.
_PARITY = ("backbone", "generator", "gradients", "layers", "mapping", "rendering", "resample",
           "superresolution")  # fmt: skip
PRECISIONS = ("highest", "tensorfloat32")
_ROW = re.compile(r"(.*\S) +(\d\.\de[+-]\d+|nan|inf)$")  # group and difference
_LENGTHS, _WHOLE = (1, 2, 4), 500  # calls of several steps; steps of either stage
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
      steps: of one call, in the schedule
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


@dataclass(kw_only=True)
class Day:
    """What has been found so far.

    Attributes:
      deadline: of `time.monotonic`.
      progress: where it is shown.
      out: file that keeps it.
      found: by part.
      left_out: what did not fit or failed, and why.
    """

    deadline: float
    progress: Progress
    out: Path | None
    found: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()

    def attempt(self, name: str, measure: Callable[[], Any]) -> Any:
        """Do one piece of work, unless time is up; what fails is noted, and the rest goes on."""
        if self.left <= 0:
            self.left_out[name] = "no time was left"
            return None
        try:
            with self.progress.task(name):
                return measure()
        except Exception as error:  # time on the device is too dear to end here
            self.left_out[name] = f"{type(error).__name__}: {error}"[:500]
            return None

    def keep(self, part: str, value: Any) -> None:
        """Note what a part found, and write all of it."""
        self.found[part] = value
        if self.out is not None:
            write_json(self.out, {"format": "eg3d_jax gpu-day 1", **self.found,
                                  "left out": self.left_out})  # fmt: skip


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
        day.keep("parity", parity(args.tests, day))
        day.progress.console.print(parity_table(day.found["parity"]), markup=False)
    if set(args.parts) - {"parity"}:
        on_device(args, day, modelled)
    for name, why in day.left_out.items():
        day.progress.say(f"left out: {name}: {why}")
    return 1 if day.left_out else 0


def on_device(args: Args, day: Day, modelled: Mapping[str, Any]) -> None:
    """Everything that this process itself runs on the device."""
    # Only now, as JAX takes the device with the first of them that looks at it.
    from experiments.runs.settings import versions

    day.keep("versions", versions())
    if "programs" in args.parts:
        day.keep("programs", programs(args, day, modelled))
        day.progress.console.print(programs_table(day.found["programs"]), markup=False)
    if "schedule" in args.parts:
        day.keep("schedule", schedule(args, day))
        day.progress.say(f"schedule, seconds: {day.found['schedule']}")
    if "videos" in args.parts:
        day.keep("videos", videos(args, day))
        day.progress.say(f"{args.videos} videos at once against one: {day.found['videos']}")


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

    def run(precision: str, file: Path) -> tuple[int, str]:
        environment = os.environ | {
            "EG3D_JAX_TEST_PRECISION": precision, "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }  # fmt: skip
        words = ["-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(file)]
        done = subprocess.run(
            [sys.executable, *words], env=environment, capture_output=True, text=True,
            timeout=max(day.left, 1.0), check=False,
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


@contextmanager
def compilers() -> Iterator[ThreadPoolExecutor]:
    """Threads that compile; what they have not begun when the context ends, they leave."""
    pool = ThreadPoolExecutor()
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def programs(args: Args, day: Day, modelled: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each program compiled, all at once as compiling leaves the device alone, then measured."""
    import jax

    from experiments.benchmark.gpu_programs import NAMES, SMALL, Subject, program
    from experiments.benchmark.main import make_generator
    from experiments.benchmark.measuring import compile_case, measure
    from inversion.features.networks import load_networks

    subjects: dict[str, Subject] = {}
    for config in (args.config, "embedded"):
        generator = make_generator(config)
        networks = load_networks(generator.config.image_side)
        subjects[config] = Subject(generator=generator, networks=networks)
    found: dict[str, dict[str, Any]] = {}
    with compilers() as pool:
        cases = {}
        for name in NAMES:
            if args.programs and not any(word in name for word in args.programs):
                continue
            subject = subjects["embedded" if name in SMALL else args.config]
            case = day.attempt(f"{name}: making it", lambda n=name, s=subject: program(n, s))
            if case is not None:
                cases[name] = case, pool.submit(compile_case, case)
        for name, (case, compiling) in cases.items():
            compiled = day.attempt(f"{name}: compiling", lambda c=compiling: c.result(day.left))
            if compiled is None:
                continue
            measured = day.attempt(
                f"{name}: running", lambda c=case, d=compiled: measure(c, args.repeats, d)
            )
            if measured is None:
                continue
            plan = modelled.get(name, {})
            found[name] = {
                "measured_ms": 1e3 * measured.median,
                "fastest_ms": 1e3 * min(measured.seconds),
                "modelled_ms": plan.get("modelled_ms"),
                "planned_gb": measured.peak_bytes / 1e9,
                "measured_gb": measured.measured_bytes and measured.measured_bytes / 1e9,
                "modelled_planned_gb": plan.get("planned_gb"),
                "compile_seconds": measured.compile_seconds,
            }
            day.keep("programs", found)
    jax.clear_caches()
    return found


def programs_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: measured beside modelled."""

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    columns = ("measured_ms", "fastest_ms", "modelled_ms", "measured_gb", "planned_gb",
               "compile_seconds")  # fmt: skip
    rows = [[name, *(shown(values[c]) for c in columns)] for name, values in found.items()]
    return markdown(["program", *(c.replace("_", " ") for c in columns)], rows)


def schedule(args: Args, day: Day) -> dict[str, Any]:
    """Seconds of a stage of nine views at three lengths, and by a line through them, 500 steps."""
    import jax

    from experiments.benchmark.gpu_programs import LATENT, TUNING, Subject, program
    from experiments.benchmark.main import make_generator
    from experiments.benchmark.measuring import compile_case
    from inversion.features.networks import load_networks

    generator = make_generator(args.config)
    networks = load_networks(generator.config.image_side)
    subject = Subject(generator=generator, networks=networks)
    found: dict[str, Any] = {}
    with compilers() as pool:
        cases = [program(name, subject, num_steps=args.steps) for name in (LATENT, TUNING)]
        waiting = [(case, pool.submit(compile_case, case)) for case in cases]
        for case, future in waiting:

            def lengths(case=case, future=future) -> dict[str, Any]:
                compiled, _ = future.result(day.left)
                state, *rest = case.arguments
                state, _terms = compiled(state, *rest)  # the first call is slower
                jax.block_until_ready(state)
                steps, seconds = [], []
                for calls in _LENGTHS:
                    started = time.perf_counter()
                    for _ in range(calls):
                        state, _terms = compiled(state, *rest)
                    jax.block_until_ready(state)
                    steps.append(calls * args.steps)
                    seconds.append(time.perf_counter() - started)
                return extrapolated(steps, seconds)

            value = day.attempt(f"schedule: {case.name}, {args.steps} steps a call", lengths)
            if value is not None:
                found[case.name] = value
    if len(found) == len(cases):
        found["extrapolated_s"] = sum(value["extrapolated_s"] for value in found.values())
    return found


def extrapolated(steps: Sequence[int], seconds: Sequence[float]) -> dict[str, Any]:
    """A line through measured lengths: what 500 steps take, and how far off the line is."""
    each, fixed = np.polyfit(steps, seconds, 1)
    line = each * np.asarray(steps) + fixed
    return {
        "steps": list(steps),
        "seconds": list(seconds),
        "extrapolated_s": float(each * _WHOLE + fixed),
        "largest_residual_s": float(np.max(np.abs(line - seconds))),
    }


def videos(args: Args, day: Day) -> dict[str, Any]:
    """How many times faster several videos are together than one by one."""
    from experiments.benchmark.schedules import videos_speedup
    from inversion import quick

    config = quick()
    if args.config == "tiny":
        few = {name: dataclasses.replace(getattr(config, name), num_steps=2)
               for name in ("latent", "latents", "tuning")}  # fmt: skip
        config = dataclasses.replace(config, **few)
    speedup = day.attempt(
        f"{args.videos} videos at once", lambda: videos_speedup(args.videos, config)
    )
    return {} if speedup is None else {"videos": args.videos, "times as fast": speedup}


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
