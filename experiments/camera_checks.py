"""Camera labels from which no head can be seen are refused."""

from __future__ import annotations

import math

import numpy as np

from experiments.errors import InputError

# Labels are often rounded to a few digits; a wrong convention is off by far more.
_TOLERANCE = 5e-3


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
