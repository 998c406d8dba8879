"""Copies of folders of frames, given other camera labels."""

from __future__ import annotations

import glob
import shutil
from pathlib import Path

from eg3d_jax.cameras import Cameras
from experiments.errors import InputError
from experiments.frame_files import SUFFIXES
from experiments.frames_io import Frames
from experiments.labels import LABELS_FILE, plain_name, write_labels
from experiments.output_folder import OutputFolder

# What may lie beside the frames and stays true of them.
_BESIDE = ("depth.npz", "mask.npz", "parameters.npz")


def check_copy(frames: Frames, folder: Path, mark: str, *, overwrite: bool) -> OutputFolder:
    """Refuse a folder into which frames must not be copied; nothing is changed.

    Args:
      frames: to be copied.
      folder: new, empty, or with an earlier copy of the same frames.
      mark: the command's, see `OutputFolder`.
      overwrite: whether an earlier copy may be replaced.

    Raises:
      InputError: if the folder is the frames' own, or holds other pictures or what may not be
        replaced.
    """
    if folder.exists() and folder.samefile(frames.folder):
        raise InputError(f"{folder} is the folder of the frames; choose another --output")
    found = (path.relative_to(folder) for path in folder.rglob("*")
             if path.suffix.lower() in SUFFIXES and path.is_file())  # fmt: skip
    strange = [path for path in found if plain_name(path.as_posix()) not in frames.names
               and not any(part.startswith(".") for part in path.parts)]  # fmt: skip
    if strange:
        raise InputError(
            f"{folder / strange[0]} is none of the frames copied; choose another --output"
        )
    written = (LABELS_FILE, *_BESIDE, *map(glob.escape, frames.names))
    return OutputFolder(folder, mark, written, overwrite=overwrite)


def copy_frames(frames: Frames, folder: Path, cameras: Cameras) -> None:
    """Copy the images of a folder of frames, and what is known of them, with labels of these.

    Args:
      frames: to be copied; each copy lies where its label says.
      folder: empty.
      cameras: [T], of their labels there.
    """
    files = dict(zip(frames.names, frames.paths, strict=True))
    files |= {name: path for name in _BESIDE if (path := frames.folder / name).exists()}
    for name, source in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    write_labels(folder, frames.names, cameras)
