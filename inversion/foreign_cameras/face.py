"""The similarity that brings cameras into EG3D's world, found from the face in their pictures.

Each picture by itself tells how the head is turned and about how far it is; from these a first
similarity follows. Then all pictures together move the points of one face to where they see them,
with their cameras held as given, and that face is laid on the mean one, by turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from eg3d_jax.cameras import FFHQ_FOCAL
from inversion.footage.face_model import FaceModel, load_face_model
from inversion.footage.joint import expressions_at, faces, fit_shape, onto_mean_face
from inversion.footage.lenses import turn_towards
from inversion.footage.poses import Poses, move_poses, project
from inversion.footage.solve import first_windows
from inversion.footage.windows import Window
from inversion.frames.scene import Lens
from inversion.similarity import Similarity

# A picture whose head is turned otherwise than most say, or lies elsewhere, is left out.
_OTHER_TURN, _ELSEWHERE = 25.0, 0.5
# The fewest pictures that agree, and the least part of those with a face.
_FEWEST, _LEAST_PART = 2, 0.5
# Pictures whose landmarks are further from the face than this, pixels of a window of 512, do not
# show one head by the given cameras.
_MOST_RESIDUAL = 16.0
_ROUNDS = 24
_TRUSTED_YAW = 40.0  # degrees up to which landmarks tell of a face's shape


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceFit:
    """What faces tell of cameras.

    Attributes:
      similarity: into EG3D's world.
      used: [n] bool, pictures that agree.
      residual: [n] median distance of landmarks from the face, pixels of a window of 512; of those
        that were not used as well.
    """

    similarity: Similarity
    used: np.ndarray
    residual: np.ndarray


def from_faces(
    cam2world: np.ndarray,
    lenses: Sequence[Lens],
    tangents: np.ndarray,
    depths: np.ndarray,
) -> FaceFit | None:
    """Find the similarity from landmarks in n pictures.

    Args:
      cam2world: [n, 4, 4] in the world of the cameras.
      lenses: n.
      tangents: [n, 468, 2] of the landmarks in their cameras, free of distortion.
      depths: [n, 468] of the landmarks in pixels, smaller nearer, as the net gives them.

    Returns:
      None if the pictures do not agree, or are fewer than two.
    """
    if len(cam2world) < _FEWEST:
        return None
    model = load_face_model()
    focal = np.array([np.sqrt(lens.fx * lens.fy) for lens in lenses])
    pixels = np.concatenate([tangents * focal[:, None, None], depths[..., None]], -1)
    windows, single = first_windows(model, pixels)
    turns, heads = _heads(single, windows, focal)
    first = _consensus(cam2world, turns, heads)
    if first is None:
        return None
    similarity, used = first
    unit = 512 * focal / np.array([window.side for window in windows])
    fit = _refined(model, cam2world, tangents, unit, similarity, used)
    return fit if np.median(fit.residual[used]) <= _MOST_RESIDUAL else None


def _heads(
    single: Poses, windows: Sequence[Window], focal: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [n, 3, 3] of the head in its camera, and its origin [n, 3] there.

    The windows' cameras have EG3D's focal length and look into the windows; the true ones see the
    head as large and as turned, from another distance.
    """
    centers = np.stack([window.center for window in windows])
    sides = np.array([window.side for window in windows])
    translation = np.asarray(single.translation)
    back = turn_towards(centers, focal).swapaxes(-1, -2)
    rotation = back @ np.asarray(single.rotation)
    # Pixels of the origin, from the principal point; and of a unit of length there.
    origin = centers + FFHQ_FOCAL * sides[:, None] * translation[:, :2] / translation[:, 2:]
    size = FFHQ_FOCAL * sides / np.linalg.norm(translation, axis=-1)
    square = (origin**2).sum(-1) / focal**2
    distance = focal * (1 + square) ** 0.75 / size
    rays = np.concatenate([origin / focal[:, None], np.ones((len(origin), 1))], -1)
    return rotation, distance[:, None] * rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def _consensus(
    cam2world: np.ndarray, turns: np.ndarray, heads: np.ndarray
) -> tuple[Similarity, np.ndarray] | None:
    """The similarity on which most pictures agree, and which these are; None if too few do."""
    axes, positions = cam2world[:, :3, :3], cam2world[:, :3, 3]
    found = axes @ turns  # of the head in the cameras' world
    rotation = _mean_rotation(found)
    away = np.einsum("nij,nj->ni", axes, heads)
    centre, size = _common_point(positions, away)
    if not size > 0:
        return None
    angle = _degrees_between(found, rotation)
    off = np.linalg.norm(positions + size * away - centre, axis=-1) / size
    used = (angle < _OTHER_TURN) & (off < _ELSEWHERE)
    if used.sum() < max(_FEWEST, _LEAST_PART * len(used)):
        return None
    scale = 1 / size
    similarity = Similarity(scale=scale, rotation=rotation.T, shift=-scale * rotation.T @ centre)
    return similarity, used


def _mean_rotation(rotations: np.ndarray) -> np.ndarray:
    """Rotation from which the sum of the angles to some is about the least."""
    start = min(rotations, key=lambda one: np.median(_degrees_between(rotations, one)))
    mean = start
    for _ in range(10):
        weights = 1 / np.maximum(_degrees_between(rotations, mean), 0.5)
        left, _, right = np.linalg.svd(np.einsum("n,nij->ij", weights, rotations))
        left[:, 2] *= np.sign(np.linalg.det(left @ right))
        mean = left @ right
    return mean


def _degrees_between(rotations: np.ndarray, other: np.ndarray) -> np.ndarray:
    cosine = (np.einsum("nij,ij->n", rotations, other) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def _common_point(positions: np.ndarray, away: np.ndarray) -> tuple[np.ndarray, float]:
    """Point c and length s for which positions + s away are nearest to c, robustly."""
    middle = positions.mean(0)
    unit = max(float(np.abs(positions - middle).max()), 1e-12)
    start = (positions - middle) / unit
    weights = np.ones(len(start))
    point, length = np.zeros(3), 0.0
    for _ in range(10):
        rows = np.concatenate([np.tile(np.eye(3), (len(start), 1)), -away.reshape(-1, 1)], 1)
        root = np.repeat(np.sqrt(weights), 3)
        solved, *_ = np.linalg.lstsq(rows * root[:, None], start.ravel() * root, rcond=None)
        point, length = solved[:3], float(solved[3])
        off = np.linalg.norm(start + length * away - point, axis=-1)
        weights = 1 / np.maximum(
            off, 0.02 * np.median(np.linalg.norm(length * away, axis=-1)) + 1e-9
        )
    return middle + unit * point, unit * length


def _refined(
    model: FaceModel,
    cam2world: np.ndarray,
    tangents: np.ndarray,
    unit: np.ndarray,
    similarity: Similarity,
    used: np.ndarray,
) -> FaceFit:
    """One face for all pictures that agree, and the similarity that lays it on the mean one."""
    shape, poses = model.points, _poses(similarity.move(cam2world), model)
    trust = np.where(used & (np.abs(poses.yaw) < _TRUSTED_YAW), 1.0, 0.0)
    if np.count_nonzero(trust) < _FEWEST:
        trust = np.where(used, 1.0, 0.0)
    for _ in range(_ROUNDS):
        found = expressions_at(model, shape, tangents, poses, unit)
        poses = replace(poses, coefficients=found)
        shape = fit_shape(model, shape, tangents, poses, (trust, unit))
        scale, rotation, shift = onto_mean_face(model, shape)
        shape = scale * shape @ rotation.T + shift
        poses = move_poses(poses, float(scale), rotation, shift)
        step = Similarity(scale=float(scale), rotation=rotation, shift=shift)
        similarity = step.after(similarity)
    off = project(faces(model, shape, poses), poses) - tangents
    residual = unit * np.median(np.linalg.norm(off, axis=-1)[:, model.weights > 0], -1)
    return FaceFit(similarity=similarity, used=used, residual=residual)


def _poses(cam2world: np.ndarray, model: FaceModel) -> Poses:
    rotation = cam2world[:, :3, :3].swapaxes(-1, -2)
    return Poses(
        rotation=rotation,
        translation=-np.einsum("nij,nj->ni", rotation, cam2world[:, :3, 3]),
        coefficients=np.zeros((len(cam2world), len(model.expressions))),
    )
