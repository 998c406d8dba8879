"""What `gpu_day` has its own process run on the device: programs, a schedule, several videos."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark.cases import Case
from experiments.benchmark.gpu_programs import (
    LATENT,
    NAMES,
    SMALL,
    STEPS,
    TUNING,
    Subject,
    program,
)  # fmt: skip
from experiments.benchmark.main import make_generator
from experiments.benchmark.measuring import Measurement, compile_case, measure
from experiments.benchmark.schedules import videos_speedup
from experiments.progress import Progress
from experiments.report.tables import markdown
from inversion import quick
from inversion.features.networks import load_networks
from inversion.files import write_json

_LENGTHS, _WHOLE = (1, 2, 4), 500  # calls of several steps; steps of either stage


@dataclass(kw_only=True)
class Day:
    """What has been found so far.

    Attributes:
      deadline: of `time.monotonic`.
      progress: where it is shown.
      out: file that keeps it.
      found: by part.
      seconds: that each part took.
      left_out: what did not fit or failed, and why.
    """

    deadline: float
    progress: Progress
    out: Path | None
    found: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
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

    def part(self, name: str, find: Callable[[], Any]) -> Any:
        """Do a part, keep what it found, and how long that took."""
        started = time.monotonic()
        value = find()
        self.seconds[name] = time.monotonic() - started
        self.keep(name, value)
        return value

    def keep(self, part: str, value: Any) -> None:
        """Note what a part found, and write all of it."""
        self.found[part] = value
        if self.out is not None:
            write_json(self.out, {"format": "eg3d_jax gpu-day 1", **self.found,
                                  "seconds": self.seconds, "left out": self.left_out})  # fmt: skip


@contextmanager
def compilers() -> Iterator[ThreadPoolExecutor]:
    """Threads that compile; what they have not begun when the context ends, they leave."""
    pool = ThreadPoolExecutor()
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A program that is being compiled.

    Attributes:
      case: what it does.
      steps: of one call; 1 if it is no step.
      compiling: becomes the program, and the seconds that it took.
    """

    case: Case
    steps: int
    compiling: Future[tuple[jax.stages.Compiled, float]]


def prepare(
    day: Day, pool: ThreadPoolExecutor, names: Collection[str], *, config: str, steps: int
) -> dict[str, Prepared]:
    """Begin to compile all programs at once, as compiling leaves the device alone.

    Args:
      day: that notes what fails.
      pool: that compiles.
      names: of `gpu_programs.NAMES`.
      config: of the generator, but in the small programs.
      steps: of one call, where a program is a step.

    Returns:
      By name.
    """
    subjects: dict[str, Subject] = {}
    for size in (config, "embedded"):
        generator = make_generator(size)
        networks = load_networks(generator.config.image_side)
        subjects[size] = Subject(generator=generator, networks=networks)
    prepared = {}
    # Those that take longest to compile first, should there be more than threads.
    for name in sorted(names, key=NAMES.index, reverse=True):
        subject = subjects["embedded" if name in SMALL else config]
        number = steps if name in STEPS else 1

        def made(name: str = name, subject: Subject = subject, number: int = number) -> Case:
            return program(name, subject, num_steps=number)

        case = day.attempt(f"{name}: making it", made)
        if case is not None:
            compiling = pool.submit(compile_case, case)
            prepared[name] = Prepared(case=case, steps=number, compiling=compiling)
    return prepared


def programs(
    day: Day,
    names: Collection[str],
    prepared: Mapping[str, Prepared],
    modelled: Mapping[str, Any],
    repeats: int,
) -> dict[str, dict[str, Any]]:
    """Each program, or each of its steps, measured beside what was modelled."""
    found: dict[str, dict[str, Any]] = {}
    for name in NAMES:
        if name not in names or name not in prepared:
            continue
        one = prepared[name]

        def measured(one: Prepared = one) -> Measurement:
            return measure(one.case, repeats, one.compiling.result(max(day.left, 0.0)))

        value = day.attempt(f"{name}: compiling and running", measured)
        if value is None:
            continue
        plan = modelled.get(name, {})
        found[name] = {
            "measured_ms": 1e3 * value.median / one.steps,
            "fastest_ms": 1e3 * min(value.seconds) / one.steps,
            "steps_a_call": one.steps,
            "modelled_ms": plan.get("modelled_ms"),
            "planned_gb": value.peak_bytes / 1e9,
            "measured_gb": value.measured_bytes and value.measured_bytes / 1e9,
            "modelled_planned_gb": plan.get("planned_gb"),
            "compile_seconds": value.compile_seconds,
        }
        day.keep("programs", found)
    return found


def programs_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: measured beside modelled."""

    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    columns = ("measured_ms", "fastest_ms", "modelled_ms", "measured_gb", "planned_gb",
               "compile_seconds")  # fmt: skip
    rows = [[name, *(shown(values[c]) for c in columns)] for name, values in found.items()]
    return markdown(["program", *(c.replace("_", " ") for c in columns)], rows)


def schedule(day: Day, prepared: Mapping[str, Prepared]) -> dict[str, Any]:
    """Seconds of a stage of nine views at three lengths, and by a line through them, 500 steps."""
    found: dict[str, Any] = {}
    for name in (LATENT, TUNING):
        if name not in prepared:
            continue

        def lengths(one: Prepared = prepared[name]) -> dict[str, Any]:
            compiled, _ = one.compiling.result(max(day.left, 0.0))
            state, *rest = one.case.arguments
            state, _terms = compiled(jax.tree.map(jnp.copy, state), *rest)  # the first is slower
            jax.block_until_ready(state)
            steps, seconds = [], []
            for calls in _LENGTHS:
                started = time.perf_counter()
                for _ in range(calls):
                    state, _terms = compiled(state, *rest)
                jax.block_until_ready(state)
                steps.append(calls * one.steps)
                seconds.append(time.perf_counter() - started)
            return extrapolated(steps, seconds)

        value = day.attempt(f"schedule: {name}, {prepared[name].steps} steps a call", lengths)
        if value is not None:
            found[name] = value
    if len(found) == 2:
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


def videos(day: Day, count: int, *, short: bool = False) -> dict[str, Any]:
    """How many times faster several videos are together than one by one.

    Args:
      day: that notes a failure.
      count: of videos.
      short: two steps of each stage, to try it.
    """
    config = quick()
    if short:
        few = {name: dataclasses.replace(getattr(config, name), num_steps=2)
               for name in ("latent", "latents", "tuning")}  # fmt: skip
        config = dataclasses.replace(config, **few)
    speedup = day.attempt(f"{count} videos at once", lambda: videos_speedup(count, config))
    return {} if speedup is None else {"videos": count, "times as fast": speedup}
