"""Prepare raw video, photos or others' frames for an inversion: square crops with EG3D's cameras.

`python -m experiments.prepare head.mp4 --output video` finds the face in every picture and the
cameras that see it, keeps the frames that are worth fitting, and leaves them in `video` as
`experiments.invert` takes them, with `report.html` to judge them by. Photos of one person in a
folder are prepared alike. Several videos or folders are several people's: a folder each. Of a
folder with cameras of other programs (a transforms.json, a COLMAP model, Metashape's XML) these are
brought into EG3D's world.
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import tyro

from eg3d_jax.errors import InputError
from experiments import command
from experiments.command import check_limits
from experiments.prepare.folder import PreparedFolder, prepared_world
from experiments.prepare.sources import check_apart, split_sources
from experiments.progress import CommandMonitor, Progress
from inversion.footage.pictures import Source, about, find_people
from inversion.footage.prepare import FOOTAGE_FILE, FootageSettings, NoFace, prepare_footage
from inversion.foreign_cameras.convert import (
    CAMERAS_FILE,
    Alignment,
    ConversionSettings,
    convert_frames,
)
from inversion.frames.camera_files import read_labels
from inversion.frames.labels import LABELS_FILE
from inversion.units import World

_USUAL, _CONVERSION = FootageSettings(), ConversionSettings()
# Options that only footage, or only frames with cameras have.
_OF_FOOTAGE = ("start", "end", "fps", "person", "max_yaw", "track", "keep_all", "mask")
_OF_CAMERAS = ("align", "front", "timestep")


@dataclass(frozen=True, kw_only=True)
class Args:
    """Prepare raw video, photos or frames with others' cameras of a head.

    Attributes:
      footage: a video, photos of one person or a folder of them, or a folder of frames with a
        transforms.json, a COLMAP model or Metashape's XML; several, or a pattern in quotes, are
        several people's
      output: new folder for the frames; of several people's, for a folder each
      start: seconds of a video before which nothing is taken
      end: seconds after which nothing is taken
      fps: frames a second of a video that are kept, of each the best; instead of --frames
      frames: how many are kept, spread by yaw; 60 of a video, all of photos and of frames with
        cameras if not given
      size: side of the frames, pixels
      person: x and y of a pixel near the face that is meant, where there are several
      max_yaw: degrees to both sides; frames that are turned further are left out
      track: track points in a video where the head is turned too far for landmarks
      keep_all: keep every frame in which the head was found, blurred and hidden ones too
      mask: find head and body in each frame, too, and leave masks in OUTPUT/mask
      align: of frames with cameras, what brings these into EG3D's world: 'face' landmarks in the
        pictures, 'cameras' the point at which they look, 'none' nothing, as they are there; 'auto'
        the first of none, face and cameras that will do
      front: name of a frame that sees the face from the front, where the cameras align it
      timestep: of frames of a moving head by several cameras, the moment that is taken
      world: where heads lie for the generator that is meant: as in EG3D's crops, or as the
        embedded one has them; of frames with cameras, if the face aligns these
      overwrite: replace an earlier call's folder
    """

    footage: tyro.conf.Positional[tuple[Path, ...]]
    output: Path = Path("runs/prepared")
    start: float | None = None
    end: float | None = None
    fps: float | None = None
    frames: int | None = None
    size: int = _USUAL.size
    person: tuple[float, float] | None = None
    max_yaw: float = _USUAL.max_yaw
    track: bool = _USUAL.track
    keep_all: bool = _USUAL.keep_all
    mask: bool = _USUAL.mask
    align: Alignment = _CONVERSION.align
    front: str | None = None
    timestep: int | None = None
    world: World = _CONVERSION.world
    overwrite: bool = False

    @property
    def settings(self) -> FootageSettings:
        """What is taken of the footage."""
        names = [field.name for field in dataclasses.fields(FootageSettings)]
        return FootageSettings(**{name: getattr(self, name) for name in names})

    @property
    def conversion(self) -> ConversionSettings:
        """How frames with cameras are converted."""
        names = [field.name for field in dataclasses.fields(ConversionSettings)]
        return ConversionSettings(**{name: getattr(self, name) for name in names})


# What `eg3d-jax invert` fits unless told otherwise.
_USUAL_VIEWS = 7
_LIMITS = {
    "start": (0, 1e6), "end": (0, 1e6), "fps": (0.01, 30), "frames": (1, 100_000),
    "size": (16, 4096), "max_yaw": (1, 180),
}  # fmt: skip


def main(args: Args) -> int:
    """Run the command; errors that a user can act on are `InputError`s.

    Returns:
      0, or 1 if there is someone of whom no frame can be used, or whose cameras cannot.
    """
    check_limits(args, _LIMITS)
    settings, conversion = args.settings, args.conversion
    footage, scenes = split_sources(args.footage)
    people = find_people(footage) if footage or not scenes else []
    _check_options(args, people, scenes)
    for person in people:
        about(person)  # which refuses what is no video, before any work
    check_apart(scenes, [person.name for person in people])
    alone = len(people) + len(scenes) == 1

    def folder_of(name: str, mark: str) -> PreparedFolder:
        path = args.output if alone else args.output / name
        return PreparedFolder(path, overwrite=args.overwrite, mark=mark)

    filmed = [folder_of(person.name, FOOTAGE_FILE) for person in people]
    given = [folder_of(name, CAMERAS_FILE) for name in scenes]
    monitor, bad = CommandMonitor(Progress()), 0
    for person, output in zip(people, filmed, strict=True):
        if not alone:
            monitor.say(f"{person.name}:")
        bad += not _prepared(person, settings, output, monitor, alone=alone)
    for (name, path), output in zip(scenes.items(), given, strict=True):
        if not alone:
            monitor.say(f"{name}:")
        bad += not _converted(path, conversion, output, monitor, alone=alone)
    folders = [output.path for output in (*filmed, *given)]
    done = {folder: count for folder in folders if (count := frames_in(folder))}
    if len(done) > 1:
        worlds = {prepared_world(folder) for folder in done}
        world = "eg3d" if "eg3d" in worlds else None
        monitor.say(f"\nNext: {invert_command(done, args.output, world=world)}")
    return 1 if bad else 0


def _check_options(args: Args, people: Sequence[Source], scenes: Mapping[str, Path]) -> None:
    """Refuse options that none of the sources has.

    Raises:
      InputError: naming one.
    """
    usual = Args(footage=args.footage)
    others, what = (), ""
    if not people:
        others, what = _OF_FOOTAGE, "footage, and these frames have cameras"
    if not scenes:
        others, what = _OF_CAMERAS, "frames that have cameras, and here are none"
    for name in others:
        if getattr(args, name) != getattr(usual, name):
            raise InputError(f"--{name.replace('_', '-')} is for {what}; leave it out")


def _converted(
    path: Path,
    settings: ConversionSettings,
    output: PreparedFolder,
    monitor: CommandMonitor,
    *,
    alone: bool,
) -> bool:
    """Convert frames with cameras; whether it succeeded."""
    try:
        converted = convert_frames(path, settings, monitor=monitor)
    except InputError as error:
        if alone:
            raise
        print(f"error: {error}", file=sys.stderr)
        return False
    count = len(converted.kept)
    next_command = invert_command({output.path: count}, output.path, world=converted.world)
    output.write_converted(converted, next_command=next_command, monitor=monitor)
    monitor.say(f"{output.path}: {count} frames; report.html and {CAMERAS_FILE} tell what was done")
    if alone:
        monitor.say(f"\nNext: {next_command}")
    return True


def _prepared(
    person: Source,
    settings: FootageSettings,
    output: PreparedFolder,
    monitor: CommandMonitor,
    *,
    alone: bool,
) -> bool:
    """Prepare the footage of one person; whether any frame is left."""
    try:
        footage = prepare_footage(person, settings, monitor=monitor)
    except NoFace as error:
        print(f"error: {error}", file=sys.stderr)
        return False
    except InputError as error:
        if alone:
            raise
        print(f"error: {error}", file=sys.stderr)
        return False
    kept = {output.path: len(footage.kept)}
    next_command = invert_command(kept, output.path, world=footage.world)
    output.write(footage, next_command=next_command, monitor=monitor)
    monitor.say(f"{output.path / 'report.html'}: open it in a browser")
    if alone:
        monitor.say(f"\nNext: {next_command}")
    return True


def invert_command(folders: Mapping[Path, int], home: Path, *, world: World | None) -> str:
    """What to type to invert prepared folders with so many frames each.

    Args:
      folders: with their numbers of frames.
      home: after which the run is named.
      world: in which the heads lie, if that is known.
    """
    named = " ".join(shlex.quote(str(folder)) for folder in folders)
    run = shlex.quote(str(Path("runs") / f"{home.resolve().name}_head"))
    fewest = min(folders.values())
    views = f" --views {fewest}" if fewest < _USUAL_VIEWS and len(folders) == 1 else ""
    generator = " --generator weights/ffhq512-128" if world == "eg3d" else ""
    return f"eg3d-jax invert --frames {named} --run {run}{views}{generator}"


def frames_in(folder: Path) -> int:
    """How many frames a prepared folder holds; 0 of one that is not finished."""
    return len(read_labels(folder)) if (folder / LABELS_FILE).is_file() else 0


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.prepare", prog=prog)


if __name__ == "__main__":
    start()
