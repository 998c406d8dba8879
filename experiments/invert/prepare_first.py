"""Preparation of raw videos, photos and frames with others' cameras, in folders beside the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from eg3d_jax.errors import InputError
from experiments.invert.args import Args
from experiments.invert.plan import options_of
from experiments.prepare.folder import PreparedFolder
from experiments.prepare.sources import check_apart, expanded, is_list, named_scenes
from experiments.runs.folder import RunFolder
from experiments.subjects import load_generator
from inversion.footage.pictures import Source, about, film_of, find_people, is_footage
from inversion.footage.prepare import FootageSettings, prepare_footage
from inversion.foreign_cameras.convert import (
    CAMERAS_FILE,
    ConversionSettings,
    convert_frames,
    scene_fingerprint,
)
from inversion.frames.labels import LABELS_FILE
from inversion.frames.scene_files import find_cameras, read_scene
from inversion.monitor import Monitor
from inversion.units import World, world_of


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What of a command's frames must be prepared first.

    Attributes:
      args: the command's, with the folders of prepared frames in place of footage.
      people: footage by the folder into which it is prepared.
      scenes: the same of frames with cameras of other programs.
      world: of the generator, into which all are brought.
    """

    args: Args
    people: Mapping[Path, Source] = field(default_factory=dict)
    scenes: Mapping[Path, Path] = field(default_factory=dict)
    world: World = "eg3d"


def plan_preparation(args: Args) -> Preparation:
    """Find raw videos, photos and others' cameras among the command's frames; nothing is written.

    A folder of photos or videos counts where no dataset.json is near. One person's footage goes to
    RUN_footage, that of several to RUN_footage/NAME, and so do frames with cameras of other
    programs. Cameras found in footage are refined unless told otherwise.

    Raises:
      InputError: if footage cannot be read, or the command cannot go on with it.
    """
    files: list[Path] = []
    rest: list[Path] = []
    given: list[Path] = []
    for path in args.frames:
        matches = expanded(path)
        kinds = [_kind(one) for one in matches]
        # Patterns and lists without any are left to find_videos.
        for one, kind in zip(matches, kinds, strict=True) if any(kinds) else [(path, "")]:
            if kind == "cameras":
                given.append(one)
            elif kind == "footage":
                files.append(one)
            elif one.is_dir() or one == path or is_list(path):
                rest.append(one)
    if not files and not given:
        return Preparation(args=args)
    people, named = find_people(files) if files else [], named_scenes(given)
    check_apart(named, [person.name for person in people])
    alone = len(people) + len(named) == 1 and not rest
    for person in people:
        about(person)  # which refuses what is no video
        if alone and not person.video and len(person.files) < args.views:
            raise InputError(
                f"{person.files[0]}: {len(person.files)} photo(s), fewer than the {args.views} "
                "views asked for; name more, or ask for fewer --views"
            )
    for name, path in named.items():
        count = len(read_scene(path))
        if alone and count < args.views:
            raise InputError(
                f"{path}: {count} frames of {name}, fewer than the {args.views} views asked for; "
                "add some, or ask for fewer --views"
            )
    run = args.run.resolve()  # which '.' and '..' do not name
    home = run.parent / f"{run.name}_footage"
    folders = {home if alone else home / person.name: person for person in people}
    scenes = {home if alone else home / name: path for name, path in named.items()}
    refine = args.refine_cameras
    if refine is None and people:
        refine = True
    planned = replace(args, frames=(*folders, *scenes, *rest), refine_cameras=refine)
    options_of(planned)
    for folder in folders:
        PreparedFolder(folder, overwrite=True)
    for folder in scenes:
        PreparedFolder(folder, overwrite=True, mark=CAMERAS_FILE)
    if alone:  # before the work, what would be refused after it
        with RunFolder.lock(args.run, resume=args.resume, overwrite=args.overwrite):
            pass
    world = world_of(load_generator(args.generator).origin.metadata)
    return Preparation(args=planned, people=folders, scenes=scenes, world=world)


def _kind(path: Path) -> Literal["cameras", "footage", ""]:
    """What of a path must be prepared: cameras of other programs, footage, or nothing."""
    if find_cameras(path) is not None:
        return "cameras" if film_of(path) is None else "footage"
    return "footage" if _is_raw(path) else ""


def _is_raw(path: Path) -> bool:
    """Whether a path is a file of footage, or a folder of such without labels in it or near it."""
    if not path.is_dir():
        return is_footage(path)
    near = (path / LABELS_FILE, path.absolute().parent / LABELS_FILE)
    if any(file.is_file() for file in near) or any(path.glob(f"*/{LABELS_FILE}")):
        return False
    return any(is_footage(file) for file in path.iterdir() if not file.name.startswith("."))


def prepare_first(preparation: Preparation, monitor: Monitor) -> None:
    """Prepare footage and convert cameras; what an earlier call made of the same files is kept.

    Of several people, one whose footage or cameras cannot be used has no folder then.

    Args:
      preparation: planned.
      monitor: shows it on its screen.

    Raises:
      InputError: if those of a single person cannot be used.
    """
    sources = [*preparation.people.items(), *preparation.scenes.items()]
    for folder, source in sources:
        try:
            if isinstance(source, Source):
                args = preparation.args
                settings = FootageSettings(
                    mask=args.mask_background or bool(args.refine_cameras), world=preparation.world
                )
                _prepare_footage(folder, source, settings, monitor)
            else:
                _convert(folder, source, ConversionSettings(world=preparation.world), monitor)
        except InputError as error:
            if len(preparation.args.frames) == 1:
                raise
            monitor.say(str(error))


def _prepare_footage(
    folder: Path, person: Source, settings: FootageSettings, monitor: Monitor
) -> None:
    output = PreparedFolder(folder, overwrite=True)
    if output.holds(person.fingerprint, settings):
        monitor.say(f"{folder} holds the frames of {person.name} already")
        return
    if not person.video:
        home, count = person.files[0].parent, len(person.files)
        monitor.say(f"{home}: {count} photos without {LABELS_FILE} are prepared first")
    footage = prepare_footage(person, settings, monitor=monitor)
    output.write(footage, next_command=f"eg3d-jax invert --frames {folder}", monitor=monitor)
    monitor.say(f"{folder}: {len(footage.kept)} frames; report.html shows what was found")


def _convert(folder: Path, path: Path, settings: ConversionSettings, monitor: Monitor) -> None:
    output = PreparedFolder(folder, overwrite=True, mark=CAMERAS_FILE)
    if output.holds(scene_fingerprint(path), settings):
        monitor.say(f"{folder} holds the frames of {path} already")
        return
    converted = convert_frames(path, settings, monitor=monitor)
    command = f"eg3d-jax invert --frames {folder}"
    output.write_converted(converted, next_command=command, monitor=monitor)
    monitor.say(f"{folder}: {len(converted.kept)} frames; report.html shows what was done")
