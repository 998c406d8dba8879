"""Small rigid motions of cameras about the head, and the errors of cameras.

A camera moves as a rigid body about the origin, where the head is, so that its turn and its shift
are the head's in the picture. One factor scales all focal lengths, as a video has one lens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import jaxlie
from jax import Array

from eg3d_jax.cameras import Cameras


@dataclass(frozen=True, kw_only=True)
class CameraPrior:
    """Standard deviations of the errors expected in camera labels, which are estimates.

    Attributes:
      rotation: of a camera's turn about the head, radians.
      translation: of its shift, over its distance from the origin.
      focal: of the logarithm of the focal length that all cameras share.
      shared: of the turn and shift that all cameras share, over the two above; 0 for none.
    """

    rotation: float = math.radians(2.0)
    translation: float = 0.02
    focal: float = 0.02
    shared: float = 0.0


# What `prepare` promises of the cameras of a video, but for the place and turn of a person's head
# in EG3D's world, which all its frames share.
OF_FOOTAGE = CameraPrior(rotation=math.radians(0.3), translation=0.005, shared=8.0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class CameraMotion:
    """Motion of V cameras, in units of a `CameraPrior`'s deviations.

    Attributes:
      rigid: [V, 6] tangents of SE(3), shift then turn, applied from the left: about the origin.
      focal: [] of the logarithm of all focal lengths.
      shared: [6] tangent that is added to all, in units of the prior's deviation of it.
    """

    rigid: Array
    focal: Array
    shared: Array = field(default_factory=lambda: jnp.zeros(6))


def no_motion(count: int) -> CameraMotion:
    """Motion of `count` cameras that leaves them in place: zeros."""
    return CameraMotion(rigid=jnp.zeros((count, 6)), focal=jnp.zeros(()))


def transform(cameras: Cameras, motion: CameraMotion, prior: CameraPrior) -> Cameras:
    """Apply a motion to cameras [V]; `no_motion` returns the given ones, to rounding."""
    distance = jnp.linalg.norm(cameras.position, axis=-1, keepdims=True)
    rigid = motion.rigid + prior.shared * motion.shared
    shift = prior.translation * distance * rigid[:, :3]
    tangent = jnp.concatenate([shift, prior.rotation * rigid[:, 3:]], axis=-1)
    factor = jnp.exp(prior.focal * motion.focal)
    scale = jnp.ones((3, 3)).at[jnp.array([0, 0, 1]), jnp.array([0, 1, 1])].set(factor)
    return Cameras(
        cam2world=transform_poses(cameras.cam2world, tangent),
        intrinsics=cameras.intrinsics * scale,
    )


def rigid_between(start: Cameras, end: Cameras, prior: CameraPrior) -> Array:
    """Find the `CameraMotion.rigid` [V, 6] from cameras [V] to others, where nothing is shared."""
    distance = jnp.linalg.norm(start.position, axis=-1, keepdims=True)
    tangent = tangents(start.cam2world, end.cam2world)
    shift = tangent[:, :3] / (prior.translation * distance)
    return jnp.concatenate([shift, tangent[:, 3:] / prior.rotation], axis=-1)


def transform_poses(poses: Array, tangents: Array) -> Array:
    """Apply shifts and turns about the origin, tangents [V, 6], to poses [V, 4, 4]."""
    matrix = jax.vmap(jaxlie.SE3.exp)(tangents).as_matrix()
    return jnp.matmul(matrix, poses, precision="highest")


def tangents(start: Array, end: Array) -> Array:
    """Tangents [V, 6], shift then turn about the origin, from poses [V, 4, 4] to others."""
    return jax.vmap(lambda start, end: _relative(start, end).log())(start, end)


def pose_errors(cameras: Cameras, truth: Cameras) -> tuple[Array, Array]:
    """Measure errors of cameras as turn and shift of the head in the camera's frame.

    Args:
      cameras: [V].
      truth: [V].

    Returns:
      [V] degrees by which the head is turned, and [V] distance by which its centre is shifted, over
      the distance of the true camera.
    """

    def one(found: Array, true: Array) -> tuple[Array, Array]:
        apart = _relative(true, found)
        turn = jnp.linalg.norm(apart.rotation().log())
        return jnp.degrees(turn), jnp.linalg.norm(apart.translation())

    degrees, shift = jax.vmap(one)(cameras.cam2world, truth.cam2world)
    return degrees, shift / jnp.linalg.norm(truth.position, axis=-1)


def _relative(start: Array, end: Array) -> jaxlie.SE3:
    """Rigid motion about the origin that takes one pose [4, 4] to another."""
    return jaxlie.SE3.from_matrix(end) @ jaxlie.SE3.from_matrix(start).inverse()
