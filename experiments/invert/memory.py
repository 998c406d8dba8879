"""Memory of a run before it starts: what XLA plans for its steps, and how to need less."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax

from eg3d_jax.errors import InputError
from experiments.progress import Progress
from inversion.wording import beside

_GB = 1e9
_FEWEST_RAYS = 64


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How much is worked on together; less needs less memory and more time.

    Attributes:
      videos: on a device, where they share the generator.
      views: of a video.
      rays: of a view.
    """

    videos: int
    views: int
    rays: int


def device_memory() -> float | None:
    """Bytes that each device of this process has to give, or None if it does not tell."""
    devices = jax.local_devices()
    stats = devices[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    free = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if free is None else 1024 * float(free) / len(devices)


def fit_in_memory(
    peak: Callable[[Spread], int], spread: Spread, budget: float | None, progress: Progress
) -> Spread:
    """The widest spread whose peak is within the budget.

    Args:
      peak: bytes on each device that a spread needs; called for each that is tried.
      spread: to begin with.
      budget: bytes on each device; None for no limit.
      progress: told what is found.

    Raises:
      InputError: if even one ray chunk of one view of one video needs more.
    """
    while True:
        needed = peak(spread)
        planned, limit = f"{needed / _GB:.2f}", ""
        if budget is not None:
            planned, there = beside(needed / _GB, budget / _GB, 2, "f")
            limit = f" of {there} GB"
        progress.say(f"memory: {planned} GB planned{limit}")
        if budget is None or needed <= budget:
            return spread
        less = narrower(spread, budget / needed)
        if less is None:
            least, there = beside(needed / _GB, budget / _GB, 2, "f")
            raise InputError(
                f"the smallest steps need {least} GB of memory, more than the {there} GB there "
                "are; give more by --memory-budget, or use a larger device"
            )
        progress.say(
            f"too much: now {less.videos} videos, {less.views} views and {less.rays} rays at once"
        )
        spread = less


def narrower(spread: Spread, ratio: float) -> Spread | None:
    """A smaller spread, about `ratio` of the memory: fewer videos, then views, then rays.

    Returns:
      None if nothing is left to divide.
    """
    for name in ("videos", "views"):
        count = getattr(spread, name)
        if count > 1:
            return dataclasses.replace(spread, **{name: min(max(int(count * ratio), 1), count - 1)})
    wanted = min(spread.rays * ratio, spread.rays - 1)
    divisors = [n for n in range(_FEWEST_RAYS, spread.rays) if spread.rays % n == 0]
    if not divisors:
        return None
    fitting = [n for n in divisors if n <= wanted]
    return dataclasses.replace(spread, rays=max(fitting) if fitting else min(divisors))
