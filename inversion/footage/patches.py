"""Tracked points found again, by how the picture about them must look from each camera.

What is tracked from frame to frame slides a little with every frame, and is lost sooner or later.
Once cameras are roughly known, so is how the surface about a point must look in any picture: each
is compared with one picture of it, turned as the cameras say. That adds up no errors, and a head
that turns back is seen to have come back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from inversion.footage.lenses import Lens
from inversion.footage.poses import Poses
from inversion.footage.tracking import (
    HEAD_MIDDLE,
    HEAD_RADII,
    Crop,
    Tracks,
    crop_of,
    opencv,
    triangulate,
)
from inversion.footage.windows import Window

# Of a patch: pixels of a crop from its middle to its border, of which every second is compared.
_HALF, _STRIDE = 10, 2
_STEPS = 4  # of Gauss and Newton, from where a point is expected
_MOST_STEP, _MOST_MOVED = 2.0, 5.0  # pixels of a crop, in a step and from there
_ALIKE = 0.8  # correlation of two pictures of a patch that are taken for the same
# Cosine of the angle between a surface's normal and the way to the camera: beyond 70 degrees there
# is little left to see of a patch.
_FACING = 0.34
_POINTS, _APART = 600, 0.012  # how many at most, and world units between two of them
# A surface is flat as far as its nearest points reach, and lies about as the head's ellipsoid does.
_NEAREST, _AS_ELLIPSOID, _MOST_TILT = 12, 0.3, 0.6
_OFFSETS = np.arange(-_HALF, _HALF + 1, _STRIDE).astype(np.float32)
_GRID = np.stack(np.meshgrid(_OFFSETS, _OFFSETS), -1).reshape(-1, 2)  # [P, 2], x first


@dataclass(frozen=True)
class _Patches:
    """What the surface about M points looks like, each from where it is seen best.

    Attributes:
      points: [M, 3].
      axes: [M, 3, 2] along the surface, such that steps along them are pixels of that crop.
      values: float32 [M, P] grey values there, less their mean and over their length.
      steps: float32 [M, 2, P] from differences to values, how far a patch is off along its axes.
    """

    points: np.ndarray
    axes: np.ndarray
    values: np.ndarray
    steps: np.ndarray


@dataclass(frozen=True)
class _View:
    """A crop of a picture, and its camera.

    Attributes:
      crop: of the picture.
      grey: float32, its values.
      rotation: [3, 3] of the world in the camera.
      translation: [3], likewise.
      focal: pixels of the whole picture.
      middle: [2] of its pixels.
    """

    crop: Crop
    grey: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray
    focal: float
    middle: np.ndarray

    def see(self, points: np.ndarray, axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices [M, 2] of the crop where points [M, 3] are, and slopes [M, 2, K] by axes."""
        camera = points @ self.rotation.T + self.translation
        tangents = camera[:, :2] / camera[:, 2:]
        along = self.rotation @ axes
        slopes = (along[:, :2] - tangents[..., None] * along[:, 2:]) / camera[:, 2:, None]
        there = self.crop.from_picture(self.middle + self.focal * tangents)
        return there, self.focal / self.crop.step * slopes


def find_again(
    pictures: tuple[Sequence[np.ndarray], np.ndarray, Sequence[Window]],
    tracks: Tracks,
    lens: Lens,
    poses: Poses,
    asked: np.ndarray,
) -> Tracks:
    """Find tracked points in all pictures that should show them.

    Args:
      pictures: n of them uint8 [h, w], their sizes [n, 2], and windows, as for
        `tracking.track_points`.
      tracks: sightings so far.
      lens: whose cameras look into the windows.
      poses: of n frames.
      asked: bool [n], which frames are looked at; their poses must be known.

    Returns:
      Sightings of some of the points, spread over the head; in frames not asked for, as they were.

    Raises:
      InputError: if OpenCV is not installed.
    """
    cv2, (grays, sizes, windows) = opencv(), pictures
    seen = lens.tangents(tracks.pixels, tracks.frame)
    places, known = triangulate(tracks, seen, poses, asked)
    chosen = _spread(places, known, tracks)
    if not len(chosen):
        return tracks
    points, normals = places[chosen], _normals(places[chosen], places[known])
    turns = lens.turns.swapaxes(-1, -2)
    rotation = turns @ np.asarray(poses.rotation)
    translation = np.einsum("nij,nj->ni", turns, np.asarray(poses.translation))

    def view(i: int) -> _View:
        crop = crop_of(cv2, grays[i], sizes[i], windows[i])
        grey = crop.picture.astype(np.float32)
        return _View(crop, grey, rotation[i], translation[i], lens.focal, lens.middle[i])

    frames = np.flatnonzero(asked)
    cameras = -np.einsum("nji,nj->ni", rotation[frames], translation[frames])
    facing = np.stack([_facing(camera, points, normals) for camera in cameras])
    patches = _look(cv2, view, points, normals, frames[facing.argmax(0)])
    position = np.full(tracks.count, -1)
    position[chosen] = np.arange(len(chosen))
    others = ~asked[tracks.frame] & (position[tracks.point] >= 0)
    found = [(tracks.frame[others], position[tracks.point[others]], tracks.pixels[others])]
    for i, towards in zip(frames.tolist(), facing, strict=True):
        shown = np.flatnonzero(towards > _FACING)
        if len(shown):
            here = view(i)
            there, point = _match(cv2, here, patches, shown)
            found.append((np.full(len(point), i), point, here.crop.to_picture(there)))
    frame, point, pixels = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(frame, kind="stable")
    return Tracks(frame=frame[order], point=point[order], pixels=pixels[order], count=len(chosen))


def _spread(points: np.ndarray, known: np.ndarray, tracks: Tracks) -> np.ndarray:
    """Indices of known points that lie apart from each other, those seen longest first."""
    number = np.bincount(tracks.point, minlength=tracks.count)
    order = np.flatnonzero(known)
    order = order[np.argsort(-number[order], kind="stable")]
    cells = np.floor(points[order] / _APART).astype(int)
    first = np.unique(cells, axis=0, return_index=True)[1]
    return order[np.sort(first)[:_POINTS]]


def _normals(points: np.ndarray, cloud: np.ndarray) -> np.ndarray:
    """Normals [M, 3] of the head's surface at points, by those of the cloud [N, 3] about them."""
    ellipsoid = _unit((points - HEAD_MIDDLE) / HEAD_RADII**2)
    if len(cloud) < _NEAREST:
        return ellipsoid
    near = cloud[KDTree(cloud).query(points, k=_NEAREST)[1]]
    near = near - near.mean(1, keepdims=True)
    normals = np.linalg.eigh(near.swapaxes(1, 2) @ near)[1][:, :, 0]
    along = (normals * ellipsoid).sum(-1, keepdims=True)
    normals = np.where(np.abs(along) < _MOST_TILT, ellipsoid, np.sign(along) * normals)
    return _unit(normals + _AS_ELLIPSOID * ellipsoid)


def _facing(camera: np.ndarray, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Cosines [M] between normals and the ways from points to a camera [3]."""
    return (_unit(camera - points) * normals).sum(-1)


def _look(
    cv2, view: Callable[[int], _View], points: np.ndarray, normals: np.ndarray, best: np.ndarray
) -> _Patches:
    """Take a picture of each point [M, 3] in a frame [M] from which it is seen well."""
    # Any two directions along the surface.
    aside = np.eye(3)[np.abs(normals).argmin(-1)]
    across = _unit(np.cross(normals, aside))
    axes = np.stack([across, np.cross(normals, across)], -1)
    values = np.zeros((len(points), len(_GRID)), np.float32)
    slopes = np.zeros((len(points), len(_GRID), 2), np.float32)
    for i in np.unique(best).tolist():
        here, seen = np.flatnonzero(best == i), view(i)
        middle, by_axis = seen.see(points[here], axes[here])
        axes[here] = axes[here] @ np.linalg.inv(by_axis)
        places = middle[:, None] + _GRID
        values[here] = _sample(cv2, seen.grey, places)
        for axis, step in enumerate(np.eye(2)):
            ahead, behind = (_sample(cv2, seen.grey, places + by) for by in (step, -step))
            slopes[here, :, axis] = (ahead - behind) / 2
    values, length = _normalise(values)
    slopes = (slopes - slopes.mean(1, keepdims=True)) / length[..., None]
    normal = slopes.swapaxes(1, 2) @ slopes + 1e-9 * np.eye(2, dtype=np.float32)
    steps = np.linalg.inv(normal) @ slopes.swapaxes(1, 2)
    return _Patches(points=points, axes=axes, values=values, steps=steps)


def _match(cv2, view: _View, patches: _Patches, here: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices [K, 2] of a crop where points are found, of those looked for, and which these are."""
    expected, warp = view.see(patches.points[here], patches.axes[here])
    offsets = _GRID @ warp.swapaxes(1, 2).astype(np.float32)
    values, steps = patches.values[here], patches.steps[here]
    there = expected
    for _ in range(_STEPS):
        now = _normalise(_sample(cv2, view.grey, there[:, None] + offsets))[0]
        off = warp @ (steps @ (now - values)[..., None])
        there = there - np.clip(off[..., 0], -_MOST_STEP, _MOST_STEP)
    now = _normalise(_sample(cv2, view.grey, there[:, None] + offsets))[0]
    border = len(view.crop.picture) - 1 - _HALF
    kept = (now * values).sum(-1) > _ALIKE
    kept &= np.linalg.norm(there - expected, axis=-1) < _MOST_MOVED
    kept &= ((there > _HALF) & (there < border)).all(-1)
    return there[kept], here[kept]


def _sample(cv2, grey: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values float32 [M, P] of a crop at places [M, P, 2], between its pixels."""
    places = places.astype(np.float32)
    return cv2.remap(grey, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _normalise(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows [M, P] less their means and over their lengths, and these lengths [M, 1]."""
    values = values - values.mean(-1, keepdims=True)
    length = np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-6)
    return values / length, length


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
