"""Read cameras from files: `transforms.json` of NeRF and Nerfstudio, `dataset.json`, npy and npz.

`{"frames": [{"file_path": "a.png", "transform_matrix": 4 x 4}, ...]}`: camera-to-world with
OpenGL's camera axes, x right, y up and looking along -z, which become OpenCV's (x right, y down,
z forward). Its world must be EG3D's: y up, the head at the origin looking towards +z, cameras about
2.7 units away. The focal length is `fl_x` with `w`, in pixels, or `camera_angle_x`; the central
square of the picture is meant. Frames may have intrinsics of their own. Lens distortion is ignored,
with a warning; lenses that are no pinhole are refused.
"""

from __future__ import annotations

import math
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
    as_number,
    check_distinct,
    join_names,
    label_of,
    natural_key,
    parse_labels,
    plain_name,
    read_json,
    shorten,
)
from inversion.frames.mirror_images import unnamed_mirrors, without_mirrored

# Right-multiplied: OpenGL's camera axes to OpenCV's, and back.
FLIP_AXES = np.diag([1.0, -1.0, -1.0, 1.0])
_PINHOLES = frozenset(
    ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "FULL_OPENCV", "RADIAL", "SIMPLE_RADIAL", "PERSPECTIVE")
)
# Words of instant-ngp for lenses that are no pinhole; true, or a number other than 0.
_OTHER_LENSES = ("is_fisheye", "fisheye", "is_equirectangular", "equirectangular", "latlong",
                 "orthographic", "ftheta_p0")  # fmt: skip
_DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
_DISTORTION_LISTS = ("distortion", "distortion_params")


def parse_transforms(path: Path, content: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Parse the camera labels of a transforms.json that has been read.

    Args:
      path: of the file, for messages.
      content: of the file.

    Returns:
      float64 [25] for each frame. Frames go in natural order of their `file_path` and are called by
      it; in the file's order, called by their numbers, if not all have one or all have the same.

    Raises:
      InputError: if the content has another form, names a frame twice, or its lens is no pinhole.
    """
    frames = content["frames"]
    if not isinstance(frames, list) or not frames:
        raise InputError(f"{path} holds no frames; it must list one for each camera")
    for number, frame in enumerate(frames):
        if not isinstance(frame, dict):
            raise InputError(
                f"{path}: frame {number} is no object with a transform_matrix; export it again"
            )
    names = _names(path, frames)
    labels, distortion = {}, {}
    for name, frame in zip(names, frames, strict=True):
        where = f"{path}: {name}"
        values = {**content, **frame}  # a frame's own intrinsics go first
        _check_lens(where, values)
        cam2world = _matrix(where, frame.get("transform_matrix")) @ FLIP_AXES
        labels[name] = np.concatenate([cam2world.ravel(), _intrinsics(where, values).ravel()])
        distortion[name] = _distortion(where, values)
    worst = max(names, key=lambda name: abs(distortion[name][1]))
    if distortion[worst][1]:
        key, value = distortion[worst]
        warnings.warn(
            f"{path}: lens distortion is ignored, {key} of {worst} is {value:g}; undistort the "
            "pictures where it matters",
            stacklevel=2,
        )
    return dict(sorted(labels.items(), key=lambda item: natural_key(item[0])))


def _names(path: Path, frames: list[dict[str, Any]]) -> list[str]:
    paths = [frame.get("file_path") for frame in frames]
    names = [plain_name(p) for p in paths if isinstance(p, str) and plain_name(p)]
    if len(names) < len(frames) or len(set(names)) == 1 < len(frames):
        return [f"frame {number}" for number in range(len(frames))]
    check_distinct(path, names)
    return names


def _check_lens(where: str, values: Mapping[str, Any]) -> None:
    model = values.get("camera_model", "PINHOLE")
    if not isinstance(model, str) or model.upper() not in _PINHOLES:
        raise InputError(
            f"{where}: camera_model is {shorten(model)}; only pinhole cameras can be rendered, so "
            "undistort the pictures and export their cameras again"
        )
    for key in _OTHER_LENSES:
        value = values.get(key, False)
        if value and str(value).strip().lower() not in ("false", "0", "no", ""):
            raise InputError(
                f"{where}: {key} is {shorten(value)}; only pinhole cameras can be rendered, so "
                "undistort the pictures and export their cameras again"
            )


def _distortion(where: str, values: Mapping[str, Any]) -> tuple[str, float]:
    """Find the largest coefficient of the lens distortion and its name; 0 if there is none."""
    found = {key: _number(where, values, key, 0.0) for key in _DISTORTION if key in values}
    for key in _DISTORTION_LISTS:
        numbers = values.get(key)
        if isinstance(numbers, list):
            found |= {key: max((as_number(n) or 0.0 for n in numbers), key=abs, default=0.0)}
    key = max(found, key=lambda key: abs(found[key]), default="")
    return key, found.get(key, 0.0)


def _matrix(where: str, value: object) -> np.ndarray:
    rows = value if isinstance(value, list) else []
    numbers = [[as_number(v) for v in row] if isinstance(row, list) else [] for row in rows]
    square = len(numbers) in (3, 4) and all(len(row) == 4 for row in numbers)
    if not square or not all(v is not None and abs(v) < 1e30 for row in numbers for v in row):
        raise InputError(
            f"{where}: transform_matrix is not 4 x 4 finite numbers; it must be camera-to-world"
        )
    matrix = np.array(numbers, np.float64)
    return matrix if len(matrix) == 4 else np.vstack([matrix, [0.0, 0.0, 0.0, 1.0]])


def _intrinsics(where: str, values: Mapping[str, Any]) -> np.ndarray:
    """Intrinsics [3, 3] over the side of the picture's central square."""
    width = _number(where, values, "w", 1.0)
    height = _number(where, values, "h", width)
    if min(width, height) <= 0:
        raise InputError(f"{where}: w is {width:g} and h is {height:g}; they must be positive")
    focal_x = _focal(where, values, "x", width)
    if focal_x is None:
        raise InputError(
            f"{where} has no focal length; give camera_angle_x in radians, or fl_x and w in pixels"
        )
    focal_y = _focal(where, values, "y", height)
    focal_y = focal_x if focal_y is None else focal_y
    side = min(width, height)
    centre_x = _number(where, values, "cx", width / 2) - (width - side) / 2
    centre_y = _number(where, values, "cy", height / 2) - (height - side) / 2
    return np.array(
        [
            [focal_x / side, 0.0, centre_x / side],
            [0.0, focal_y / side, centre_y / side],
            [0.0, 0.0, 1.0],
        ]
    )


def _focal(where: str, values: Mapping[str, Any], axis: str, extent: float) -> float | None:
    """Focal length in the unit of `extent`, from fl_* or camera_angle_*; None if not given."""
    if f"fl_{axis}" in values:
        return _number(where, values, f"fl_{axis}", 0.0)
    key = f"camera_angle_{axis}"
    if key not in values:
        return None
    angle = _number(where, values, key, 0.0)
    if not 0 < angle < math.pi:
        raise InputError(f"{where}: {key} is {angle:g}; it must be radians between 0 and pi")
    return extent / 2 / math.tan(angle / 2)


def _number(where: str, values: Mapping[str, Any], key: str, default: float) -> float:
    value = values.get(key, default)
    number = as_number(value)
    if number is None or not abs(number) < 1e30:
        raise InputError(f"{where}: {key} is {value!r}; it must be a finite number")
    return number


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
