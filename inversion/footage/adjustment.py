"""Bundle adjustment: cameras, tracked points and landmarks of a video brought to agree at once.

Poses carried on from frame to frame drift, and landmarks err alike in neighbouring frames. Points
that are seen from many sides tie all frames together; the landmarks hold the whole to the face.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from inversion.footage.poses import Poses
from inversion.footage.tracking import pose_slopes, sum_by, turn

_DAMPING, _LESS, _MORE = 1e-4, 0.2, 8.0
_POINTS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Sightings:
    """K sightings of points by cameras.

    Attributes:
      frame: [K] int.
      point: [K] int.
      tangents: [K, 2].
      weights: [K] inverse variances, 1 / pixels^2 of a window of 512.
      reach: [K] pixels; residuals beyond it lose their hold (Cauchy's loss).
    """

    frame: np.ndarray
    point: np.ndarray
    tangents: np.ndarray
    weights: np.ndarray
    reach: np.ndarray

    def select(self, chosen: np.ndarray) -> Sightings:
        """The sightings where `chosen` [K] is true, or at these indices."""
        parts = ("frame", "point", "tangents", "weights", "reach")
        return Sightings(**{name: getattr(self, name)[chosen] for name in parts})


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """What ties n cameras to the world: L sightings of points that are known, as of a face.

    Attributes:
      frame: [L] int.
      points: [L, 3] in the world.
      tangents: [L, 2].
      weights: [L] as in `Sightings`.
      reach: [L] pixels.
    """

    frame: np.ndarray
    points: np.ndarray
    tangents: np.ndarray
    weights: np.ndarray
    reach: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Zoom:
    """How tangents become pixels, and what is known of the focal length beforehand.

    Attributes:
      pixels: [n] pixels of a window of 512 a unit of tangent, by frame.
      expected: logarithm of the factor by which the focal length is expected to change.
      weight: inverse variance of that; infinite holds the focal length.
    """

    pixels: np.ndarray
    expected: float = 0.0
    weight: float = np.inf


def adjust(
    poses: Poses,
    points: np.ndarray,
    sightings: Sightings,
    anchors: Anchors,
    zoom: Zoom,
    *,
    num_steps: int = 10,
) -> tuple[Poses, np.ndarray, float]:
    """Find the cameras and points at which all sightings agree best.

    Levenberg and Marquardt's steps on Cauchy's loss; the points are eliminated (Schur complement),
    so that a step solves for the cameras alone.

    Args:
      poses: of n cameras.
      points: [M, 3], each of them sighted.
      sightings: of these points.
      anchors: of known points; without them the world could move.
      zoom: the unit of residuals, and whether the focal length is found as well.
      num_steps: a step that would raise the loss is not taken.

    Returns:
      Poses, points, and the factor to the focal length.
    """
    state = _State(
        np.array(poses.rotation, np.float64),
        np.array(poses.translation, np.float64),
        np.array(points, np.float64),
        0.0,
    )
    damping, now = _DAMPING, _loss(state, sightings, anchors, zoom)
    for _ in range(num_steps):
        new = _step(state, sightings, anchors, zoom, damping)
        there = _loss(new, sightings, anchors, zoom)
        if there < now:
            small = now - there < 1e-4 * now
            state, now, damping = new, there, damping * _LESS
            if small:
                break
        else:
            damping *= _MORE
    poses = replace(poses, rotation=state.rotation, translation=state.translation)
    return poses, state.points, float(np.exp(state.log_zoom))


@dataclass(frozen=True)
class _State:
    rotation: np.ndarray
    translation: np.ndarray
    points: np.ndarray
    log_zoom: float


def _errors(state: _State, part: Sightings | Anchors, where: np.ndarray, pixels: np.ndarray):
    """Residuals [K, 2] in pixels of a window of 512, and points in the cameras."""
    turned = (state.rotation[part.frame] @ where[..., None])[..., 0]
    camera = turned + state.translation[part.frame]
    seen = np.exp(state.log_zoom) * camera[:, :2] / camera[:, 2:]
    return pixels[part.frame, None] * (seen - part.tangents), turned, camera


def _loss(state: _State, sightings: Sightings, anchors: Anchors, zoom: Zoom) -> float:
    total = 0.0
    if np.isfinite(zoom.weight):
        total = zoom.weight * (state.log_zoom - zoom.expected) ** 2
    for part, where in ((sightings, state.points[sightings.point]), (anchors, anchors.points)):
        square = (_errors(state, part, where, zoom.pixels)[0] ** 2).sum(-1)
        total += (part.weights * part.reach**2 * np.log1p(square / part.reach**2)).sum()
    return float(total)


def _step(
    state: _State, sightings: Sightings, anchors: Anchors, zoom: Zoom, damping: float
) -> _State:
    count, size = len(state.rotation), len(state.points)
    # Unknowns of all cameras, six each, then the one focal length; the points are eliminated.
    matrix = np.zeros((6 * count + 1, 6 * count + 1))
    side = np.zeros(6 * count + 1)

    def add(part, where):
        error, turned, camera = _errors(state, part, where, zoom.pixels)
        factor = np.exp(state.log_zoom) * zoom.pixels[part.frame]
        slopes = pose_slopes(turned, camera) * factor[:, None, None]
        of_zoom = factor[:, None] * camera[:, :2] / camera[:, 2:]
        hold = part.weights / (1 + (error**2).sum(-1) / part.reach**2)
        weighted = hold[:, None, None] * slopes
        turned_back = weighted.swapaxes(-1, -2)
        normal = sum_by(part.frame, turned_back @ slopes, count)
        for i in range(count):
            matrix[6 * i : 6 * i + 6, 6 * i : 6 * i + 6] += normal[i]
        border = sum_by(part.frame, (turned_back @ of_zoom[..., None])[..., 0], count).ravel()
        matrix[-1, :-1] += border
        matrix[:-1, -1] += border
        matrix[-1, -1] += (hold * (of_zoom**2).sum(-1)).sum()
        side[:-1] += sum_by(part.frame, (turned_back @ error[..., None])[..., 0], count).ravel()
        side[-1] += (hold * (of_zoom * error).sum(-1)).sum()
        return slopes, hold, error, of_zoom

    add(anchors, anchors.points)
    slopes, hold, error, of_zoom = add(sightings, state.points[sightings.point])
    # The slopes with the point are those with the shift, turned to the world's axes.
    of_point = slopes[:, :, 3:] @ state.rotation[sightings.frame]
    held = (hold[:, None, None] * of_point).swapaxes(-1, -2)  # [K, 3, 2]
    block = sum_by(sightings.point, held @ of_point, size)
    pull = sum_by(sightings.point, (held @ error[..., None])[..., 0], size)
    diagonal = np.einsum("mii->mi", block)
    diagonal += damping * diagonal + 1e-9
    inverse = np.linalg.inv(block)
    mixed = (held @ slopes).swapaxes(-1, -2)  # [K, 6, 3]
    with_zoom = sum_by(sightings.point, (held @ of_zoom[..., None])[..., 0], size)
    reduced = mixed @ inverse[sightings.point]
    diagonal = np.einsum("ii->i", matrix)
    diagonal += damping * diagonal + 1e-9
    _eliminate(matrix, sightings, reduced, mixed)
    border = sum_by(
        sightings.frame, (reduced @ with_zoom[sightings.point, :, None])[..., 0], count
    ).ravel()
    matrix[-1, :-1] -= border
    matrix[:-1, -1] -= border
    back = (inverse @ pull[..., None])[..., 0]
    matrix[-1, -1] -= (with_zoom * (inverse @ with_zoom[..., None])[..., 0]).sum()
    side[:-1] -= sum_by(
        sightings.frame, (reduced @ pull[sightings.point, :, None])[..., 0], count
    ).ravel()
    side[-1] -= (with_zoom * back).sum()
    if np.isfinite(zoom.weight):
        matrix[-1, -1] += zoom.weight
        side[-1] += zoom.weight * (state.log_zoom - zoom.expected)
    else:
        matrix[-1], matrix[:, -1], matrix[-1, -1], side[-1] = 0, 0, 1, 0
    change = -np.linalg.solve(matrix, side)
    of_camera = change[:-1].reshape(count, 6)
    pull = pull + change[-1] * with_zoom
    across = (of_camera[sightings.frame, None] @ mixed)[:, 0]
    pull = pull + sum_by(sightings.point, across, size)
    moved = -(inverse @ pull[..., None])[..., 0]
    return _State(
        turn(of_camera[:, :3]) @ state.rotation,
        state.translation + of_camera[:, 3:],
        state.points + moved,
        state.log_zoom + float(change[-1]),
    )


def _eliminate(
    matrix: np.ndarray, sightings: Sightings, reduced: np.ndarray, mixed: np.ndarray
) -> None:
    """Subtract what the points, once eliminated, mean for the cameras that share them.

    Points seen at about the same time are taken together: they concern few of the cameras.
    """
    order = np.argsort(sightings.point, kind="stable")
    frame, point = sightings.frame[order], sightings.point[order]
    starts = np.append(np.flatnonzero(np.diff(point, prepend=-1)), len(point))
    which = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    first, last = (part.reduceat(frame, starts[:-1]) for part in (np.minimum, np.maximum))
    ranks = np.argsort(first + last, kind="stable")
    for chunk in np.array_split(ranks, max(1, len(ranks) // _POINTS_AT_ONCE)):
        low, high = int(first[chunk].min()), int(last[chunk].max()) + 1
        rank = np.full(len(starts) - 1, -1)
        rank[chunk] = np.arange(len(chunk))
        rows = np.flatnonzero(rank[which] >= 0)
        place = rank[which[rows]]
        left, right = np.zeros((2, high - low, 6, len(chunk), 3))
        left[frame[rows] - low, :, place] = reduced[order[rows]]
        right[frame[rows] - low, :, place] = mixed[order[rows]]
        size = 6 * (high - low)
        matrix[6 * low : 6 * high, 6 * low : 6 * high] -= (
            left.reshape(size, -1) @ right.reshape(size, -1).T
        )
