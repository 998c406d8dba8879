"""The similarity that brings cameras of another world into EG3D's, found from the cameras alone.

EG3D's world has the head at the origin, y up and the face towards +z, seen from 2.7 units away.
Cameras around a head look at it: the point that is nearest to all their axes becomes the origin.
Cameras that are not rolled have their right at a right angle to what is up, wherever they look.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eg3d_jax.cameras import FFHQ_FOCAL
from eg3d_jax.errors import InputError
from inversion.footage.windows import RADIUS
from inversion.frames.scene import Lens, Scene
from inversion.similarity import Similarity

# Degrees between the axes that differ most, below which they meet nowhere in particular.
_PARALLEL = 4.0
# Distances of the axes from the point where they meet, and of the cameras from each other, as parts
# of the cameras' distance from it.
_APART, _ONE_PLACE = 0.25, 0.01
# Second smallest moment of the cameras' rights, from which they tell what is up.
_LEVEL = 1e-3
# Length of the cameras' mean direction, below which they stand all round the head.
_ALL_ROUND = 0.35
# Pictures whose focal length is EG3D's to this factor are taken to be its crops.
_SAME_FOCAL = 1.1


@dataclass(frozen=True, kw_only=True, eq=False)
class Meeting:
    """Where the axes of cameras meet.

    Attributes:
      point: [3] nearest to all of them.
      distances: [n] of the cameras from it.
      apart: median distance of the axes from it, as a part of that of the cameras.
      behind: how many cameras have it behind them.
    """

    point: np.ndarray
    distances: np.ndarray
    apart: float
    behind: int


def meeting(cam2world: np.ndarray) -> Meeting | None:
    """Find the point nearest to the axes of n cameras by least squares; None if it is not defined.

    That is of cameras at one place, or with axes that are nearly parallel.
    """
    positions, axes = cam2world[:, :3, 3], cam2world[:, :3, 2]
    if len(axes) < 2 or (axes @ axes.T).min() > np.cos(np.radians(_PARALLEL)):
        return None
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    centre = positions.mean(0)  # far from the origin, sums would cancel
    pull = np.einsum("nij,nj->i", across, positions - centre)
    point = centre + np.linalg.solve(across.sum(0), pull)
    away = point - positions
    distances = np.linalg.norm(away, axis=-1)
    spread = np.linalg.norm(positions - np.median(positions, axis=0), axis=-1).max()
    if spread <= _ONE_PLACE * np.median(distances) or not np.median(distances) > 0:
        return None
    off = np.linalg.norm(np.einsum("nij,nj->ni", across, away), axis=-1)
    return Meeting(
        point=point,
        distances=distances,
        apart=float(np.median(off) / np.median(distances)),
        behind=int(((away * axes).sum(-1) <= 0).sum()),
    )


def from_axes(scene: Scene, *, front: int | None = None) -> Similarity:
    """Find the similarity from the cameras alone.

    The point where their axes meet becomes the origin, what is up in the pictures becomes y, the
    horizontal mean of the directions to the cameras z. The scale is such that the head fills
    EG3D's crop as it fills the pictures: of pictures with EG3D's focal length, that the cameras'
    median distance is 2.7.

    Args:
      scene: n cameras.
      front: index of the picture that sees the face from the front, whose direction is z then.

    Raises:
      InputError: if the cameras do not define it; with the repair.
    """
    found = meeting(scene.cam2world)
    if found is None or found.apart > _APART or found.behind:
        raise InputError(f"{scene.source}: {_complaint(scene.cam2world, found)}")
    up = _up(scene.cam2world)
    if up is None:
        raise InputError(
            f"{scene.source}: the cameras are rolled so differently that they do not tell what is "
            "up; turn the pictures upright, and export their cameras again"
        )
    away = scene.cam2world[:, :3, 3] - found.point
    away = away / np.linalg.norm(away, axis=-1, keepdims=True)
    level = away - (away @ up)[:, None] * up
    forward = level.mean(0) if front is None else level[front]
    if np.linalg.norm(forward) < (_ALL_ROUND if front is None else 0.1):
        raise InputError(
            f"{scene.source}: the cameras stand all round the head, so that they do not tell where "
            "its face is; name a picture that sees it from the front: --front"
        )
    z = forward / np.linalg.norm(forward)
    rotation = np.stack([np.cross(up, z), up, z])
    scale = RADIUS / float(np.median(found.distances)) * _fill(scene.lenses)
    return Similarity(scale=scale, rotation=rotation, shift=-scale * rotation @ found.point)


def _fill(lenses: tuple[Lens, ...]) -> float:
    """Focal length of the pictures over EG3D's, 1 if they are nearly the same."""
    ratio = float(np.median([np.sqrt(a.fx * a.fy) / min(a.width, a.height) for a in lenses]))
    ratio /= FFHQ_FOCAL
    return 1.0 if 1 / _SAME_FOCAL < ratio < _SAME_FOCAL else ratio


def _up(cam2world: np.ndarray) -> np.ndarray | None:
    """What is up in the world: at right angles to the cameras' rights, where these differ."""
    mean = -cam2world[:, :3, 1].mean(0)
    right = cam2world[:, :3, 0]
    values, vectors = np.linalg.eigh(right.T @ right / len(right))
    # Cameras from a single side, or rolled ones, tell it by their mean alone.
    if values[1] > _LEVEL and values[0] < 0.1 * values[1]:
        level = vectors[:, 0]
        if abs(level @ mean) > 0.5 * np.linalg.norm(mean):
            return level * np.sign(level @ mean)
    length = float(np.linalg.norm(mean))
    return mean / length if length > 0.1 else None


def _complaint(cam2world: np.ndarray, found: Meeting | None) -> str:
    """Why the axes do not tell where the head is, and what to do."""
    inverse = meeting(np.linalg.inv(cam2world))
    if inverse is not None and inverse.apart < 0.1 and not (found and found.apart < inverse.apart):
        way = "" if inverse.behind == 0 else ", and their axes y and z turned round"
        return (
            "the cameras' axes do not meet, but would if these matrices were world-to-camera; "
            f"invert them{way}"
        )
    if found is None:
        positions = cam2world[:, :3, 3]
        if len(positions) > 1 and np.ptp(positions, axis=0).max() < 1e-6:
            return (
                f"all {len(positions)} cameras stand at one place, before which the head moves; "
                "give its pictures without cameras, as a folder of photos: `eg3d-jax prepare` "
                "finds the head's own motion"
            )
        return (
            f"the axes of its {len(positions)} cameras are nearly parallel, so that they meet "
            "nowhere; add pictures from other sides, or such in which a face is found"
        )
    if found.behind == len(cam2world):
        return (
            "the cameras look away from the point where their axes meet; if the matrices have "
            "OpenCV's camera axes (y down, z forward), multiply them from the right by "
            "diag(1, -1, -1, 1)"
        )
    if found.behind:
        return (
            f"{found.behind} of {len(cam2world)} cameras look away from the point where their axes "
            "meet; remove them, or export all with the same axes"
        )
    return (
        f"the cameras' axes miss each other by {100 * found.apart:.0f} % of their distance, so "
        "that they do not look at one head; check that the matrices are camera-to-world, and crop "
        "to the pictures around the head"
    )
