"""Turn a head in the browser: latents, depth, normals, density, the fitted views, and exports.

`python -m experiments.view` shows what `python -m experiments.invert` found in runs/demo, and
prints the address to open; `python -m experiments.view runs/video --frames video` shows the targets
too; `python -m experiments.view --generator embedded --seed 3` needs no run. It wants
`pip install -e '.[view]'`.

Drag to turn the head, scroll to zoom. On a machine reached by SSH, start it there and, on the one
with the browser, `ssh -L 8080:127.0.0.1:8080 MACHINE`; then open http://127.0.0.1:8080 there.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from eg3d_jax.errors import InputError
from eg3d_jax.folders import check_writable
from experiments import command
from experiments.progress import Progress
from experiments.subjects import HeadArgs, Subjects
from experiments.view.exports import Exports
from experiments.view.head import Head, Look
from experiments.view.page import Exhibit
from experiments.view.server import LOOPBACK, Server, check_port, load_viser
from experiments.view.targets import load_targets
from inversion.direction_files import load_directions
from inversion.editing import Directions

_MESH_RESOLUTIONS = range(8, 513)
_TIMED_PICTURES = 3


@dataclass(frozen=True, kw_only=True)
class Args(HeadArgs):
    """Show a run's head, or a head of a generator, in the browser.

    Attributes:
      frames: folder of the frames that the run was fitted to, to show them as targets
      crop: take the central square of frames that are not square
      directions: of edits, each with a slider: any file that `python -m experiments.edit` takes or
        writes; RUN/edit/directions.npz if it exists and none is given
      moving_side: pixels along a side of the volume rendering while the head moves; half of the
        generator's if not given
      mesh_resolution: samples along each side of an exported mesh's grid, 8 to 512
      output: folder for exports; RUN/view if not given
      host: address to listen on; any other than this machine's own lets others in
      port: to listen on
    """

    frames: Path | None = None
    crop: bool = False
    directions: Path | None = None
    moving_side: int | None = None
    mesh_resolution: int = 128
    output: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8080


def main(args: Args) -> None:
    """Run the command until it is interrupted."""
    server = open_viewer(args)
    try:
        threading.Event().wait()
    finally:
        server.stop()


def open_viewer(args: Args) -> Server:
    """Start the server in threads of its own and print its address; `stop` ends it.

    Raises:
      InputError: for what a user can act on.
    """
    check(args)
    progress = Progress()
    with progress.task("reading"):
        subjects = args.head(truncation=1.0)
        largest = subjects.generator.config.neural_side
        if args.moving_side is not None and not 1 <= args.moving_side <= largest:
            raise InputError(f"--moving-side {args.moving_side} must be from 1 to {largest}")
        targets = load_targets(subjects, args.frames, crop=args.crop)
        directions = find_directions(args, subjects, progress)
        folder = subjects.home / "view" if args.output is None else args.output
        check_writable(folder, option="--output")
    head = Head(subjects, directions=directions, moving_side=args.moving_side)
    with progress.task("compiling"):
        moving, still = (pictures_a_second(head, moving=moving) for moving in (True, False))
    exhibit = Exhibit(
        head=head,
        targets=targets,
        exports=Exports(folder, subjects),
        mesh_resolution=args.mesh_resolution,
    )
    server = Server(exhibit, args.host, args.port)
    progress.say(
        f"{subjects.names[0]}: {moving:.0f} pictures a second while moving, {still:.1f} still\n"
        f"open http://{args.host}:{args.port} (Ctrl-C ends)"
    )
    return server


def check(args: Args) -> None:
    """Refuse what cannot be served, and warn of an address that others can reach."""
    load_viser()
    if args.mesh_resolution not in _MESH_RESOLUTIONS:
        raise InputError(f"--mesh-resolution {args.mesh_resolution} must be from 8 to 512")
    check_port(args.host, args.port)
    if args.host not in LOOPBACK:
        print(
            f"warning: anyone who reaches port {args.port} of {args.host} can see this head, "
            "control the viewer and make it write files; there is no password",
            file=sys.stderr,
        )


def find_directions(args: Args, subjects: Subjects, progress: Progress) -> Directions | None:
    """Find the directions given, or those that an earlier edit left beside the head, if any."""
    path = args.directions
    if path is None:
        path = subjects.home / "edit" / "directions.npz"
        if not path.is_file():
            return None
    return load_directions(path, subjects.generator, subjects.metadata, progress.say)


def pictures_a_second(head: Head, *, moving: bool) -> float:
    """Measure how fast a head is drawn, after the programs are compiled."""
    camera = head.generator.frontal_camera()
    head.picture(camera, Look(), moving=moving)
    started = time.monotonic()
    for _ in range(_TIMED_PICTURES):
        head.picture(camera, Look(), moving=moving)
    return _TIMED_PICTURES / (time.monotonic() - started)


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.view", prog=prog)
