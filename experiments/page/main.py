"""Make one HTML file in which anyone turns a head, in a browser or on a phone, without a network.

`python -m experiments.page` shows what `python -m experiments.invert` found in runs/demo, and links
the page from its report; `python -m experiments.page --generator embedded --seed 3` a head that no
run is needed for. It shows the splat that `python -m experiments.splat` left, or fits one.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from eg3d_jax.errors import InputError
from eg3d_jax.folders import check_file_writable, made
from experiments import command
from experiments.page.document import Scene, page
from experiments.progress import CommandMonitor, Progress
from experiments.report.page import link_head
from experiments.subjects import HeadArgs, Subjects
from inversion.files import write_atomically
from inversion.splats.fit import SplatSettings, fit_head
from inversion.splats.gaussians import Gaussians, load_gaussians
from inversion.units import metres_of_unit

NAME = "head.html"


@dataclass(frozen=True, kw_only=True)
class Args(HeadArgs):
    """Make a page in which a head of a run, or of a generator, is turned by hand.

    Attributes:
      truncation: of the generator's head; 1 as sampled, 0 the mean head
      splat: splat.ply or splat.spz to show; that in RUN/splat if not given, and if there is none,
        one is fitted, in some minutes
      title: of the page; the name of the run if not given
      caption: a line below the head; how to turn it if not given
      output: the file; RUN/head.html if not given
      overwrite: replace an earlier one
    """

    truncation: float = 0.7
    splat: Path | None = None
    title: str | None = None
    caption: str = "Drag to turn the head, pinch or scroll to come nearer."
    output: Path | None = None
    overwrite: bool = False


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    progress = Progress()
    with progress.task("reading"):
        subjects = args.head(args.truncation)
    path = subjects.home / NAME if args.output is None else args.output
    check_output(path, args.overwrite)
    gaussians, settings = splat_of(args, subjects, progress)
    scene = Scene(
        title=args.title or f"A head: {subjects.names[0]}",
        caption=args.caption,
        note=f"{len(gaussians)} Gaussians by eg3d-jax; generator's licence: {licence(subjects)}",
        max_yaw=settings.max_yaw,
        max_pitch=settings.max_pitch,
    )
    text = page(gaussians, subjects.generator.config, scene)
    with made(path.parent):
        write_atomically(path, text.encode())
    report = path.with_name("report.html")
    if linked := path.name == NAME and report.is_file():
        link_head(report, NAME)
    progress.say(
        f"{path}: {len(text) / 1e6:.1f} MB, {len(gaussians)} Gaussians; open it in any browser"
        + (f"; {report} links it" if linked else "")
    )


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse a file that is no page, cannot be written or may not be replaced."""
    if path.suffix not in (".html", ".htm"):
        raise InputError(f"--output {path} must end in .html, so that browsers open it")
    check_file_writable(path, option="--output")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists; choose another --output, or add --overwrite")


def licence(subjects: Subjects) -> str:
    """The licence of the generator's weights in a few words."""
    return str(subjects.metadata.get("license") or "unknown").split(";")[0]


def splat_of(args: Args, subjects: Subjects, progress: Progress) -> tuple[Gaussians, SplatSettings]:
    """Load the splat that is given or lies in the run, or fit one; and how far it was fitted."""
    path = args.splat
    if path is None and args.run is not None:
        found = [subjects.home / "splat" / f"splat.{kind}" for kind in ("ply", "spz")]
        path = next(filter(Path.is_file, found), None)
    if path is None:
        settings = SplatSettings()
        monitor = CommandMonitor(progress)
        fitted = fit_head(subjects.generator, subjects.latents[0], settings, monitor=monitor)
        return fitted, settings
    metres = metres_of_unit(subjects.metadata)
    return load_gaussians(path, metres=metres), settings_beside(path, subjects)


def settings_beside(path: Path, subjects: Subjects) -> SplatSettings:
    """How far a splat was fitted, by the splat.json beside it; the defaults if there is none.

    Raises:
      InputError: if it is of another generator than the head's.
    """
    try:
        known = json.loads(path.with_name("splat.json").read_text())
        yaw, pitch = (float(known["settings"][name]) for name in ("max_yaw", "max_pitch"))
        made_of = known["generator"]["fingerprint"]
        settings = SplatSettings(max_yaw=math.radians(yaw), max_pitch=math.radians(pitch))
    except (OSError, ValueError, KeyError, TypeError):
        return SplatSettings()
    if made_of != subjects.metadata.get("fingerprint"):
        raise InputError(
            f"{path} was made of another head than this; make it again by `eg3d-jax splat "
            "--overwrite`, or name another --splat"
        )
    return settings


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.page", prog=prog)
