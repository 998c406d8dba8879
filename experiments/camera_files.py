"""Camera paths from JSON files: EG3D's labels, or the transforms of NeRF datasets.

`{"labels": [[name, [25 numbers]], ...]}` is EG3D's `dataset.json`.

`{"frames": [{"transform_matrix": 4 x 4}, ...]}` is the `transforms.json` of NeRF, instant-ngp and
Nerfstudio: camera-to-world with OpenGL's camera axes, x right, y up and looking along -z, which
become OpenCV's (x right, y down, z forward). Its world must be EG3D's: y up, the head at the origin
looking towards +z, cameras about 2.7 units away. The focal length is `fl_x` with `w`, in pixels, or
`camera_angle_x`; the central square of the picture is rendered; lens distortion is ignored.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from eg3d_jax.cameras import Cameras, from_label
from experiments.camera_checks import check_camera
from experiments.errors import InputError
from experiments.labels import parse_labels, read_json

# Right-multiplied: OpenGL's camera axes to OpenCV's, and back.
FLIP_AXES = np.diag([1.0, -1.0, -1.0, 1.0])
_PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "RADIAL", "SIMPLE_RADIAL")


def read_camera_path(
    path: Path, *, box_side: float = 1.0, ray_range: tuple[float, float] | None = None
) -> Cameras:
    """The cameras of a labels or transforms file, in the file's order.

    Args:
      path: a JSON file of either kind.
      box_side: see `check_camera`.
      ray_range: see `check_camera`.

    Returns:
      Cameras [T].

    Raises:
      InputError: if the file is of neither kind, or a camera cannot see the head.
    """
    content = read_json(path)
    if isinstance(content, dict) and "frames" in content:
        labels = _transforms(path, content)
    elif isinstance(content, dict) and "labels" in content:
        labels = parse_labels(path, content)
    else:
        raise InputError(
            f"{path} holds neither 'labels' (EG3D's dataset.json) nor 'frames' (a transforms.json);"
            " give a file of one of these forms"
        )
    for name, label in labels.items():
        check_camera(f"{path}: {name}", label, box_side=box_side, ray_range=ray_range)
    return from_label(np.stack(list(labels.values())))


def _transforms(path: Path, content: dict[str, Any]) -> dict[str, np.ndarray]:
    frames = content["frames"]
    if not isinstance(frames, list) or not frames:
        raise InputError(f"{path} holds no frames; it must list one for each camera")
    model = content.get("camera_model", "PINHOLE")
    if model not in _PINHOLES:
        raise InputError(f"{path}: camera_model is {model}; only pinhole cameras can be rendered")
    labels = {}
    for number, frame in enumerate(frames):
        where = f"{path}: frame {number}"
        if not isinstance(frame, dict):
            raise InputError(f"{where} is no object with a transform_matrix; export it again")
        values = {**content, **frame}  # a frame's own intrinsics go first
        cam2world = _matrix(where, frame.get("transform_matrix")) @ FLIP_AXES
        labels[f"frame {number}"] = np.concatenate(
            [cam2world.ravel(), _intrinsics(where, values).ravel()]
        )
    return labels


def _matrix(where: str, value: object) -> np.ndarray:
    try:
        matrix = np.array(value, np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape not in ((4, 4), (3, 4)) or not np.isfinite(matrix).all():
        raise InputError(
            f"{where}: transform_matrix is not 4 x 4 finite numbers; it must be camera-to-world"
        )
    return matrix if len(matrix) == 4 else np.vstack([matrix, [0.0, 0.0, 0.0, 1.0]])


def _intrinsics(where: str, values: dict[str, Any]) -> np.ndarray:
    """[3, 3] over the side of the picture's central square."""
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


def _focal(where: str, values: dict[str, Any], axis: str, extent: float) -> float | None:
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


def _number(where: str, values: dict[str, Any], key: str, default: float) -> float:
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e30:
        raise InputError(f"{where}: {key} is {value!r}; it must be a finite number")
    return float(value)
