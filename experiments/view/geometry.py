"""Convert between the browser's camera and ours: poses, zoom, and the fitted views.

viser's cameras have OpenCV's axes as ours do: a quaternion (w, x, y, z) and a position in the
world, and a vertical field of view in radians.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from eg3d_jax.cameras import Cameras, simple_intrinsics

# Least distance to the head, over the radius: nearer, or behind it, the view stays as large.
_NEAREST = 0.1


@dataclass(frozen=True, kw_only=True)
class Pose:
    """A camera in the browser's terms.

    Attributes:
      wxyz: unit quaternion, camera to world.
      position: world units.
      look_at: point of the optical axis that is nearest to the head's middle, world units.
      fov: vertical field of view, radians.
    """

    wxyz: np.ndarray
    position: np.ndarray
    look_at: np.ndarray
    fov: float


def camera_of(wxyz: ArrayLike, position: ArrayLike, fov: float) -> Cameras:
    """Convert the browser's camera to a single one of ours; its square spans the canvas' height."""
    cam2world = np.eye(4, dtype=np.float32)
    cam2world[:3, :3] = rotation(wxyz)
    cam2world[:3, 3] = position
    return Cameras(
        cam2world=jnp.asarray(cam2world), intrinsics=simple_intrinsics(0.5 / np.tan(fov / 2))
    )


def pose_of(camera: Cameras) -> Pose:
    """Convert a single camera of ours to the browser's terms; undoes `camera_of`."""
    cam2world = np.asarray(camera.cam2world, np.float64)
    position, forward = cam2world[:3, 3], cam2world[:3, 2]
    return Pose(
        wxyz=quaternion(cam2world[:3, :3]),
        position=position,
        look_at=position - (position @ forward) * forward,
        fov=float(2 * np.arctan(0.5 / camera.intrinsics[1, 1])),
    )


def at_radius(camera: Cameras, radius: float) -> Cameras:
    """Slide a camera along its axis to where the head is `radius` deep, and zoom to match.

    A generator samples its rays between the distances of its training only: nearer, the head would
    be cut off. The head keeps its size in the picture, in the perspective of the training.
    """
    cam2world, intrinsics = np.array(camera.cam2world), np.array(camera.intrinsics)
    position, forward = cam2world[:3, 3], cam2world[:3, 2]
    deep = -position @ forward
    zoom = radius / max(deep, _NEAREST * radius)
    cam2world[:3, 3] = position + (deep - radius) * forward
    intrinsics[0, 0] *= zoom
    intrinsics[1, 1] *= zoom
    return Cameras(cam2world=jnp.asarray(cam2world), intrinsics=jnp.asarray(intrinsics))


def within_field(camera: Cameras, focal: float) -> tuple[Cameras, float]:
    """Raise the focal length to that of training at least; also the part left of the field's side.

    Beyond the field of training a generator shows the stretched margins of its planes.
    """
    part = min(1.0, float(camera.intrinsics[1, 1]) / focal)
    intrinsics = np.array(camera.intrinsics)
    intrinsics[[0, 1], [0, 1]] /= part
    return Cameras(cam2world=camera.cam2world, intrinsics=jnp.asarray(intrinsics)), part


def nearest_view(camera: Cameras, views: Cameras) -> tuple[int, float]:
    """Find which of the views [V] sees the head most as a single camera does.

    Returns:
      Its index, and the angle between the two positions as seen from the head, degrees.
    """
    towards = _directions(np.asarray(views.position)) @ _directions(np.asarray(camera.position))
    index = int(np.argmax(towards))
    return index, float(np.degrees(np.arccos(np.clip(towards[index], -1, 1))))


def nearest_labels(labels: np.ndarray, others: np.ndarray) -> Sequence[int]:
    """Find for each camera label [V, 25] the index of the closest among others [T, 25]."""
    distances = np.linalg.norm(labels[:, None] - others[None], axis=-1)
    return [int(index) for index in distances.argmin(axis=1)]


def rotation(wxyz: ArrayLike) -> np.ndarray:
    """Rotation [3, 3] of a quaternion (w, x, y, z), which need not have unit length."""
    q = np.asarray(wxyz, np.float64)
    w, x, y, z = q / np.linalg.norm(q)
    across = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * across + 2 * across @ across


def quaternion(matrix: np.ndarray) -> np.ndarray:
    """Unit quaternion (w, x, y, z), w not negative, of a rotation [3, 3]."""
    m = np.asarray(matrix, np.float64)
    # q q^T from the matrix; its largest column is q up to length, and the best conditioned.
    outer = np.empty((4, 4))
    outer[0, 0] = 1 + np.trace(m)
    outer[0, 1:] = outer[1:, 0] = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    outer[1:, 1:] = m + m.T + (1 - np.trace(m)) * np.eye(3)
    q = outer[:, np.argmax(np.diag(outer))]
    return q / np.linalg.norm(q) * (-1.0 if q[0] < 0 else 1.0)


def _directions(positions: np.ndarray) -> np.ndarray:
    return positions / np.linalg.norm(positions, axis=-1, keepdims=True)
