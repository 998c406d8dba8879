"""The lens of a video: its own focal length, which EG3D's convention does not know.

EG3D's cameras see a head from 2.7 world units away, whatever the picture was taken with. Points
tracked through a head's turn tell the true distance, by how much nearer parts grow; taking it for
2.7 would bend the path of the cameras. So a video is solved with its own focal length, in cameras
that look into the windows, and the result is told as EG3D's cameras at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from eg3d_jax.cameras import FFHQ_FOCAL
from inversion.footage.poses import Poses
from inversion.footage.windows import CENTER, RADIUS, Window
from inversion.similarity import Similarity


@dataclass(frozen=True, kw_only=True)
class Lens:
    """Focal length of a video, and cameras that look into a window of each of its n frames.

    Attributes:
      focal: pixels.
      middle: [n, 2] pixels, where the lens's axis meets the pictures.
      centers: [n, 2] pixels, middles of the windows.
      sides: [n] pixels of the windows; they only set the unit of residuals.
    """

    focal: float
    middle: np.ndarray
    centers: np.ndarray
    sides: np.ndarray

    @property
    def turns(self) -> np.ndarray:
        """[n, 3, 3] rotations from the axes of the video's camera to those of the windows'."""
        return turn_towards(self.centers - self.middle, self.focal)

    @property
    def pixels(self) -> np.ndarray:
        """[n] pixels of a window of 512 that a unit of tangent measures."""
        return 512 * self.focal / self.sides

    def tangents(self, pixels: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """Tangents [K, 2] in the windows' cameras of pixels [K, 2] of frames [K]."""
        rays = np.ones((len(pixels), 3))
        rays[:, :2] = (pixels - self.middle[frame]) / self.focal
        rays = np.einsum("kij,kj->ki", self.turns[frame], rays)
        return rays[:, :2] / rays[:, 2:]

    def project(self, points: np.ndarray, poses: Poses) -> np.ndarray:
        """Pixels [n, P, 2] of the pictures where points [n, P, 3] are seen."""
        camera = points @ np.asarray(poses.rotation).swapaxes(-1, -2)
        camera = camera + np.asarray(poses.translation)[:, None]
        camera = camera @ self.turns  # back to the axes of the video's camera
        return self.middle[:, None] + self.focal * camera[..., :2] / camera[..., 2:]

    def look_into(self, windows: list[Window], poses: Poses) -> tuple[Lens, Poses]:
        """The same cameras, looking into other windows of the same pictures."""
        after = replace(
            self,
            centers=np.stack([window.center for window in windows]),
            sides=np.array([window.side for window in windows]),
        )
        turned = after.turns @ self.turns.swapaxes(-1, -2)
        return after, replace(
            poses,
            rotation=turned @ np.asarray(poses.rotation),
            translation=np.einsum("nij,nj->ni", turned, np.asarray(poses.translation)),
        )

    def with_focal(self, focal: float, poses: Poses) -> tuple[Lens, Poses]:
        """Another focal length, and cameras as much nearer or further: heads keep their size."""
        translation = np.array(poses.translation)
        translation[:, 2] *= focal / self.focal
        return replace(self, focal=focal), replace(poses, translation=translation)


def turn_towards(pixels: np.ndarray, focal: float | np.ndarray) -> np.ndarray:
    """Least rotations [n, 3, 3] from a camera's axes to those of cameras that look at its pixels.

    Args:
      pixels: [n, 2] from the principal point.
      focal: pixels; one, or [n].
    """
    rays = np.ones((len(pixels), 3))
    rays[:, :2] = pixels / np.reshape(focal, (-1, 1))
    x, y, z = (rays / np.linalg.norm(rays, axis=-1, keepdims=True)).T
    rows = [
        [1 - x * x / (1 + z), -x * y / (1 + z), -x],
        [-x * y / (1 + z), 1 - y * y / (1 + z), -y],
        [x, y, z],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def consistent(lens: Lens, poses: Poses) -> list[Window]:
    """Windows in which EG3D's camera sees the head as large as the video does, and its middle."""
    camera = np.asarray(poses.rotation) @ CENTER + np.asarray(poses.translation)
    rays = np.einsum("nji,nj->ni", lens.turns, camera)
    centers = lens.middle + lens.focal * rays[:, :2] / rays[:, 2:]
    distance = np.linalg.norm(camera, axis=-1)
    scale = _scale(lens, centers) / distance
    _, turned = lens.look_into([Window(center, 1.0) for center in centers], poses)
    depth = depth_of(CENTER, np.asarray(turned.rotation)[:, 2])
    sides = scale * depth / FFHQ_FOCAL
    return [
        Window(center=center, side=float(side)) for center, side in zip(centers, sides, strict=True)
    ]


def as_eg3d(lens: Lens, poses: Poses) -> Poses:
    """EG3D's cameras of the lens's windows that show the head turned alike and as large."""
    middle = np.asarray(poses.rotation) @ CENTER + np.asarray(poses.translation)
    scale = _scale(lens, lens.centers) / np.linalg.norm(middle, axis=-1)
    depth = FFHQ_FOCAL * lens.sides / scale
    # In a window of another focal length the same tangent is another number of pixels.
    ratio = lens.focal / (FFHQ_FOCAL * lens.sides)
    across = middle[:, :2] / middle[:, 2:] * (ratio * depth)[:, None]
    there = np.concatenate([across, depth[:, None]], -1)
    return replace(poses, translation=there - np.asarray(poses.rotation) @ CENTER)


def in_other_world(
    cam2world: np.ndarray, window: Window, similarity: Similarity
) -> tuple[np.ndarray, Window]:
    """The camera and window of a picture in whose world heads lie otherwise.

    Where heads have another size, the camera stands elsewhere, in units of the head: it goes along
    the ray to the head's middle, which it thus sees turned alike, and then turns to the origin.

    Args:
      cam2world: [4, 4] EG3D's camera of the window.
      window: of the picture.
      similarity: into the other world, whose cameras look at the origin from as far.

    Returns:
      A camera there that sees the head as large and turned alike, and its window, which has the
      origin in its middle and the head where the picture has it.
    """
    moved, middle = similarity.move(cam2world[None])[0], similarity.move_points(CENTER)
    pose = moved.copy()
    pose[:3, 3], nearer = at_usual_distance(moved[:3, 3], middle)
    origin = -pose[:3, 3] @ moved[:3, :3]
    pose[:3, :3] = moved[:3, :3] @ turn_towards((origin[:2] / origin[2])[None], 1.0)[0].T
    # One focal length in pixels serves before the camera turns and after it.
    pixels = FFHQ_FOCAL * window.side / nearer
    seen_before, seen = ((middle - pose[:3, 3]) @ turned[:3, :3] for turned in (moved, pose))
    center = window.center + FFHQ_FOCAL * window.side * seen_before[:2] / seen_before[2]
    center = center - pixels * seen[:2] / seen[2]
    return pose, Window(center=center, side=pixels / FFHQ_FOCAL)


def _scale(lens: Lens, centers: np.ndarray) -> np.ndarray:
    """Pixels [n] that a length of one, one away from the camera, takes about these pixels."""
    square = ((centers - lens.middle) ** 2).sum(-1) / lens.focal**2
    # Away from the axis a flat picture stretches: radially by 1 / cos^2, across it by 1 / cos.
    return lens.focal * (1 + square) ** 0.75


def at_usual_distance(position: np.ndarray, middle: np.ndarray) -> tuple[np.ndarray, float]:
    """Where EG3D's camera sees a head from the same direction as a camera does.

    Args:
      position: [3] of the camera.
      middle: [3] of the head, nearer to the origin than RADIUS.

    Returns:
      [3] on the ray from the head's middle, RADIUS from the origin; and how many times as near to
      the head as before that is.
    """
    ray = position - middle
    before = float(np.linalg.norm(ray))
    after = float(depth_of(middle, -ray / before))
    return middle + ray * (after / before), before / after


def depth_of(middle: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """Distance [n] of a point [3] from cameras that look at it along [n, 3], RADIUS from the head.

    Args:
      middle: nearer to the origin than RADIUS.
      forward: unit.
    """
    along = forward @ middle
    return along + np.sqrt(along**2 - middle @ middle + RADIUS**2)
