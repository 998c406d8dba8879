"""Folders of frames with other camera labels than those they came with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from eg3d_jax.cameras import Cameras, to_label
from experiments.disk import write_atomically
from experiments.errors import InputError
from experiments.frames_io import SUFFIXES, Frames
from experiments.labels import LABELS_FILE

# What may lie beside the frames and stays true of them.
_BESIDE = ("depth.npz", "mask.npz", "parameters.npz")


def copy_frames(frames: Frames, folder: Path) -> None:
    """Copy the images of a folder of frames, and what is known of them, but not the labels.

    Args:
      frames: to be copied.
      folder: new, empty, or with an earlier copy of the same frames.

    Raises:
      InputError: if the folder is the frames' own, or holds other pictures.
    """
    if folder.exists() and folder.samefile(frames.folder):
        raise InputError(f"{folder} is the folder of the frames; choose another --output")
    strange = [p for p in folder.rglob("*") if p.is_file() and p.suffix in SUFFIXES
               and str(p.relative_to(folder)) not in frames.names]  # fmt: skip
    if strange:
        raise InputError(f"{strange[0]} is none of the frames copied; choose another --output")
    beside = [frames.folder / name for name in _BESIDE if (frames.folder / name).exists()]
    for source in (*frames.paths, *beside):
        target = folder / source.relative_to(frames.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def write_labels(frames: Frames, cameras: Cameras, folder: Path) -> None:
    """Write EG3D's dataset.json for frames [T] with cameras [T]."""
    labels = np.asarray(to_label(cameras), np.float64).tolist()
    content = {"labels": [list(pair) for pair in zip(frames.names, labels, strict=True)]}
    write_atomically(folder / LABELS_FILE, json.dumps(content).encode())
