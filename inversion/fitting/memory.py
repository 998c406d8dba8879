"""Plan the memory of an inversion before it starts, and reduce it to a budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import jax

from eg3d_jax.errors import InputError
from inversion.wording import beside

_GB = 1e9

Planned = TypeVar("Planned")
_FEWEST_RAYS = 64


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Limits on a machine's use; None leaves the choice to the program.

    Attributes:
      videos_at_once: fitted together on a device; 1 on a CPU and up to 8 elsewhere, if None.
      memory_budget: bytes of each device; all there is, if None. Fewer videos, views and rays at
        once are taken until the steps fit.
      views_at_once: views rendered together; all if None.
      rays_at_once: rays of a view rendered together; all if None. Must divide their number.
    """

    videos_at_once: int | None = None
    memory_budget: float | None = None
    views_at_once: int | None = None
    rays_at_once: int | None = None


def within(resources: Resources, memory: float | None) -> Resources:
    """The same limits, with so many bytes of memory unless they say how many."""
    if resources.memory_budget is not None:
        return resources
    return dataclasses.replace(resources, memory_budget=memory)


@dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """Numbers of videos, views and rays in work at once; fewer need less memory and more time.

    Attributes:
      videos: on a device, where they share the generator.
      views: of a video.
      rays: of a view.
    """

    videos: int
    views: int
    rays: int


def device_memory() -> float | None:
    """Memory limit of this process's devices in bytes, or None if they do not report it."""
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
    attempt: Callable[[BatchSizes], tuple[int, Planned]],
    sizes: BatchSizes,
    budget: float | None,
    say: Callable[[str], None],
) -> tuple[BatchSizes, Planned]:
    """Find the largest sizes whose peak is within the budget.

    Args:
      attempt: sizes -> bytes that they need on each device, and what was compiled to know; called
        for each that is tried.
      sizes: to begin with.
      budget: bytes on each device; None for no limit.
      say: told what is found.

    Returns:
      The sizes, and what `attempt` compiled for them.

    Raises:
      InputError: if even one ray chunk of one view of one video needs more.
    """
    while True:
        needed, planned = attempt(sizes)
        said, limit = f"{needed / _GB:.2f}", ""
        if budget is not None:
            said, there = beside(needed / _GB, budget / _GB, 2, "f")
            limit = f" of {there} GB"
        say(f"memory: {said} GB planned{limit}")
        if budget is None or needed <= budget:
            return sizes, planned
        less = narrower(sizes, budget / needed)
        if less is None:
            least, there = beside(needed / _GB, budget / _GB, 2, "f")
            raise InputError(
                f"the smallest steps need {least} GB of memory, more than the {there} GB there "
                "are; give more by --memory-budget, or use a larger device"
            )
        say(f"too much: now {less.videos} videos, {less.views} views and {less.rays} rays at once")
        planned, sizes = None, less  # frees what was compiled


def narrower(sizes: BatchSizes, ratio: float) -> BatchSizes | None:
    """Reduce sizes to about `ratio` of the memory: fewer videos, then views, then rays.

    Returns:
      None if nothing is left to divide.
    """
    for name in ("videos", "views"):
        count = getattr(sizes, name)
        if count > 1:
            return dataclasses.replace(sizes, **{name: min(max(int(count * ratio), 1), count - 1)})
    wanted = min(sizes.rays * ratio, sizes.rays - 1)
    divisors = [n for n in range(_FEWEST_RAYS, sizes.rays) if sizes.rays % n == 0]
    if not divisors:
        return None
    fitting = [n for n in divisors if n <= wanted]
    return dataclasses.replace(sizes, rays=max(fitting) if fitting else min(divisors))
