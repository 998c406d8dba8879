"""What runs would cost by measured steps: against views, videos and devices.

`python -m experiments.benchmark.scale FILE` reads what `experiments.benchmark.bars --out FILE`
measured. A step takes a fixed time and one for each view, which its times for one view and for nine
tell apart; devices share nothing while they invert, each takes whole videos; programs are compiled
once on each.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import tyro

from eg3d_jax.errors import InputError
from experiments import command
from experiments.benchmark.promises import VIEWS
from experiments.command import check_limits
from experiments.report.tables import markdown

_STAGES = ("latent", "tuning")


@dataclass(frozen=True, kw_only=True)
class Args:
    """Work out what runs would cost, from measured steps.

    Attributes:
      measured: JSON file of `python -m experiments.benchmark.bars --out`
      views: numbers of fitted views
      videos: numbers of videos
      devices: numbers of devices like the one measured
      latent_steps: of each video
      tuning_steps: of each video
    """

    measured: tyro.conf.Positional[Path]
    views: tuple[int, ...] = (1, 3, 9, 27)
    videos: tuple[int, ...] = (1, 8, 64, 512)
    devices: tuple[int, ...] = (1, 8, 64)
    latent_steps: int = 500
    tuning_steps: int = 500


@dataclass(frozen=True, kw_only=True)
class Steps:
    """A stage's step: seconds = `fixed` + `each` times the views.

    Attributes:
      fixed: seconds whatever the number of views: the planes, and Adam.
      each: seconds of a view.
      compiling: seconds, once.
    """

    fixed: float
    each: float
    compiling: float

    def seconds(self, views: int) -> float:
        """Of one step."""
        return self.fixed + self.each * views


_MOST = 1_000_000_000
_LIMITS = {
    "views": (1, _MOST), "videos": (1, _MOST), "devices": (1, _MOST),
    "latent_steps": (0, _MOST), "tuning_steps": (0, _MOST),
}  # fmt: skip


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    check_limits(args, _LIMITS)
    steps = read_steps(args.measured)
    print(views_table(steps, args))
    print(videos_table(steps, args))


def read_steps(path: Path) -> dict[str, Steps]:
    """The steps of both stages.

    Raises:
      InputError: if the file has not what is needed.
    """
    try:
        return steps_of(json.loads(path.read_text())["cases"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} holds no measured steps ({error}); make it by "
            "`python -m experiments.benchmark.bars --out FILE`"
        ) from None


def steps_of(cases: Mapping[str, Mapping[str, Any]]) -> dict[str, Steps]:
    """The steps by stage, from measured cases by name."""
    found = {}
    for stage in _STAGES:
        one, many = cases[f"{stage} step, 1 view"], cases[f"{stage} step, {VIEWS} views"]
        shortest, longest = (statistics.median(case["seconds"]) for case in (one, many))
        each = (longest - shortest) / (VIEWS - 1)
        found[stage] = Steps(
            fixed=max(shortest - each, 0.0),
            each=each,
            compiling=many["compile_seconds"],
        )
    return found


def subject_seconds(steps: Mapping[str, Steps], counts: Mapping[str, int], views: int) -> float:
    """Of one video, compilation apart, with so many steps in each stage."""
    return sum(counts[stage] * steps[stage].seconds(views) for stage in _STAGES)


def run_seconds(
    steps: Mapping[str, Steps],
    counts: Mapping[str, int],
    *,
    views: int,
    videos: int,
    devices: int,
) -> float:
    """Of a run: each device compiles, then takes its share of the videos one after another."""
    rounds = math.ceil(videos / devices)
    compiling = sum(stage.compiling for stage in steps.values())
    return compiling + rounds * subject_seconds(steps, counts, views)


def views_table(steps: Mapping[str, Steps], args: Args) -> str:
    """Markdown: a video's cost by views, and what share of it does not depend on them."""
    counts, rows = _counts(args), []
    for views in args.views:
        total = subject_seconds(steps, counts, views)
        fixed = sum(counts[stage] * steps[stage].fixed for stage in _STAGES)
        rows.append([
            str(views), *(f"{steps[stage].seconds(views):.3g}" for stage in _STAGES),
            _clock(total), f"{total / views / sum(counts.values()):.3g}", f"{fixed / total:.0%}",
        ])  # fmt: skip
    head = ["views", "latent step, s", "tuning step, s", "a video", "s a view and step", "fixed"]
    return markdown(head, rows)


def videos_table(steps: Mapping[str, Steps], args: Args) -> str:
    """Markdown: a run's cost by videos and devices, with nine views."""
    rows = [
        [str(videos), *(_clock(run_seconds(steps, _counts(args), views=VIEWS, videos=videos,
                                           devices=devices)) for devices in args.devices)]
        for videos in args.videos
    ]  # fmt: skip
    return markdown([f"videos of {VIEWS} views", *_plural(args.devices)], rows)


def _plural(devices: Sequence[int]) -> list[str]:
    return [f"{count} device{'' if count == 1 else 's'}" for count in devices]


def _counts(args: Args) -> dict[str, int]:
    return {"latent": args.latent_steps, "tuning": args.tuning_steps}


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.benchmark.scale", prog=prog, cached=False)


if __name__ == "__main__":
    start()
