"""How long many videos take on some workers or many, by the measured times of a run's videos.

`python -m experiments.benchmark.workers runs/all` draws videos like those of the run and gives them
to workers in two ways: from a queue, each to the one that is free first, as `invert --cluster`
does; and by a fixed split, every worker its share from the beginning.
"""

from __future__ import annotations

import heapq
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import tyro

from eg3d_jax.errors import InputError
from experiments import command
from experiments.command import check_limits, check_seed
from experiments.report.tables import markdown
from inversion.wording import decimals


@dataclass(frozen=True, kw_only=True)
class Args:
    """Simulate many videos on some workers or many, from a queue and by a fixed split.

    Attributes:
      run: folder of a run of several videos; its summary.json has their times
      videos: how many
      workers: numbers of workers
      start: seconds until a worker has begun and compiled
      slow: share of the workers that take twice as long
      draws: of all videos, over which is averaged
      seed: of the draws
    """

    run: tyro.conf.Positional[Path]
    videos: int = 1000
    workers: tuple[int, ...] = (1, 4, 16, 64, 256)
    start: float = 30.0
    slow: float = 0.0
    draws: int = 20
    seed: int = 0


_LIMITS = {
    "videos": (1, 1_000_000), "workers": (1, 100_000), "start": (0, 1_000_000), "slow": (0, 1),
    "draws": (1, 1000),
}  # fmt: skip


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    check_limits(args, _LIMITS)
    check_seed(args.seed)
    print(workers_table(read_seconds(args.run), args))


def read_seconds(run: Path) -> list[float]:
    """Seconds that each video of a run took.

    Raises:
      InputError: if the run tells of none.
    """
    try:
        entries = json.loads((run / "summary.json").read_text())["videos"]
        found = [float(entry["seconds"]) for entry in entries if entry["status"] == "done"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{run} holds no summary of several videos ({error})") from None
    if not all(0 < seconds < np.inf for seconds in found) or not found:
        raise InputError(f"{run}/summary.json has no times of videos that are done")
    return found


def workers_table(seconds: Sequence[float], args: Args) -> str:
    """Hours by number of workers, and by how much a fixed split takes longer."""
    rng, rows = np.random.default_rng(args.seed), []
    for count in args.workers:
        queue, split = [], []
        slow = round(args.slow * count)
        paces = [2.0] * slow + [1.0] * (count - slow)
        for _ in range(args.draws):
            drawn, pace = rng.choice(seconds, args.videos).tolist(), rng.permutation(paces).tolist()
            queue.append(queue_seconds(drawn, pace, args.start))
            split.append(split_seconds(drawn, pace, args.start))
        hours, fixed = statistics.mean(queue) / 3600, statistics.mean(split) / 3600
        power = sum(1 / pace for pace in paces)
        least = (statistics.mean(seconds) * args.videos / power + args.start) / 3600
        rows.append([
            str(count), decimals(hours, 2), decimals(fixed, 2),
            decimals(100 * (fixed / hours - 1), 0) + "%", decimals(100 * least / hours, 0) + "%",
        ])  # fmt: skip
    return markdown(("workers", "queue, h", "split, h", "split takes more", "busy"), rows)


def queue_seconds(seconds: Sequence[float], pace: Sequence[float], start: float) -> float:
    """Until the last video is done if each goes to the worker that is free first.

    Args:
      seconds: of each video, in the order of the queue.
      pace: of each worker, by which the seconds are multiplied.
      start: seconds before a worker's first video.
    """
    free = [(start, each) for each in pace]
    heapq.heapify(free)
    end = 0.0
    for taken in seconds:
        at, each = heapq.heappop(free)
        at += taken * each
        end = max(end, at)
        heapq.heappush(free, (at, each))
    return end


def split_seconds(seconds: Sequence[float], pace: Sequence[float], start: float) -> float:
    """The same if every worker has each so-manieth video as its own."""
    count = len(pace)
    own = [sum(seconds[i::count]) * each for i, each in enumerate(pace)]
    return start + max(own)


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.benchmark.workers", prog=prog, cached=False)


if __name__ == "__main__":
    start()
