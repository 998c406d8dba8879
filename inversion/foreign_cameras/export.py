"""The way back: cameras of frames for NeRF's tools, COLMAP's and EG3D's."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np

from eg3d_jax.cameras import from_label, to_label
from inversion.frames.colmap import write_colmap
from inversion.frames.folder import Frames
from inversion.frames.labels import write_labels
from inversion.frames.scene import Lens, Scene, picture_size
from inversion.frames.transforms import write_transforms

CameraForm = Literal["transforms.json", "colmap", "colmap-text", "dataset.json"]
# What each form leaves in a folder, beside the pictures.
WRITTEN = ("transforms.json", "sparse", "dataset.json", "images")


def scene_of_labels(
    source: Path,
    labels: Mapping[str, np.ndarray],
    sizes: Sequence[tuple[int, int]],
    pictures: Sequence[Path] = (),
) -> Scene:
    """Cameras of EG3D's labels as those of pictures; the world stays EG3D's.

    Args:
      source: where they are from.
      labels: [25] by name, n of them, of the pictures' central squares.
      sizes: n pairs of width and height, pixels.
      pictures: n files; none if they are not needed.
    """
    lenses = []
    for label, (width, height) in zip(labels.values(), sizes, strict=True):
        side, intrinsics = min(width, height), np.asarray(label, np.float64)[16:].reshape(3, 3)
        lenses.append(
            Lens(
                width=width,
                height=height,
                fx=float(intrinsics[0, 0] * side),
                fy=float(intrinsics[1, 1] * side),
                cx=float(intrinsics[0, 2] * side + (width - side) / 2),
                cy=float(intrinsics[1, 2] * side + (height - side) / 2),
            )
        )
    poses = [np.asarray(label, np.float64)[:16].reshape(4, 4) for label in labels.values()]
    return Scene(
        source=source,
        form="dataset.json",
        names=tuple(labels),
        cam2world=np.stack(poses),
        lenses=tuple(lenses),
        pictures=tuple(pictures) or (None,) * len(labels),
    )


def labels_of_scene(scene: Scene) -> dict[str, np.ndarray]:
    """EG3D's labels [25] of pinhole cameras in its world, of the pictures' central squares."""
    found = {}
    for name, pose, lens in zip(scene.names, scene.cam2world, scene.lenses, strict=True):
        found[name] = np.concatenate([pose.ravel(), lens.square_intrinsics.ravel()])
    return found


def scene_of_frames(frames: Frames) -> Scene:
    """Cameras of a folder of frames as those of its pictures; see `scene_of_labels`."""
    labels = np.asarray(to_label(frames.cameras), np.float64)
    return scene_of_labels(
        frames.folder,
        dict(zip(frames.names, labels, strict=True)),
        [picture_size(path) for path in frames.paths],
        frames.paths,
    )


def write_cameras(folder: Path, scene: Scene, form: CameraForm) -> None:
    """Write cameras with copies of their pictures, as the programs of a form expect them.

    Args:
      folder: new or empty. It gets transforms.json and images/, or sparse/0 and images/, or
        dataset.json and the pictures beside it.
      scene: with pictures.
      form: of the file; 'colmap' is COLMAP's binary model.

    Raises:
      OSError: if a picture cannot be copied.
    """
    home = folder if form == "dataset.json" else folder / "images"
    for name, picture in zip(scene.names, scene.pictures, strict=True):
        assert picture is not None
        target = home / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, target)
    if form == "dataset.json":
        labels = np.stack(list(labels_of_scene(scene).values()))
        write_labels(folder, scene.names, from_label(jnp.asarray(labels, jnp.float32)))
    elif form == "transforms.json":
        write_transforms(folder / form, scene, below="images")
    else:
        model = folder / "sparse" / "0"
        model.mkdir(parents=True)
        write_colmap(model, scene, binary=form == "colmap")
