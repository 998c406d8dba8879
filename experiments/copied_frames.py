"""Copies of folders of frames, to be given other camera labels."""

from __future__ import annotations

import shutil
from pathlib import Path

from experiments import output_folder
from experiments.errors import InputError
from experiments.frame_files import SUFFIXES
from experiments.frames_io import Frames
from experiments.labels import LABELS_FILE, plain_name

# What may lie beside the frames and stays true of them.
_BESIDE = ("depth.npz", "mask.npz", "parameters.npz")


def copy_frames(frames: Frames, folder: Path, mark: str, *, overwrite: bool) -> None:
    """Copy the images of a folder of frames, and what is known of them, but not the labels.

    Args:
      frames: to be copied.
      folder: new, empty, or with an earlier copy of the same frames, whose labels are removed.
      mark: the command's, see `output_folder.claim`.
      overwrite: whether an earlier copy may be replaced.

    Raises:
      InputError: if the folder is the frames' own, or holds other pictures or what may not be
        replaced; nothing in it has changed then.
    """
    if folder.exists() and folder.samefile(frames.folder):
        raise InputError(f"{folder} is the folder of the frames; choose another --output")
    strange = [p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES
               and plain_name(p.relative_to(folder).as_posix()) not in frames.names]  # fmt: skip
    if strange:
        raise InputError(f"{strange[0]} is none of the frames copied; choose another --output")
    output_folder.claim(folder, mark, (LABELS_FILE,), overwrite=overwrite)
    files = dict(zip(frames.names, frames.paths, strict=True))
    files |= {name: path for name in _BESIDE if (path := frames.folder / name).exists()}
    for name, source in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
