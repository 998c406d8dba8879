"""Target views, and their selection from the frames of a video (spec inversion 1.2).

Selection runs on the host, on numbers rather than traced arrays. It differs from the authors' code
in three ways: no frame is chosen twice; angles are periodic, so a video may pass behind the head
where azimuths jump from pi to -pi; and too few frames are an error. Where none of this matters,
the chosen frames are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from eg3d_jax.cameras import FRONTAL, Cameras

_TURN = 2 * np.pi


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Views:
    """Pictures with their cameras.

    Attributes:
      images: [V, H, W, 3] in [-1, 1].
      cameras: leading axis [V].
      mask: bool [V, H, W], where the person is; or None.
    """

    images: Array
    cameras: Cameras
    mask: Array | None = None

    def __len__(self) -> int:
        """Number of views V."""
        return self.images.shape[0]

    def __getitem__(self, index) -> Views:
        """Select views by an index of the leading axis."""
        mask = None if self.mask is None else self.mask[index]
        return Views(images=self.images[index], cameras=self.cameras[index], mask=mask)


def continuous_azimuths(azimuths: ArrayLike) -> np.ndarray:
    """Unwrap azimuths, cut where frames leave the widest gap on the circle.

    Unchanged where the widest gap holds pi, as it does for any video that stays in front of the
    head; else those below the gap are raised by a full turn.

    Args:
      azimuths: [T] radians, in any order.

    Returns:
      [T] float64 in the given order, equal to the input modulo 2 pi and spanning less than 2 pi.

    Raises:
      ValueError: if there are none, or they are not finite numbers [T].
    """
    angles = np.asarray(azimuths, np.float64)
    if angles.ndim != 1 or not angles.size or not np.isfinite(angles).all():
        raise ValueError(
            f"azimuths of shape {angles.shape} must be at least one finite number, [T]; "
            "check the cameras of the frames"
        )
    inside = np.where((angles > -np.pi) & (angles <= np.pi), angles, _wrap(angles))
    order = np.sort(inside)
    gaps = np.append(np.diff(order), order[0] + _TURN - order[-1])
    widest = int(np.argmax(gaps))
    # Gaps that differ by rounding only, as on a full orbit, do not move the cut.
    if gaps[widest] <= gaps[-1] + 1e-6:
        return inside
    return np.where(inside <= order[widest], inside + _TURN, inside)


def ascending_azimuths(azimuths: ArrayLike) -> np.ndarray:
    """Unwrap azimuths [V] of views in the order of `select_evenly`, counted from the first.

    Returns:
      [V] float64, ascending, equal to the input modulo 2 pi. So of any of the views, too, where
      `continuous_azimuths` of those alone could cut elsewhere.
    """
    angles = np.asarray(azimuths, np.float64)
    return angles[0] + np.mod(angles - angles[0], _TURN)


def select_evenly(azimuths: ArrayLike, count: int) -> np.ndarray:
    """Choose frames evenly spaced in azimuth, each at most once.

    For each of `count` angles linearly spaced from the smallest azimuth to the largest, the nearest
    frame. If a frame would be chosen twice, the distinct frames with the smallest sum of distances
    are chosen instead (the authors' code repeats the frame). One view is the most frontal one.

    Args:
      azimuths: [T] radians, pi / 2 frontal, of all frames in their order.
      count: number of frames to choose.

    Returns:
      [count] indices of frames, by increasing azimuth (see `continuous_azimuths`).

    Raises:
      ValueError: if `count` is not in 1 ... T or the azimuths are not finite.

    Example:
      >>> yaws = np.radians([40.0, -40.0, 5.0, 0.0, 20.0])
      >>> select_evenly(np.pi / 2 - yaws, 3)  # by falling yaw
      array([0, 3, 1])
    """
    angles = continuous_azimuths(azimuths)
    if not 1 <= count <= angles.size:
        raise ValueError(
            f"{count} views wanted from {angles.size} frames; ask for at least one view "
            "and at most as many as there are frames, or supply more frames"
        )
    if count == 1:
        return np.argmin(np.abs(_wrap(angles - FRONTAL)), keepdims=True)
    return select_along(angles, count)


def select_along(values: ArrayLike, count: int) -> np.ndarray:
    """Choose entries evenly spaced in value from smallest to largest, each at most once.

    Args:
      values: [T] finite, in any order.
      count: 2 ... T.

    Returns:
      [count] indices by increasing value: of the nearest entries to the even values, or where one
      would be chosen twice, of the distinct entries with the smallest sum of distances.
    """
    values = np.asarray(values, np.float64)
    targets = np.linspace(values.min(), values.max(), count)
    distance = np.abs(values - targets[:, None])
    nearest = np.argmin(distance, axis=1)
    if np.unique(nearest).size == count:
        return nearest
    order = np.argsort(values, kind="stable")
    return order[_distinct(distance[:, order])]


def _wrap(angle: np.ndarray) -> np.ndarray:
    """Wrap angles to [-pi, pi)."""
    return (angle + np.pi) % _TURN - np.pi


def _distinct(distance: np.ndarray) -> np.ndarray:
    """Ascending columns, one a row of [count, T], with the smallest sum of entries."""
    count, size = distance.shape
    column = np.arange(size)
    before, chosen = np.zeros(size), np.empty((count, size), int)
    for k in range(count):
        cost = distance[k] + before  # of rows 0 ... k, if row k takes that column
        best = np.minimum.accumulate(cost)
        improved = cost < np.append(np.inf, best[:-1])
        chosen[k] = np.maximum.accumulate(np.where(improved, column, 0))
        before = np.append(np.inf, best[:-1])
    columns, last = np.empty(count, int), size - 1
    for k in range(count - 1, -1, -1):
        columns[k] = chosen[k, last]
        last = columns[k] - 1
    return columns
