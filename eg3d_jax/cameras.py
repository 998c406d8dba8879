"""Cameras in EG3D's convention, their 25-number labels, and the pose functions.

Whatever computes is jitted, as one program a shape: called outside of a program, each operation
would else be compiled by itself, which takes seconds where cameras are first made.

World: y up, the head at the origin looking towards +z. Camera axes as in OpenCV: x right, y down,
z forward. Intrinsics are divided by the image side, so a principal point in the middle is 0.5.
Source: spec eg3d section 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

# EG3D's FOV helper uses these truncated constants; they are part of its definition (spec 6.3).
_FOV_PI = 3.14159
_FOV_SQRT2 = 1.414

# Focal lengths of the training cameras over the image side; no checkpoint holds them.
FFHQ_FOCAL, SHAPENET_FOCAL = 4.2647, 1.0254


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Cameras:
    """Any number of pinhole cameras; leading axes `*` are shared by both fields.

    Attributes:
      cam2world: [*, 4, 4] rigid camera-to-world matrices.
      intrinsics: [*, 3, 3] of rows (fx, skew, cx), (0, fy, cy), (0, 0, 1), over the image side.
    """

    cam2world: Array
    intrinsics: Array

    def __getitem__(self, index) -> Cameras:
        """The cameras at `index` of the leading axes."""
        if isinstance(index, int | np.integer):
            if not -len(self) <= index < len(self):
                raise IndexError(f"camera {index} of {len(self)}")
            return _camera_at(self, index)
        return Cameras(cam2world=self.cam2world[index], intrinsics=self.intrinsics[index])

    def __len__(self) -> int:
        """Length of the first leading axis."""
        if self.cam2world.ndim < 3:
            raise TypeError("a single camera has no length")
        return self.cam2world.shape[0]

    @property
    def position(self) -> Array:
        """[*, 3] camera centres, world units."""
        return _position(self.cam2world)


@jax.jit
def _camera_at(cameras: Cameras, index: Array) -> Cameras:
    return jax.tree.map(lambda leaf: leaf[index], cameras)


@jax.jit
def _position(cam2world: Array) -> Array:
    return cam2world[..., :3, 3]


def from_label(label: ArrayLike) -> Cameras:
    """EG3D's label [*, 25]: 16 numbers cam2world and 9 intrinsics, both row by row.

    Raises:
      ValueError: if the last axis is not 25 long.
    """
    label = jnp.asarray(label, jnp.float32)
    if label.ndim == 0 or label.shape[-1] != 25:
        raise ValueError(f"a camera label has shape {label.shape}; its last axis must be 25 long")
    return _from_label(label)


@jax.jit
def _from_label(label: Array) -> Cameras:
    lead = label.shape[:-1]
    return Cameras(
        cam2world=label[..., :16].reshape(*lead, 4, 4),
        intrinsics=label[..., 16:].reshape(*lead, 3, 3),
    )


@jax.jit
def to_label(cameras: Cameras) -> Array:
    """EG3D's label [*, 25] of cameras; undoes `from_label`."""
    lead = cameras.cam2world.shape[:-2]
    return jnp.concatenate(
        [cameras.cam2world.reshape(*lead, 16), cameras.intrinsics.reshape(*lead, 9)], axis=-1
    )


def nearest_rotation(matrix: ArrayLike) -> np.ndarray:
    """Find the rotations nearest to matrices in squared differences: their polar factors.

    A matrix that is a rotation to the last digits of float64 comes back as it is.

    Args:
      matrix: [*, 3, 3] finite numbers.

    Returns:
      float64 [*, 3, 3], orthonormal and of determinant 1.

    Raises:
      ValueError: if the last two axes are not 3 x 3, or a number is not finite.
    """
    matrix = np.asarray(matrix, np.float64)
    if matrix.shape[-2:] != (3, 3) or not np.isfinite(matrix).all():
        raise ValueError(f"a matrix of shape {matrix.shape}; want finite numbers [*, 3, 3]")
    left, _, right = np.linalg.svd(matrix)
    # A matrix that mirrors is flipped along its axis of smallest singular value.
    left[..., 2] *= np.sign(np.linalg.det(left @ right))[..., None]
    off = np.abs(np.swapaxes(matrix, -1, -2) @ matrix - np.eye(3)).max((-1, -2))
    exact = (off < 1e-14) & (np.linalg.det(matrix) > 0)
    return np.where(exact[..., None, None], matrix, left @ right)


def nearest_camera(label: ArrayLike) -> np.ndarray:
    """Find the cameras nearest to 25 numbers that an optimiser was free to change.

    The pose becomes rigid by the nearest rotation. The last row of cam2world and what lies below
    the diagonal of the intrinsics, on which no ray depends, take the values of any camera.

    Args:
      label: [*, 25] finite numbers, near those of a camera.

    Returns:
      float64 [*, 25].

    Raises:
      ValueError: if the last axis is not 25 long, or a number of the rotation is not finite.
    """
    label = np.array(label, np.float64)
    if label.shape[-1:] != (25,):
        raise ValueError(f"a camera label has shape {label.shape}; its last axis must be 25 long")
    cam2world = label[..., :16].reshape(*label.shape[:-1], 4, 4)
    cam2world[..., :3, :3] = nearest_rotation(cam2world[..., :3, :3])
    label[..., :16] = cam2world.reshape(*label.shape[:-1], 16)
    label[..., 12:16] = [0, 0, 0, 1]
    label[..., [19, 22, 23, 24]] = [0, 0, 0, 1]
    return label


def mirror_image(label: ArrayLike) -> np.ndarray:
    """Mirror cameras in x = 0, as flipping their pictures from left to right does.

    Args:
      label: [*, 25].

    Returns:
      float64 [*, 25].
    """
    label = np.array(label, np.float64)
    label[..., [1, 2, 3, 4, 8, 17]] *= -1  # of rows and columns of x, and the skew
    label[..., 18] = 1 - label[..., 18]
    return label


def check_single(camera: Cameras) -> None:
    """Raise a ValueError unless this is one camera, without leading axes."""
    if camera.cam2world.shape != (4, 4) or camera.intrinsics.shape != (3, 3):
        raise ValueError(
            f"cam2world has shape {camera.cam2world.shape} and intrinsics "
            f"{camera.intrinsics.shape}, want (4, 4) and (3, 3): one camera; index or vmap several"
        )


@jax.jit
def azimuth(cameras: Cameras) -> Array:
    """[*] atan2(z, x) of the position in radians; pi / 2 is frontal, in (-pi, pi]."""
    position = cameras.position
    return jnp.arctan2(position[..., 2], position[..., 0])


@partial(jax.jit, static_argnames="shape")
def simple_intrinsics(focal: ArrayLike, shape: tuple[int, ...] = ()) -> Array:
    """[*shape, 3, 3] intrinsics with one focal length (over the image side) and a centred axis."""
    focal = jnp.broadcast_to(jnp.asarray(focal, jnp.float32), shape)
    eye = jnp.zeros((*shape, 3, 3)).at[..., 2, 2].set(1.0).at[..., :2, 2].set(0.5)
    return eye.at[..., 0, 0].set(focal).at[..., 1, 1].set(focal)


def fov_to_intrinsics(fov_degrees: ArrayLike) -> Array:
    """[*, 3, 3] intrinsics of EG3D's field-of-view helper, its rounded constants included."""
    fov = jnp.asarray(fov_degrees, jnp.float32)
    return simple_intrinsics(1.0 / (jnp.tan(fov * _FOV_PI / 360.0) * _FOV_SQRT2), fov.shape)


def orbit_position(horizontal: ArrayLike, vertical: ArrayLike, radius: ArrayLike) -> Array:
    """[*, 3] position on the orbit from EG3D's two angles (spec 6.3).

    Args:
      horizontal: h, radians; pi / 2 is frontal. The azimuth of the result is pi - h.
      vertical: v, radians in (0, pi); pi / 2 is level. The polar angle is arccos(1 - 2 v / pi),
        not v: small pitches are scaled by 2 / pi.
      radius: distance from the origin, world units.
    """
    horizontal = jnp.asarray(horizontal, jnp.float32)
    vertical = jnp.clip(jnp.asarray(vertical, jnp.float32), 1e-5, math.pi - 1e-5)
    polar = jnp.arccos(1.0 - 2.0 * (vertical / math.pi))
    return jnp.asarray(radius)[..., None] * jnp.stack(
        [
            jnp.sin(polar) * jnp.cos(math.pi - horizontal),
            jnp.cos(polar) * jnp.ones_like(horizontal),
            jnp.sin(polar) * jnp.sin(math.pi - horizontal),
        ],
        axis=-1,
    )


def look_at(position: ArrayLike, target: ArrayLike) -> Array:
    """[*, 4, 4] cam2world of cameras at `position` [*, 3] that look at `target` [3] or [*, 3]."""
    return _look_at(jnp.asarray(position, jnp.float32), jnp.asarray(target, jnp.float32))


@jax.jit
def _look_at(position: Array, target: Array) -> Array:
    target = jnp.broadcast_to(target, position.shape)
    up = jnp.broadcast_to(jnp.array([0.0, 1.0, 0.0]), position.shape)
    forward = _normalize(target - position)
    right = -_normalize(jnp.cross(up, forward))
    down = _normalize(jnp.cross(forward, right))
    top = jnp.stack([right, down, forward, position], axis=-1)
    bottom = jnp.broadcast_to(jnp.array([0.0, 0.0, 0.0, 1.0]), (*position.shape[:-1], 1, 4))
    return jnp.concatenate([top, bottom], axis=-2)


def orbit(
    horizontal: ArrayLike,
    vertical: ArrayLike,
    *,
    radius: float = 2.7,
    target: Sequence[float] = (0.0, 0.0, 0.0),
    focal: float = FFHQ_FOCAL,
) -> Cameras:
    """Cameras on EG3D's orbit about the origin that look at `target` (its look-at sampler).

    Args:
      horizontal: [*] h, radians; see `orbit_position`.
      vertical: [*] v, radians.
      radius: distance from the origin, world units.
      target: point looked at; it does not move the orbit (spec 6.3).
      focal: focal length over the image side.
    """
    angles = jnp.asarray(horizontal, jnp.float32), jnp.asarray(vertical, jnp.float32)
    return _orbit(*angles, radius, jnp.asarray(target, jnp.float32), focal)


@jax.jit
def _orbit(
    horizontal: Array, vertical: Array, radius: ArrayLike, target: Array, focal: ArrayLike
) -> Cameras:
    horizontal, vertical = jnp.broadcast_arrays(horizontal, vertical)
    position = orbit_position(horizontal, vertical, jnp.asarray(radius, jnp.float32))
    return Cameras(
        cam2world=look_at(position, target), intrinsics=simple_intrinsics(focal, horizontal.shape)
    )


# The azimuth of a camera in front of the head.
FRONTAL = math.pi / 2


def yaw_azimuth(angle: Any, *, degrees: bool = False) -> Any:
    """A yaw as azimuth, or an azimuth as yaw: each is a quarter turn less the other.

    Args:
      angle: [*] number or array; yaw is 0 frontal and positive towards the world's +x.
      degrees: whether it is in degrees; else in radians.

    Example:
      >>> yaw_azimuth(30.0, degrees=True)
      60.0
    """
    return (90.0 if degrees else FRONTAL) - angle


def yaw_pitch_camera(
    yaw: ArrayLike, pitch: ArrayLike, *, radius: float = 2.7, focal: float = FFHQ_FOCAL
) -> Cameras:
    """Cameras that look at the origin from a true yaw and pitch.

    Args:
      yaw: [*] radians, 0 frontal, positive towards the world's +x; equals pi / 2 - azimuth.
      pitch: [*] radians above the horizon, without EG3D's warp of `orbit_position`.
      radius: distance from the origin, world units.
      focal: focal length over the image side.

    Example:
      >>> cameras = yaw_pitch_camera([-0.5, 0.0, 0.5], 0.0)
      >>> len(cameras), to_label(cameras).shape
      (3, (3, 25))
      >>> yaw_pitch_camera(0.0, 0.0).position.tolist()  # in front of the head, which looks at +z
      [0.0, 0.0, 2.700000047683716]
    """
    return _yaw_pitch_camera(jnp.asarray(yaw, jnp.float32), jnp.asarray(pitch), radius, focal)


@jax.jit
def _yaw_pitch_camera(yaw: Array, pitch: Array, radius: ArrayLike, focal: ArrayLike) -> Cameras:
    yaw, pitch = jnp.broadcast_arrays(yaw, pitch)
    position = radius * jnp.stack(
        [jnp.cos(pitch) * jnp.sin(yaw), jnp.sin(pitch), jnp.cos(pitch) * jnp.cos(yaw)], axis=-1
    )
    return Cameras(
        cam2world=look_at(position, jnp.zeros(3)), intrinsics=simple_intrinsics(focal, yaw.shape)
    )


def _normalize(vector: Array) -> Array:
    return vector / jnp.linalg.norm(vector, axis=-1, keepdims=True)
