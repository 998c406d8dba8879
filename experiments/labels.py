"""EG3D's `dataset.json`: camera labels written, read, refused if no head can be seen with them."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from eg3d_jax.cameras import Cameras, to_label
from experiments.disk import write_atomically
from experiments.errors import InputError

LABELS_FILE = "dataset.json"
# Labels are often rounded to a few digits; a wrong convention is off by far more.
_TOLERANCE = 5e-3


def natural_key(name: str) -> tuple:
    """Sort key that orders numbers in names by value: frame2 before frame10."""
    parts = re.split(r"(\d+)", name)
    return (*((int(p), "") if p.isdigit() else (-1, p) for p in parts), (-1, name))


def listed(names: Iterable[str], limit: int = 5) -> str:
    """Names in natural order, cut after `limit`."""
    names = sorted(names, key=natural_key)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def read_labels(folder: Path) -> dict[str, np.ndarray]:
    """The camera labels of a folder of frames, by frame name.

    Args:
      folder: holds `dataset.json`: {"labels": [[name, [25 numbers]], ...]}; a dictionary in place
        of the list of pairs is taken too.

    Returns:
      float64 [25] for each name, finite: 16 numbers cam2world and 9 intrinsics, row by row.

    Raises:
      InputError: if the file is missing, is not JSON of that form, names a frame twice or holds a
        label that is not 25 finite numbers.
    """
    path = folder / LABELS_FILE
    if not path.is_file():
        raise InputError(
            f"{folder} has no {LABELS_FILE}; put EG3D's camera labels there as "
            '{"labels": [[file name, [25 numbers]], ...]}'
        )
    return parse_labels(path, read_json(path))


def read_json(path: Path) -> object:
    """The content of a JSON file.

    Raises:
      InputError: if it cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); export it again") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def parse_labels(path: Path, content: object) -> dict[str, np.ndarray]:
    """The camera labels of a `dataset.json` that has been read; see `read_labels`."""
    pairs = _pairs(path, content)
    repeated = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
    if repeated:
        raise InputError(
            f"{path} has more than one label for {listed(repeated)}; keep one label per frame"
        )
    return {name: _numbers(path, name, label) for name, label in pairs}


def write_labels(folder: Path, names: Sequence[str], cameras: Cameras) -> None:
    """Write `folder`/dataset.json for frames of such names with cameras [T]."""
    labels = np.asarray(to_label(cameras), np.float64).tolist()
    content = {"labels": [list(pair) for pair in zip(names, labels, strict=True)]}
    write_atomically(folder / LABELS_FILE, json.dumps(content).encode())


def check_camera(
    where: str,
    label: np.ndarray,
    *,
    box_side: float = 1.0,
    ray_range: tuple[float, float] | None = None,
) -> None:
    """Refuse a label that is no camera, or one that cannot see the head.

    Args:
      where: what the message calls the label, file and frame.
      label: [25] finite numbers.
      box_side: side of the box round the origin that holds the head, world units.
      ray_range: first and last distance that the generator samples on a ray, world units.

    Raises:
      InputError: if the label fails any of the checks.
    """
    cam2world, intrinsics = label[:16].reshape(4, 4), label[16:].reshape(3, 3)
    _check_pose(where, cam2world)
    _check_intrinsics(where, intrinsics)
    _check_view(where, cam2world, intrinsics, box_side)
    distance = float(np.linalg.norm(cam2world[:3, 3]))
    reach = box_side * math.sqrt(3) / 2
    if ray_range and not ray_range[0] - reach < distance < ray_range[1] + reach:
        raise InputError(
            f"{where}: the camera is {distance:.4g} units from the origin, but the generator looks "
            f"between {ray_range[0]:.4g} and {ray_range[1]:.4g} only; scale the camera positions "
            "to EG3D's world units (orbit radius 2.7)"
        )


def _pairs(path: Path, content: object) -> list[tuple[str, object]]:
    labels = content.get("labels") if isinstance(content, dict) else None
    if isinstance(labels, dict):
        labels = list(labels.items())
    if not isinstance(labels, list) or not labels:
        raise InputError(
            f'{path} holds no labels; it must be {{"labels": [[file name, [25 numbers]], ...]}}'
        )
    for number, pair in enumerate(labels):
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise InputError(
                f"{path}: entry {number} of labels is {_shown(pair)}; "
                "it must be [file name, [25 numbers]]"
            )
    return [(name, label) for name, label in labels]


def _numbers(path: Path, name: str, label: object) -> np.ndarray:
    where = f"{path}: the label of {name}"
    if not isinstance(label, list):
        raise InputError(f"{where} is {_shown(label)}; it must be a list of 25 numbers")
    if len(label) != 25:
        raise InputError(
            f"{where} has {len(label)} numbers; it must have 25: 16 of cam2world and 9 of the "
            "intrinsics, row by row"
        )
    for index, value in enumerate(label):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{where} holds {_shown(value)} at index {index}; want a number")
        if not abs(value) < 1e30:  # NaN too; float32, in which all is computed, ends at 3e38
            raise InputError(f"{where} holds {_shown(value)} at index {index}; want finite numbers")
    return np.array(label, np.float64)


def _check_pose(where: str, cam2world: np.ndarray) -> None:
    if np.abs(cam2world[3] - [0, 0, 0, 1]).max() > _TOLERANCE:
        raise InputError(
            f"{where}: the last row of cam2world is {_row(cam2world[3])}, not 0 0 0 1; the label "
            "holds the 4 x 4 camera-to-world matrix row by row (is yours transposed?)"
        )
    rotation = cam2world[:3, :3]
    error = np.abs(rotation.T @ rotation - np.eye(3)).max()
    if error > _TOLERANCE:
        raise InputError(
            f"{where}: the rotation is not orthonormal (off by {error:.2g}); remove scale and "
            "shear from cam2world"
        )
    if np.linalg.det(rotation) < 0:
        raise InputError(
            f"{where}: the rotation mirrors (determinant -1); the camera axes must be right-handed:"
            " x right, y down, z forward"
        )


def _check_intrinsics(where: str, intrinsics: np.ndarray) -> None:
    focal = intrinsics[0, 0], intrinsics[1, 1]
    if min(focal) <= 0:
        raise InputError(f"{where}: the focal length is {min(focal):.4g}; it must be positive")
    if np.abs(intrinsics[2] - [0, 0, 1]).max() > _TOLERANCE or abs(intrinsics[1, 0]) > _TOLERANCE:
        raise InputError(
            f"{where}: the intrinsics are {' / '.join(_row(r) for r in intrinsics)}; they must be "
            "fx skew cx / 0 fy cy / 0 0 1"
        )
    centre = intrinsics[:2, 2]
    if centre.min() < 0 or centre.max() > 1 or max(focal) > 100:
        raise InputError(
            f"{where}: focal length {max(focal):.4g} and principal point {_row(centre)} look like "
            "pixels; divide the intrinsics by the image side"
        )


def _check_view(where: str, cam2world: np.ndarray, intrinsics: np.ndarray, box_side: float) -> None:
    position = cam2world[:3, 3]
    ahead = float(cam2world[:3, 2] @ -position)
    advice = "EG3D's world has the head at the origin, and camera axes x right, y down, z forward"
    if np.abs(position).max() < box_side / 2:
        raise InputError(
            f"{where}: the camera at {_row(position)} is inside the head, a box of side "
            f"{box_side:.4g} at the origin; {advice}"
        )
    if ahead <= 0:
        raise InputError(f"{where}: the camera looks away from the head; {advice}")
    origin = cam2world[:3, :3].T @ -position
    pixel = (intrinsics @ origin)[:2] / ahead
    # Half the box as it appears; it is outside the image if its centre is further out than this.
    margin = box_side * math.sqrt(3) / 2 * max(intrinsics[0, 0], intrinsics[1, 1]) / ahead
    if pixel.min() < -margin or pixel.max() > 1 + margin:
        raise InputError(
            f"{where}: the head is outside the image, its centre at {_row(pixel)} of the image "
            f"side; {advice}"
        )


def _row(values: np.ndarray) -> str:
    return " ".join(f"{v:.4g}" for v in values)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
