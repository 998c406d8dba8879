"""Fitted views of a run, with their pictures if the frames are at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eg3d_jax.cameras import Cameras, from_label, to_label
from eg3d_jax.errors import InputError
from experiments.media.pictures import to_uint8
from experiments.subjects import Subjects
from experiments.view.geometry import nearest_labels
from inversion.frames.folder import check_images, load_frames, read_image


@dataclass(frozen=True, kw_only=True)
class Targets:
    """V fitted views.

    Attributes:
      cameras: [V].
      names: of their frames; the number of the view if there are none.
      pictures: uint8 [S, S, 3] each, or nothing.
    """

    cameras: Cameras
    names: tuple[str, ...]
    pictures: tuple[np.ndarray, ...] = ()


def load_targets(subjects: Subjects, folder: Path | None, *, crop: bool = False) -> Targets:
    """Load the fitted views of a run.

    Args:
      subjects: a run's head, or a generator's, which has no views.
      folder: of the frames that the run was fitted to; each view gets the frame whose label is
        closest.
      crop: take the central square of frames that are not square.

    Raises:
      InputError: if there is a folder but no view, or it cannot be read.
    """
    cameras = from_label(subjects.labels)
    if folder is None:
        return Targets(cameras=cameras, names=tuple(f"view {i}" for i in range(len(cameras))))
    if not len(cameras):
        raise InputError(f"--frames {folder}: no views are known of this head; leave --frames out")
    frames = load_frames(folder, subjects.generator, crop=crop, decode_all=False)
    chosen = nearest_labels(subjects.labels, np.asarray(to_label(frames.cameras)))
    check_images(frames, chosen)
    return Targets(
        cameras=cameras,
        names=tuple(frames.names[i] for i in chosen),
        pictures=tuple(to_uint8(read_image(frames, i)) for i in chosen),
    )
