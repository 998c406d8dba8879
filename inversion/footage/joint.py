"""One face for all pictures of a person: poses and a shared free shape, in turns.

A single picture tells little of a face's depth, and what its shape is taken for wrongly turns the
pose. Pictures from several sides settle it. Landmarks hold where the face looks at the camera: at
the outline they slide along the skin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from inversion.footage.face_model import WORLD_UNITS_A_CM, FaceModel, point_normals
from inversion.footage.poses import (
    PIXELS,
    Observed,
    Poses,
    facing,
    first_poses,
    fit_poses,
    move_poses,
    project,
    similarity,
)

# Deviation of a landmark, pixels of a window of 512, and how many independent points the landmarks
# of a picture count for: neighbours err together.
SIGMA, EFFECTIVE_POINTS = 1.5, 60.0
# The same for a picture by itself, whose shape is not known.
_SINGLE_POINTS = 3.3
THINNING = 4  # of landmarks, where some are enough
REACH = 4.0  # pixels beyond which a landmark loses its hold
# Landmarks whose normals turn away by more than the first cosine count nothing, from the second on
# in full.
_EDGE, _FULL = 0.1, 0.5
# Deviation of a person's points from what the basis says of them.
_FREEDOM = 0.3 * WORLD_UNITS_A_CM


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Poses of n pictures and the face that they show.

    Attributes:
      poses: n, with coefficients [E] of the expressions.
      shape: [468, 3] of the person, without expression; world units.
    """

    poses: Poses
    shape: np.ndarray


def fit_single(
    model: FaceModel, tangents: np.ndarray, start: Poses | None = None, *, num_steps: int = 12
) -> Poses:
    """Fit pose, shape and expression of each picture by itself.

    Half of the weight is that of Procrustes' points, half that of all that face the camera. The
    basis is held tight: what it could explain of a single picture, a turn explains as well.

    Args:
      model: the face.
      tangents: [n, 468, 3] landmarks with depth.
      start: from which poses; from the landmarks' depth if not given.
      num_steps: damped Gauss-Newton steps.

    Returns:
      n poses with S + E coefficients, first those of the shape.
    """
    basis = np.concatenate([model.shapes, model.expressions])
    # Neighbours say nearly the same: some of them do.
    chosen = np.unique(np.append(np.flatnonzero(model.weights), np.arange(0, 468, THINNING)))
    if start is None:
        start = first_poses(model.points, tangents, model.weights, len(basis))
    seen = landmark_weights(model, model.points, start)[:, chosen]
    seen = seen * len(model.points) / EFFECTIVE_POINTS / len(chosen)
    weights = _SINGLE_POINTS / 2 * (seen + model.weights[chosen] / SIGMA**2)
    lead = (len(tangents), len(chosen))
    observed = Observed(
        points=np.broadcast_to(model.points[chosen], (*lead, 3)),
        tangents=tangents[:, chosen, :2],
        weights=weights,
        reach=np.full(lead, REACH),
    )
    return fit_poses(start, observed, basis[:, chosen], num_steps=num_steps)


def fit_joint(
    model: FaceModel,
    tangents: np.ndarray,
    start: Poses,
    trust: np.ndarray,
    *,
    num_rounds: int = 6,
) -> Faces:
    """Fit one shape to all pictures, and to each its pose and expression.

    Args:
      model: the face.
      tangents: [n, 468, 2] landmarks.
      start: n poses as `fit_single` finds them.
      trust: [n] weight of each picture in the shape, 0 to 1.
      num_rounds: turns between poses and shape.

    Returns:
      The poses and the face, brought onto the mean face by a similarity.
    """
    shapes = np.asarray(start.coefficients)[:, : len(model.shapes)]
    average = (trust[:, None] * shapes).sum(0) / trust.sum()
    shape = model.points + np.tensordot(average, model.shapes, 1)
    poses = replace(start, coefficients=start.coefficients[:, len(model.shapes) :])
    for _ in range(num_rounds):
        poses = fit_expressions(model, shape, tangents, poses, num_steps=4)
        shape = fit_shape(model, shape, tangents, poses, (trust, np.full(len(trust), PIXELS)))
        scale, rotation, shift = onto_mean_face(model, shape)
        shape = scale * shape @ rotation.T + shift
        poses = move_poses(poses, scale, rotation, shift)
    return Faces(poses=fit_expressions(model, shape, tangents, poses, num_steps=6), shape=shape)


def fit_expressions(
    model: FaceModel,
    shape: np.ndarray,
    tangents: np.ndarray,
    start: Poses,
    *,
    num_steps: int = 12,
    every: int = 1,
) -> Poses:
    """Fit pose and expression of each picture to its landmarks, the person's shape known.

    Args:
      model: the face.
      shape: [468, 3] of the person.
      tangents: [n, 468, 2] landmarks.
      start: n poses with coefficients of the expressions.
      num_steps: damped Gauss-Newton steps.
      every: every so many landmarks are looked at, with the weight of all: neighbours say alike.
    """
    lead = tangents[:, ::every].shape[:2]
    observed = Observed(
        points=np.broadcast_to(shape[::every], (*lead, 3)),
        tangents=tangents[:, ::every],
        weights=every * landmark_weights(model, shape, start)[:, ::every],
        reach=np.full(lead, REACH),
    )
    return fit_poses(start, observed, model.expressions[:, ::every], num_steps=num_steps)


def landmark_weights(model: FaceModel, shape: np.ndarray, poses: Poses) -> np.ndarray:
    """Weights [n, 468] of landmarks by how far the skin there faces the camera, 1 / pixels^2."""
    cosine = facing(shape, point_normals(shape, model.triangles), poses)
    seen = np.clip((cosine - _EDGE) / (_FULL - _EDGE), 0, 1) ** 2
    return seen * EFFECTIVE_POINTS / (SIGMA**2 * len(shape))


def faces(model: FaceModel, shape: np.ndarray, poses: Poses) -> np.ndarray:
    """The face [n, 468, 3] with each picture's expression."""
    return shape + np.tensordot(np.asarray(poses.coefficients), model.expressions, 1)


def onto_mean_face(model: FaceModel, shape: np.ndarray) -> tuple:
    """Scale, rotation [3, 3] and shift [3] that bring a shape onto the mean face."""
    return similarity(shape, model.points, model.weights)


def fit_shape(
    model: FaceModel,
    shape: np.ndarray,
    tangents: np.ndarray,
    poses: Poses,
    held: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Move each point to where the pictures see it, near what the basis says of the others.

    Args:
      model: the face.
      shape: [468, 3] to start from.
      tangents: [n, 468, 2] landmarks.
      poses: n of them with expressions.
      held: [n] weight of each picture and [n] its pixels of a window of 512 a unit of tangent.

    Returns:
      [468, 3].
    """
    trust, unit = held
    moved = faces(model, shape, poses)
    error = unit[:, None, None] * (project(moved, poses) - tangents)
    weights = landmark_weights(model, shape, poses) * trust[:, None]
    weights = weights / (1 + (error**2).sum(-1) / REACH**2)
    slopes = _slopes(moved, poses) * unit[:, None, None, None]
    held_slopes = slopes * weights[..., None, None]
    normal = np.einsum("nikc,nikd->icd", held_slopes, slopes)
    pull = np.einsum("nikc,nik->ic", held_slopes, error)
    expected = model.points + project_onto_basis(shape - model.points, model.shapes)
    prior = EFFECTIVE_POINTS / len(shape) / _FREEDOM**2
    normal = normal + prior * np.eye(3)
    pull = pull + prior * (shape - expected)
    return shape - np.linalg.solve(normal, pull[..., None])[..., 0]


def expressions_at(
    model: FaceModel, shape: np.ndarray, tangents: np.ndarray, poses: Poses, unit: np.ndarray
) -> np.ndarray:
    """Fit the expressions [n, E] of pictures, their poses known: one robust Gauss-Newton step.

    Args:
      model: the face.
      shape: [468, 3] of the person.
      tangents: [n, 468, 2] landmarks.
      poses: n of them with expressions to start from.
      unit: [n] pixels of a window of 512 a unit of tangent.
    """
    moved = faces(model, shape, poses)
    error = unit[:, None, None] * (project(moved, poses) - tangents)
    weights = landmark_weights(model, shape, poses) / (1 + (error**2).sum(-1) / REACH**2)
    slopes = np.einsum("nikc,eic->neik", _slopes(moved, poses), model.expressions)
    lead = (*slopes.shape[:2], -1)
    slopes = (slopes * unit[:, None, None, None]).reshape(lead)
    held = (slopes.reshape(*lead[:2], len(shape), 2) * weights[:, None, :, None]).reshape(lead)
    values = np.asarray(poses.coefficients)
    normal = held @ slopes.swapaxes(-1, -2) + np.eye(lead[1])
    pull = (held @ error.reshape(len(error), -1, 1))[..., 0] + values
    return values - np.linalg.solve(normal, pull[..., None])[..., 0]


def _slopes(points: np.ndarray, poses: Poses) -> np.ndarray:
    """Change [n, N, 2, 3] of tangents with points [n, N, 3] of the world."""
    rotation = np.asarray(poses.rotation)
    camera = points @ rotation.swapaxes(-1, -2) + np.asarray(poses.translation)[:, None]
    depth = camera[..., 2, None, None]
    across = (
        rotation[:, None, :2]
        - (camera[..., :2] / camera[..., 2:])[..., None] * rotation[:, None, 2:]
    )
    return across / depth


def project_onto_basis(change: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Nearest change [P, 3] within a basis of deviations, its coefficients held to about one."""
    flat = basis.reshape(len(basis), change.size)
    normal = flat @ flat.T + _FREEDOM**2 * np.eye(len(flat))
    return (np.linalg.solve(normal, flat @ change.ravel()) @ flat).reshape(change.shape)
