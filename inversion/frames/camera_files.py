"""Read cameras from files: `transforms.json` of NeRF and Nerfstudio, `dataset.json`, npy and npz.

The world of a transforms.json must be EG3D's here: y up, the head at the origin looking towards +z,
cameras about 2.7 units away; `inversion.foreign_cameras` brings others there, with their pictures.
The central square of the picture is meant. Lens distortion is ignored, with a warning; lenses that
are no pinhole are refused.
"""

from __future__ import annotations

import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eg3d_jax.cameras import Cameras, from_label
from eg3d_jax.errors import InputError
from inversion.frames.camera_checks import check_cameras
from inversion.frames.labels import (
    LABELS_FILE,
    join_names,
    label_of,
    natural_key,
    parse_labels,
    read_json,
)
from inversion.frames.mirror_images import unnamed_mirrors, without_mirrored
from inversion.frames.scene_files import find_cameras
from inversion.frames.transforms import (
    FISHEYE_WORDS,
    frames_of,
    lens_of,
    matrix_of,
    unknown_lens,
    word_of,
)


def parse_transforms(path: Path, content: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Parse the camera labels of a transforms.json that has been read.

    Args:
      path: of the file, for messages.
      content: of the file.

    Returns:
      float64 [25] for each frame, of the picture's central square. Frames go in natural order of
      their `file_path` and are called by it; in the file's order, called by their numbers, if not
      all have one or all have the same.

    Raises:
      InputError: if the content has another form, names a frame twice, or its lens is no pinhole.
    """
    labels, distortion = {}, {}
    for name, values in frames_of(path, content).items():
        where = f"{path}: {name}"
        cam2world, lens = matrix_of(where, values), lens_of(where, values)
        if lens.fisheye:
            key = word_of(values, FISHEYE_WORDS) or "camera_model"
            raise unknown_lens(where, key, values[key])
        labels[name] = np.concatenate([cam2world.ravel(), lens.square_intrinsics.ravel()])
        distortion[name] = max(lens.distortion, key=abs, default=0.0)
    worst = max(distortion, key=lambda name: abs(distortion[name]))
    if distortion[worst]:
        warnings.warn(
            f"{path}: lens distortion is ignored, a coefficient of {worst} is "
            f"{distortion[worst]:g}; undistort the pictures where it matters",
            stacklevel=2,
        )
    return dict(sorted(labels.items(), key=lambda item: natural_key(item[0])))


# Errors of numpy for files that are cut or damaged, in their headers among others.
_BROKEN = (OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, OverflowError,
           MemoryError, NotImplementedError, RuntimeError, struct.error, tokenize.TokenError,
           zipfile.BadZipFile, zlib.error)  # fmt: skip
# Keys of npz files that hold cameras beside other arrays of 25 columns: numpy's own, the authors'.
_KEYS = ("labels", "label", "cameras", "camera", "cs", "c", "arr_0")


def read_camera_path(
    path: Path, *, box_side: float = 1.0, ray_range: tuple[float, float] | None = None
) -> Cameras:
    """Read the cameras of a file, in natural order of their names, without mirror images.

    Args:
      path: a file of any form.
      box_side: see `check_cameras`.
      ray_range: see `check_cameras`.

    Returns:
      Cameras [T].

    Raises:
      InputError: if the file has another form, or a camera cannot see the head.
    """
    labels = without_mirrored(path, read_labels(path))
    labels = check_cameras(path, labels, box_side=box_side, ray_range=ray_range)
    unnamed_mirrors(path, labels)
    return from_label(np.stack(list(labels.values())))


def read_labels(path: Path) -> dict[str, np.ndarray]:
    """Read the camera labels of a file, or of the `dataset.json` of a folder of frames.

    Args:
      path: of either.

    Returns:
      float64 [25] by name, in natural order of the names.

    Raises:
      InputError: if it is missing, has another form, names a frame twice, or holds a label that is
        not 25 finite numbers.
    """
    if path.is_dir():
        path = _labels_of(path)
    kind = _kind(path)
    if kind:
        return _from_arrays(path, kind)
    content = read_json(path)
    if isinstance(content, dict) and "frames" in content and "labels" not in content:
        return parse_transforms(path, content)
    if isinstance(content, dict) and "labels" not in content:
        bare = any(isinstance(value, list) and len(value) == 25 for value in content.values())
        advice = 'put {"labels": } round it' if bare else "give a file of one of these forms"
        raise InputError(
            f"{path} holds neither 'labels' (EG3D's dataset.json) nor 'frames' (a transforms.json);"
            f" {advice}"
        )
    return parse_labels(path, content)


def _labels_of(folder: Path) -> Path:
    """Find the file of labels of a folder of frames."""
    path = folder / LABELS_FILE
    if path.is_file():
        return path
    foreign = find_cameras(folder)
    if foreign is not None:
        raise InputError(
            f"{folder} has cameras of another world, {foreign.relative_to(folder)}; bring them "
            f"into EG3D's by `eg3d-jax prepare {folder} --output NEW`, and give that folder"
        )
    below = sorted(p.parent.name for p in folder.glob(f"*/{LABELS_FILE}"))
    if len(below) == 1:
        raise InputError(f"{folder} has no {LABELS_FILE}, {folder / below[0]} has one; give that")
    above = folder.absolute().parent / LABELS_FILE
    if above.is_file():
        raise InputError(
            f"{folder} has no {LABELS_FILE}, the folder above it has one; give that folder, "
            f"{above.parent}, or copy the file"
        )
    raise InputError(
        f"{folder} has no {LABELS_FILE}; put EG3D's camera labels there as "
        '{"labels": [[file name, [25 numbers]], ...]}'
    )


def _kind(path: Path) -> str:
    """Recognize 'npy', 'npz' or nothing by the first bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    return {b"\x93NUM": "npy", b"PK\x03\x04": "npz", b"PK\x05\x06": "npz"}.get(start[:4], "")


def _from_arrays(path: Path, kind: str) -> dict[str, np.ndarray]:
    array = _array(path, kind)
    rows = array.reshape(-1, 25)
    if array.dtype.kind in "fiu":
        rows = rows.astype(np.float64)
    return {
        f"camera {number}": label_of(f"{path}: camera {number}", row)
        for number, row in enumerate(rows.tolist())
    }


def _array(path: Path, kind: str) -> np.ndarray:
    """Read the array of cameras in a file of numpy."""
    arrays = _arrays(path, kind)
    fitting = {key: np.asarray(array) for key, array in arrays.items() if _is_labels(array)}
    known = [key for key in _KEYS if key in fitting]
    if len(fitting) == 1 or known:
        return fitting[known[0] if known else next(iter(fitting))]
    form = "numbers [25] or [n, 25]: 16 of cam2world and 9 of the intrinsics, row by row"
    if fitting:
        raise InputError(
            f"{path} holds several arrays of cameras ({join_names(fitting)}); keep one"
        )
    if any(key.endswith("data.pkl") for key in arrays):
        raise InputError(f"{path} is a file of torch.save; save its cameras as npy, {form}")
    said = [f"{key} {array.dtype} {list(array.shape)}".strip() if isinstance(array, np.ndarray)
            else key for key, array in arrays.items()]  # fmt: skip
    raise InputError(
        f"{path} holds no cameras, but {join_names(said) or 'nothing'}; it must hold {form}"
    )


def _arrays(path: Path, kind: str) -> dict[str, object]:
    """Read a file of numpy, by key; a lone array under no name."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if kind == "npy":
                return {"": loaded}
            return {key: _member(loaded, key) for key in loaded.files}
    except _BROKEN as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} cannot be read as an {kind} file ({reason})") from None


def _member(archive: np.lib.npyio.NpzFile, key: str) -> object:
    try:
        return archive[key]
    except ValueError:  # of Python's objects, which are not loaded
        return None


def _is_labels(array: object) -> bool:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiuU":
        return False
    single = array.ndim < 3 or (array.ndim == 3 and 1 in array.shape[:2])
    return array.shape[-1:] == (25,) and single and array.size > 0
