"""Head poses from points in a picture: damped Gauss-Newton steps, many pictures at once.

A pose is that of the world in the camera: x_camera = rotation x + translation, OpenCV axes. Points
in pictures are tangents, the camera's x / z and y / z, so that no focal length appears; residuals
are in pixels of a window of 512 at EG3D's focal length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from eg3d_jax.cameras import FFHQ_FOCAL

PIXELS = 512 * FFHQ_FOCAL  # of a window of 512, a unit of tangent
_CHUNK = 32  # pictures solved together; the last chunk is filled up, so that one program serves all
# Levenberg's damping, relative to the diagonal: at first, and its factors after a step that was
# accepted and after one that was rejected.
_DAMPING, _LESS, _MORE = 1e-3, 0.2, 8.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Poses:
    """Poses of the world in n cameras, and what changes the face in each picture.

    Attributes:
      rotation: [n, 3, 3].
      translation: [n, 3] world units.
      coefficients: [n, K] of the basis, standard deviations.
    """

    rotation: Array | np.ndarray
    translation: Array | np.ndarray
    coefficients: Array | np.ndarray

    def __len__(self) -> int:
        return len(self.rotation)

    def __getitem__(self, index) -> Poses:
        """The poses at `index` of the first axis."""
        return jax.tree.map(lambda x: x[index], self)

    @property
    def cam2world(self) -> np.ndarray:
        """float64 [n, 4, 4] camera poses in the world."""
        rotation = np.asarray(self.rotation, np.float64).swapaxes(-1, -2)
        result = np.zeros((len(rotation), 4, 4))
        result[:, :3, :3] = rotation
        result[:, :3, 3] = -np.einsum("nij,nj->ni", rotation, np.asarray(self.translation))
        result[:, 3, 3] = 1
        return result

    @property
    def yaw(self) -> np.ndarray:
        """[n] degrees by which the camera stands towards the world's +x of the face's front."""
        forward = np.asarray(self.rotation)[:, 2]
        return np.degrees(np.arctan2(-forward[:, 0], -forward[:, 2]))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Observed:
    """What n pictures show of N points; a row of padding has weight 0.

    Attributes:
      points: [n, N, 3] in the world, before the basis moves them.
      tangents: [n, N, 2] where the pictures show them.
      weights: [n, N] inverse variances, 1 / pixels^2 of a window of 512.
      reach: [n, N] pixels; residuals beyond it lose their hold (Cauchy's loss).
    """

    points: Array | np.ndarray
    tangents: Array | np.ndarray
    weights: Array | np.ndarray
    reach: Array | np.ndarray


def similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> tuple:
    """Find the similarities that bring points onto others by weighted least squares.

    Closed form of Umeyama (1991).

    Args:
      source: [*, N, 3].
      target: [*, N, 3].
      weights: [*, N], not negative, not all zero.

    Returns:
      Scale [*], rotation [*, 3, 3] and shift [*, 3]: target = scale rotation source + shift.
    """
    weights = weights / weights.sum(-1, keepdims=True)
    centers = [np.einsum("...n,...nc->...c", weights, points) for points in (source, target)]
    source, target = source - centers[0][..., None, :], target - centers[1][..., None, :]
    left, values, right = np.linalg.svd(
        np.einsum("...n,...ni,...nj->...ij", weights, target, source)
    )
    # A mirror image is turned back along the axis of smallest extent.
    sign = np.ones_like(values)
    sign[..., 2] = np.sign(np.linalg.det(left @ right))
    rotation = (left * sign[..., None, :]) @ right
    spread = np.einsum("...n,...nc->...", weights, source**2)
    scale = (values * sign).sum(-1) / spread
    shift = centers[1] - scale[..., None] * np.einsum("...ij,...j->...i", rotation, centers[0])
    return scale, rotation, shift


def first_poses(points: np.ndarray, landmarks: np.ndarray, weights: np.ndarray, size: int) -> Poses:
    """Read rough poses off 3D landmarks by a similarity.

    Args:
      points: [N, 3] of the face in the world.
      landmarks: [n, N, 3] tangents, with depth in the same unit, smaller = nearer.
      weights: [N].
      size: K, how many coefficients the poses get; all zero.

    Returns:
      n poses in front of the camera.
    """
    points = np.broadcast_to(points, landmarks.shape)
    scale, rotation, shift = similarity(
        points, landmarks, np.broadcast_to(weights, landmarks.shape[:-1])
    )
    depth = 1 / scale
    translation = np.concatenate([shift[:, :2] * depth[:, None], depth[:, None]], -1)
    return Poses(
        rotation=rotation, translation=translation, coefficients=np.zeros((len(landmarks), size))
    )


def fit_poses(
    start: Poses, observed: Observed, basis: np.ndarray, *, prior: float = 1.0, num_steps: int = 12
) -> Poses:
    """Fit poses, and how the basis moves the points, to what pictures show.

    Minimises Cauchy's loss of the residuals over their deviations, plus `prior` times the squared
    coefficients.

    Args:
      start: n poses with K coefficients.
      observed: by n pictures.
      basis: [K, N, 3] world units a standard deviation; K may be 0.
      prior: weight of the coefficients' squares.
      num_steps: damped Gauss-Newton steps; one that would raise the loss is not taken.

    Returns:
      n poses, float64.
    """
    count = len(start)
    if not count:
        return start
    fitted = []
    moves = jnp.asarray(basis, jnp.float32)
    for first in range(0, count, _CHUNK):
        index = np.minimum(np.arange(first, first + _CHUNK), count - 1)
        poses, seen = (
            jax.tree.map(lambda x, index=index: np.asarray(x[index], np.float32), given)
            for given in (start, observed)
        )
        fitted.append(_fit_chunk(poses, seen, moves, jnp.float32(prior), num_steps=num_steps))
    joined = jax.tree.map(
        lambda *parts: np.concatenate([np.asarray(p, np.float64) for p in parts])[:count], *fitted
    )
    # float32 sums leave a rotation that is one to some 1e-6.
    left, _, right = np.linalg.svd(joined.rotation)
    return replace(joined, rotation=left @ right)


def project(points: np.ndarray, poses: Poses) -> np.ndarray:
    """Tangents [n, N, 2] of points [n, N, 3] or [N, 3] in n cameras."""
    camera = np.asarray(points) @ np.swapaxes(np.asarray(poses.rotation), -1, -2)
    camera = camera + np.asarray(poses.translation)[:, None]
    return camera[..., :2] / camera[..., 2:]


def facing(points: np.ndarray, normals: np.ndarray, poses: Poses) -> np.ndarray:
    """Cosines [n, N] between the normals of points and the directions to the camera.

    Args:
      points: [N, 3] or [n, N, 3].
      normals: [N, 3] unit.
      poses: n of them.
    """
    away = points - poses.cam2world[:, None, :3, 3]
    away = away / np.linalg.norm(away, axis=-1, keepdims=True)
    return -np.einsum("nic,ic->ni", away, normals)


def move_poses(poses: Poses, scale: float, rotation: np.ndarray, shift: np.ndarray) -> Poses:
    """The poses after the world was moved by a similarity, so that pictures stay as they are."""
    turned = np.asarray(poses.rotation) @ rotation.T
    return replace(
        poses,
        rotation=turned,
        translation=scale * np.asarray(poses.translation) - turned @ shift,
    )


@partial(jax.jit, static_argnames=("num_steps",))
def _fit_chunk(
    start: Poses, observed: Observed, basis: Array, prior: Array, *, num_steps: int
) -> Poses:
    fit = partial(_fit_one, basis=basis, prior=prior, num_steps=num_steps)
    return jax.vmap(fit)(start, observed)


def _fit_one(
    start: Poses, observed: Observed, *, basis: Array, prior: Array, num_steps: int
) -> Poses:
    product = partial(jnp.matmul, precision="highest")
    flat = basis.reshape(len(basis), 3 * basis.shape[1])
    size = 6 + len(basis)

    def camera_points(poses: Poses) -> tuple[Array, Array]:
        moved = observed.points + product(poses.coefficients, flat).reshape(-1, 3)
        turned = product(moved, poses.rotation.T)
        return turned, turned + poses.translation

    def residuals(camera: Array) -> Array:
        return PIXELS * (camera[:, :2] / camera[:, 2:] - observed.tangents)

    def loss(poses: Poses) -> Array:
        square = jnp.sum(jnp.square(residuals(camera_points(poses)[1])), -1)
        reach = jnp.square(observed.reach)
        robust = jnp.sum(observed.weights * reach * jnp.log1p(square / reach))
        return robust + prior * jnp.sum(jnp.square(poses.coefficients))

    def step(state: tuple[Poses, Array, Array], _) -> tuple[tuple[Poses, Array, Array], None]:
        poses, now, damping = state
        turned, camera = camera_points(poses)
        slopes = jnp.concatenate(
            [
                jnp.cross(jnp.eye(3)[:, None], turned[None]),
                jnp.broadcast_to(jnp.eye(3)[:, None], (3, *turned.shape)),
                product(basis, poses.rotation.T),
            ]
        )  # [6 + K, N, 3] of the points in the camera
        depth = camera[:, 2:]
        slopes = (slopes[..., :2] - slopes[..., 2:] * camera[:, :2] / depth) / depth * PIXELS
        error = residuals(camera)
        hold = observed.weights / (1 + jnp.sum(jnp.square(error), -1) / jnp.square(observed.reach))
        root = jnp.sqrt(hold)[:, None]
        slopes = (slopes * root).reshape(size, error.size)
        error = (error * root).ravel()
        pull = jnp.concatenate([jnp.zeros(6), jnp.full(len(basis), prior)])
        values = jnp.concatenate([jnp.zeros(6), poses.coefficients])
        normal = product(slopes, slopes.T) + jnp.diag(pull)
        normal = normal + jnp.diag(damping * jnp.diag(normal) + 1e-9)
        change = -jnp.linalg.solve(normal, product(slopes, error) + pull * values)
        new = Poses(
            rotation=product(_rotation(change[:3]), poses.rotation),
            translation=poses.translation + change[3:6],
            coefficients=poses.coefficients + change[6:],
        )
        there = loss(new)
        better = there < now
        poses = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, poses)
        damping = damping * jnp.where(better, _LESS, _MORE)
        return (poses, jnp.where(better, there, now), damping), None

    state = start, loss(start), jnp.float32(_DAMPING)
    return jax.lax.scan(step, state, length=num_steps)[0][0]


def _rotation(vector: Array) -> Array:
    """Rotation matrix [3, 3] of a rotation vector [3] by Rodrigues' formula."""
    square = jnp.sum(jnp.square(vector))
    small = square < 1e-8
    angle = jnp.sqrt(jnp.where(small, 1.0, square))
    sine = jnp.where(small, 1 - square / 6, jnp.sin(angle) / angle)
    cosine = jnp.where(small, 0.5 - square / 24, (1 - jnp.cos(angle)) / angle**2)
    x, y, z = vector
    cross = jnp.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return jnp.eye(3) + sine * cross + cosine * jnp.matmul(cross, cross, precision="highest")
