"""Square windows of pictures, chosen so that the camera found in them is true to the picture.

An official EG3D crop follows five points, and its label is then scaled to a distance of 2.7: the
two agree to some percent only. Here a window is as large, and lies where, the camera has exactly
that distance and looks at one fixed point of the head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eg3d_jax.cameras import FFHQ_FOCAL
from inversion.footage.poses import Poses

RADIUS = 2.7  # of EG3D's cameras about the origin, world units
# What lies in the middle of EG3D's crops, world units.
CENTER = np.array([0.0, 0.0125, 0.158])


@dataclass(frozen=True)
class Window:
    """An upright square crop of a picture.

    Attributes:
      center: [2] pixels, x right and y down; pixel centres lie at +.5.
      side: pixels.
    """

    center: np.ndarray
    side: float


def cut(pixels: np.ndarray, window: Window, size: int) -> np.ndarray:
    """Cut a window out of a picture, without aliasing; beyond the border it is mirrored.

    Args:
      pixels: uint8 [height, width, 3].
      window: what to cut.
      size: pixels a side of the result.

    Returns:
      uint8 [size, size, 3].
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    low = window.center - window.side / 2
    # Lanczos' filter reaches three pixels, of the larger of the two grids, beyond the window.
    margin = 3 * max(1.0, window.side / size) + 1
    first = np.floor(low - margin).astype(int)
    last = np.ceil(low + window.side + margin).astype(int)
    columns, rows = (
        _mirrored(np.arange(first[axis], last[axis]), (width, height)[axis]) for axis in (0, 1)
    )
    part = Image.fromarray(pixels[rows[:, None], columns])
    box = (*(low - first), *(low + window.side - first))
    return np.asarray(part.resize((size, size), Image.Resampling.LANCZOS, box=box))


def part_outside(window: Window, height: int, width: int) -> float:
    """Part of a window's area that lies outside its picture, 0 to 1."""
    low, high = window.center - window.side / 2, window.center + window.side / 2
    inside = np.clip(np.minimum(high, [width, height]) - np.maximum(low, 0), 0, None)
    return float(1 - inside.prod() / window.side**2)


def to_tangents(points: np.ndarray, windows: list[Window]) -> np.ndarray:
    """Turn pixels [n, ..., 2 or 3] of whole pictures into tangents in their windows' cameras.

    A third number, a depth in pixels, is scaled alike.
    """
    shape = (len(windows), *[1] * (points.ndim - 1))
    centers = np.zeros((len(windows), points.shape[-1]))
    centers[:, :2] = [window.center for window in windows]
    sides = np.array([window.side for window in windows]).reshape(shape)
    return (points - centers.reshape(*shape[:-1], -1)) / (sides * FFHQ_FOCAL)


def to_pixels(tangents: np.ndarray, windows: list[Window]) -> np.ndarray:
    """Turn tangents [n, ..., 2] in windows' cameras into pixels; undoes `to_tangents`."""
    shape = (len(windows), *[1] * (tangents.ndim - 1))
    centers = np.stack([window.center for window in windows]).reshape(*shape[:-1], 2)
    sides = np.array([window.side for window in windows]).reshape(shape)
    return centers + tangents * sides * FFHQ_FOCAL


def consistent_windows(poses: Poses, windows: list[Window]) -> list[Window]:
    """Move windows to where their cameras have EG3D's distance and look at the head's middle.

    A step of a fixed-point iteration: the pose has to be found anew in the window that comes out,
    as another window has its camera's axis elsewhere.
    """
    points = np.broadcast_to(CENTER, (len(windows), 1, 3))
    camera = np.einsum("nij,nkj->nki", np.asarray(poses.rotation), points)
    camera = camera + np.asarray(poses.translation)[:, None]
    centers = to_pixels(camera[..., :2] / camera[..., 2:], windows)[:, 0]
    radius = np.linalg.norm(poses.cam2world[:, :3, 3], axis=-1)
    return [
        Window(center=center, side=window.side * RADIUS / distance)
        for center, window, distance in zip(centers, windows, radius, strict=True)
    ]


def smooth_windows(windows: list[Window], *, strength: float) -> list[Window]:
    """Smooth the way of windows through a video by robust second differences.

    Args:
      windows: one a frame, in time order.
      strength: weight of the squared second differences against the squared changes, both in parts
        of a window's side; 0 changes nothing.

    Returns:
      Windows; a lone one that lies off is brought back to its neighbours.
    """
    if len(windows) < 3:
        return windows
    values = np.array([[*window.center, np.log(window.side)] for window in windows])
    unit = np.median([window.side for window in windows])
    values[:, :2] /= unit
    smoothed = smooth(values, strength=strength, reach=0.02)
    return [Window(center=row[:2] * unit, side=float(np.exp(row[2]))) for row in smoothed]


def smooth(
    values: np.ndarray, *, strength: float, reach: float, known: np.ndarray | None = None
) -> np.ndarray:
    """Smooth rows [n, c] by their second differences, robust to lone rows that lie off.

    Minimises Cauchy's loss of the changes plus `strength` times the squared second differences.

    Args:
      values: [n, c] rows in time order.
      strength: weight of the second differences.
      reach: changes beyond it lose their hold.
      known: [n] bool, which rows hold values; the others are filled in. All if not given.

    Returns:
      [n, c].
    """
    from scipy.linalg import solveh_banded

    count = len(values)
    known = np.ones(count) if known is None else np.asarray(known, float)
    values = np.where(known[:, None] > 0, values, 0.0)
    if count < 3 or strength == 0:
        return values
    bands = np.zeros((3, count))  # of D^T D, upper form: row 2 holds the diagonal
    stencil = np.array([1.0, -2.0, 1.0])
    for shift in range(3):
        for k in range(3 - shift):
            bands[2 - shift, k + shift : k + shift + count - 2] += stencil[k] * stencil[k + shift]
    hold, result = known, values
    for _ in range(5):
        matrix = strength * bands
        matrix[2] += hold + 1e-9
        result = solveh_banded(matrix, hold[:, None] * values)
        square = np.sum((result - values) ** 2, -1)
        hold = known / (1 + square / reach**2)
    return result


def _mirrored(index: np.ndarray, size: int) -> np.ndarray:
    """Indices of a picture continued by mirror images, its edge not repeated twice over."""
    index = index % (2 * size)
    return np.where(index < size, index, 2 * size - 1 - index)
