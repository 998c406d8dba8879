"""Preparation of raw videos and photos that `--frames` names, in folders beside the run."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from eg3d_jax.errors import InputError
from experiments.invert.args import Args
from experiments.invert.plan import options_of
from experiments.prepare.folder import PreparedFolder
from experiments.progress import CommandMonitor
from experiments.runs.folder import RunFolder
from inversion.footage.pictures import Source, about, find_people, is_footage
from inversion.footage.prepare import FootageSettings, prepare_footage
from inversion.frames.labels import LABELS_FILE


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What of a command's frames must be prepared first.

    Attributes:
      args: the command's, with the folders of prepared frames in place of footage.
      people: footage by the folder into which it is prepared.
    """

    args: Args
    people: Mapping[Path, Source] = field(default_factory=dict)


def plan_preparation(args: Args) -> Preparation:
    """Find raw videos and photos among the command's frames; nothing is written.

    A folder of photos or videos counts where no dataset.json is near. One person's footage goes to
    RUN_footage, that of several to RUN_footage/NAME. Cameras found in footage are refined unless
    told otherwise.

    Raises:
      InputError: if footage cannot be read, or the command cannot go on with it.
    """
    files, rest = [], []
    for path in args.frames:
        found = [path]
        if glob.has_magic(str(path)) and not path.exists():
            names = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
            matches = [Path(name) for name in names]
            if any(map(_is_raw, matches)):  # else it is left to find_videos
                found = [one for one in matches if _is_raw(one) or one.is_dir()]
        for one in found:
            (files if _is_raw(one) else rest).append(one)
    if not files:
        return Preparation(args=args)
    if args.coordinator is not None:
        raise InputError(
            f"--coordinator: {files[0]} must be prepared first; use `eg3d-jax prepare`, and name "
            "the folders that it makes"
        )
    people = find_people(files)
    alone = len(people) == 1 and not rest
    for person in people:
        about(person)  # which refuses what is no video
        if alone and not person.video and len(person.files) < args.views:
            raise InputError(
                f"{person.files[0]}: {len(person.files)} photo(s), fewer than the {args.views} "
                "views asked for; name more, or ask for fewer --views"
            )
    run = args.run.resolve()  # which '.' and '..' do not name
    home = run.parent / f"{run.name}_footage"
    folders = {home if alone else home / person.name: person for person in people}
    refine = True if args.refine_cameras is None else args.refine_cameras
    planned = replace(args, frames=(*folders, *rest), refine_cameras=refine)
    options_of(planned)
    for folder in folders:
        PreparedFolder(folder, overwrite=True)
    if alone:  # before the work, what would be refused after it
        with RunFolder.lock(args.run, resume=args.resume, overwrite=args.overwrite):
            pass
    return Preparation(args=planned, people=folders)


def _is_raw(path: Path) -> bool:
    """Whether a path is a file of footage, or a folder of such without labels in it or near it."""
    if not path.is_dir():
        return is_footage(path)
    near = (path / LABELS_FILE, path.absolute().parent / LABELS_FILE)
    if any(file.is_file() for file in near) or any(path.glob(f"*/{LABELS_FILE}")):
        return False
    return any(is_footage(file) for file in path.iterdir() if not file.name.startswith("."))


def prepare_first(preparation: Preparation, monitor: CommandMonitor) -> None:
    """Prepare footage; what an earlier call prepared of the same files is used again.

    Of several people, one whose footage cannot be used has no folder then.

    Args:
      preparation: planned.
      monitor: shows it on its screen.

    Raises:
      InputError: if a single person's footage cannot be used.
    """
    shown = monitor.beside()  # the inversion's seconds and logs leave it out
    settings = FootageSettings(mask=preparation.args.mask_background)
    for folder, person in preparation.people.items():
        output = PreparedFolder(folder, overwrite=True)
        if output.holds(person, settings):
            shown.say(f"{folder} holds the frames of {person.name} already")
            continue
        if not person.video:
            home, count = person.files[0].parent, len(person.files)
            shown.say(f"{home}: {count} photos without {LABELS_FILE} are prepared first")
        try:
            footage = prepare_footage(person, settings, monitor=shown)
        except InputError as error:
            if len(preparation.args.frames) == 1:
                raise
            shown.say(str(error))
            continue
        command = f"eg3d-jax invert --frames {folder}"
        output.write(footage, next_command=command, monitor=shown)
        shown.say(f"{folder}: {len(footage.kept)} frames; report.html shows what was found")
