"""The bounds on time and memory that this project promises, and what keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from experiments.benchmark.cases import SAMPLER
from experiments.benchmark.measuring import Measurement

VIEWS = 9
LATENT, TUNING = f"latent step, {VIEWS} views", f"tuning step, {VIEWS} views"
ONE_VIEW = (
    "synthesis", "synthesis, planes kept", "gradient of ws",
    "latent step, 1 view", "tuning step, 1 view",
)  # fmt: skip
# What PyTorch's convolution of 512 channels reached where the CPU bounds were set.
_REFERENCE_FLOPS = 205e9


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One promise.

    Attributes:
      name: what is measured.
      value: what was found.
      bound: what is promised.
      unit: of both.
      at_least: whether more is better.
    """

    name: str
    value: float
    bound: float
    unit: str
    at_least: bool = False

    @property
    def kept(self) -> bool:
        """Whether the value is within the bound."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def cpu_bars(found: Mapping[str, Measurement], pace: Mapping[str, float]) -> list[Bar]:
    """Bounds for two cores, each scaled by what a convolution reached around its measurement."""
    seconds = [
        ("synthesis", "synthesis", 2.9),
        ("gradient of W+", "gradient of ws", 8.0),
        ("tuning step, a view", "tuning step, 1 view", 14.0),
    ]
    return [
        Bar(name=name, value=found[case].median, bound=bound * _REFERENCE_FLOPS / pace[case],
            unit="s")
        for name, case, bound in seconds
    ] + [
        Bar(name="gradient of W+, memory", unit="GB", bound=4.0,
            value=peak(found["gradient of ws"]) / 1e9),
    ]  # fmt: skip


def gpu_bars(found: Mapping[str, Measurement]) -> list[Bar]:
    """Bounds for one H200, as far as the programs were measured."""
    milliseconds = [
        ("synthesis", "synthesis", 1, 12.0),
        ("synthesis, planes kept", "synthesis, planes kept", 1, 8.0),
        (f"latent step of {VIEWS} views, a view", LATENT, VIEWS, 20.0),
        (f"tuning step of {VIEWS} views", TUNING, 1, 250.0),
    ]
    return [
        Bar(name=name, value=1e3 * found[case].median / share, bound=bound, unit="ms")
        for name, case, share, bound in milliseconds
        if case in found
    ]


def compilation_bar(found: Mapping[str, Measurement]) -> Bar:
    """How long the slowest of the programs took to compile."""
    longest = max(m.compile_seconds for m in found.values())
    return Bar(name="longest compilation", unit="s", bound=60.0, value=longest)


def memory_bars(found: Mapping[str, Measurement], on_cpu: bool) -> list[Bar]:
    """What fits, and how well it is foretold."""
    bars = [
        Bar(name="latent step of 9 views, memory", unit="GB", bound=24.0 if on_cpu else 20.0,
            value=peak(found[LATENT]) / 1e9),
    ]  # fmt: skip
    for name in ("gradient of ws", LATENT, TUNING):
        measured = found[name].measured_bytes
        if measured:
            bars.append(
                Bar(name=f"{name}, memory foretold against measured", unit="%", bound=20.0,
                    value=100 * abs(found[name].peak_bytes / measured - 1))
            )  # fmt: skip
    return bars


def peak(measurement: Measurement) -> int:
    """The larger of what XLA planned and what was measured."""
    return max(measurement.peak_bytes, measurement.measured_bytes or 0)


def sampler_share(found: Mapping[str, Measurement]) -> float:
    """Time of the lookup's gradient over that of the whole."""
    return found[SAMPLER].median / found["gradient of ws"].median
