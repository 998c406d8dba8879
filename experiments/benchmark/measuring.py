"""Compile a case, run it, and set what it took beside what this device can do."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from experiments.benchmark.cases import Case
from experiments.benchmark.peak_memory import PeakMemory, tree_bytes

_MATRIX_SIDE = {"cpu": 2048}
_COPY_BYTES = 1 << 28


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """What this device reached on the simplest of programs, in the same run.

    Attributes:
      flops: of a large float32 matrix product, operations a second.
      bandwidth: of a large copy, bytes read and written a second.
    """

    flops: float
    bandwidth: float


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one case took.

    Attributes:
      name: of the case.
      compile_seconds: to trace and compile, with no cache.
      seconds: of every run but the first.
      flops: floating-point operations that XLA counts; it counts the body of a loop once.
      bytes: read and written, as XLA counts them.
      peak_bytes: arguments, results and what lives between them, by XLA's own plan of memory.
      measured_bytes: the same as measured while it ran; None where that cannot be known.
    """

    name: str
    compile_seconds: float
    seconds: tuple[float, ...]
    flops: float
    bytes: float
    peak_bytes: int
    measured_bytes: int | None = None

    @property
    def median(self) -> float:
        """Seconds of a run, the median."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Largest minus smallest seconds, over the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median

    def arithmetic_share(self, ceilings: Ceilings) -> float:
        """Operations a second over the ceiling."""
        return self.flops / self.median / ceilings.flops

    def traffic_share(self, ceilings: Ceilings) -> float:
        """Bytes a second over the ceiling; above 1 where caches, not memory, serve them."""
        return self.bytes / self.median / ceilings.bandwidth


def compile_case(case: Case) -> tuple[jax.stages.Compiled, float]:
    """A case as a compiled program, and the seconds that it took to trace and compile."""
    started = time.perf_counter()
    donated = 0 if case.carries else ()
    compiled = jax.jit(case.function, donate_argnums=donated).lower(*case.arguments).compile()
    return compiled, time.perf_counter() - started


def measure(
    case: Case, repeats: int, done: tuple[jax.stages.Compiled, float] | None = None
) -> Measurement:
    """Compile a case, unless `compile_case` has, and run it `repeats` times after a first run."""
    compiled, compile_seconds = done or compile_case(case)
    # A step eats its state; a copy leaves the case as it was.
    arguments = list(case.arguments)
    if case.carries:
        arguments[0] = jax.tree.map(jnp.copy, arguments[0])
    seconds, held, measured = [], tree_bytes(arguments), None
    for _ in range(repeats + 1):
        with PeakMemory() as peak:
            started = time.perf_counter()
            result = jax.block_until_ready(compiled(*arguments))
            seconds.append(time.perf_counter() - started)
        if peak.grown is not None:
            measured = max(measured or 0, held + peak.grown)
        if case.carries:
            arguments[0] = result[0]
        del result  # else the next run's results come on top
    cost = _counted(compiled.cost_analysis())
    return Measurement(
        name=case.name,
        compile_seconds=compile_seconds,
        seconds=tuple(seconds[1:]),
        flops=cost.get("flops", 0.0),
        bytes=cost.get("bytes accessed", 0.0),
        peak_bytes=peak_bytes(compiled),
        measured_bytes=measured,
    )


def measure_ceilings(repeats: int = 5) -> Ceilings:
    """A large matrix product and a large copy on this device."""
    side = _MATRIX_SIDE.get(jax.default_backend(), 8192)
    matrix = jnp.ones((side, side))
    product = measure(
        Case(name="product", function=jax.jit(lambda a, b: a @ b), arguments=(matrix, matrix)),
        repeats,
    )
    vector = jnp.ones(_COPY_BYTES // 4)
    # A bare copy is compiled away; the sign's flip reads and writes each number once.
    copy = measure(Case(name="copy", function=jax.jit(lambda x: -x), arguments=(vector,)), repeats)
    return Ceilings(
        flops=2 * side**3 / min(product.seconds),
        bandwidth=2 * _COPY_BYTES / min(copy.seconds),
    )


class Pace:
    """How fast this machine is at StyleGAN2's work just now; others may share its cores."""

    def __init__(self):
        layout = ("NHWC", "HWIO", "NHWC")
        self._arguments = jnp.ones((1, 64, 64, 512)), jnp.ones((3, 3, 512, 512))
        self._convolve = jax.jit(
            lambda x, w: jax.lax.conv_general_dilated(
                x, w, (1, 1), "SAME", dimension_numbers=layout
            )
        )
        self._convolve(*self._arguments)

    def measure(self, runs: int = 40) -> float:
        """Operations a second of a 3 x 3 convolution of 512 channels at 64 x 64, the median."""
        seconds = []
        for _ in range(runs):
            started = time.perf_counter()
            jax.block_until_ready(self._convolve(*self._arguments))
            seconds.append(time.perf_counter() - started)
        return 2 * self._arguments[1].size * 64 * 64 / statistics.median(seconds)


def _counted(cost: Any) -> dict[str, float]:
    return cost[0] if isinstance(cost, list) else cost or {}


def peak_bytes(compiled: Any) -> int:
    """XLA's plan of a compiled program: arguments, results and what lives between them."""
    plan = compiled.memory_analysis()
    if plan is None:
        return 0
    shared = plan.alias_size_in_bytes  # donated arguments that hold results
    held = plan.argument_size_in_bytes + plan.output_size_in_bytes - shared
    return int(held + plan.temp_size_in_bytes)
