"""The bounds on time and memory that this project promises, and what keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from experiments.benchmark.cases import SAMPLER
from experiments.benchmark.measuring import Ceilings, Measurement

VIEWS = 9
LATENT, TUNING = f"latent step, {VIEWS} views", f"tuning step, {VIEWS} views"
ONE_VIEW = ("synthesis", "synthesis, planes kept", "gradient of ws", "tuning step, 1 view")
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


def cpu_bars(found: Mapping[str, Measurement], ceilings: Ceilings) -> list[Bar]:
    """Bounds for two cores, scaled by what a convolution reaches here."""
    scale = _REFERENCE_FLOPS / ceilings.convolution
    seconds = [
        ("synthesis", found["synthesis"].median, 2.9),
        ("gradient of W+", found["gradient of ws"].median, 8.0),
        ("tuning step, a view", found["tuning step, 1 view"].median, 14.0),
    ]
    return [Bar(name=n, value=v, bound=b * scale, unit="s") for n, v, b in seconds] + [
        Bar(name="gradient of W+, memory", unit="GB", bound=4.0,
            value=peak(found["gradient of ws"]) / 1e9),
    ]  # fmt: skip


def gpu_bars(found: Mapping[str, Measurement]) -> list[Bar]:
    """Bounds for one H200."""
    milliseconds = [
        ("synthesis", found["synthesis"].median, 12.0),
        ("synthesis, planes kept", found["synthesis, planes kept"].median, 8.0),
        ("latent step of 9 views, a view", found[LATENT].median / VIEWS, 20.0),
        ("tuning step of 9 views", found[TUNING].median, 250.0),
    ]
    return [Bar(name=n, value=1e3 * v, bound=b, unit="ms") for n, v, b in milliseconds]


def memory_bars(found: Mapping[str, Measurement], on_cpu: bool) -> list[Bar]:
    """What fits, how well it is foretold, and how long compiling takes."""
    bars = [
        Bar(name="latent step of 9 views, memory", unit="GB", bound=24.0 if on_cpu else 16.0,
            value=peak(found[LATENT]) / 1e9),
        Bar(name="longest compilation", unit="s", bound=60.0,
            value=max(m.compile_seconds for m in found.values())),
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
