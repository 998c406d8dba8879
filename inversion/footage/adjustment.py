"""Bundle adjustment: cameras, tracked points and landmarks of a video brought to agree at once.

Poses carried on from frame to frame drift, and landmarks err alike in neighbouring frames. Points
that are seen from many sides tie all frames together; the landmarks hold the whole to the face.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from inversion.footage.poses import Poses
from inversion.footage.tracking import pose_slopes, sum_by, turn

_LESS, _MORE = 0.2, 8.0  # factors to the damping after a step that was taken, and one that was not
_POINTS_AT_ONCE = 20
# OpenBLAS, which NumPy calls, shares a product of matrices out to threads from 2^18 multiplications
# on. The threads wait for one another, several times as long as the whole takes without them.
_SMALL, _BLOCK = 2**18, 60


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
    damping: float = 1e-4,
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
      damping: of the first step, relative to the diagonal. What trades the focal length for depth
        changes the loss little, and such damping holds it back; far from the solution it is needed.

    Returns:
      Poses, points, and the factor to the focal length.
    """
    state = _State(
        np.array(poses.rotation, np.float64),
        np.array(poses.translation, np.float64),
        np.array(points, np.float64),
        0.0,
    )
    now = _loss(state, sightings, anchors, zoom)
    for _ in range(num_steps):
        try:
            new = _step(state, sightings, anchors, zoom, damping)
        except np.linalg.LinAlgError:  # by rounding: more damping makes it definite
            damping *= _MORE
            continue
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
    cameras = np.arange(6 * count).reshape(count, 6)
    _add_cameras(matrix, side, _slopes(state, anchors, anchors.points, zoom), anchors.frame)
    seen = _slopes(state, sightings, state.points[sightings.point], zoom)
    _add_cameras(matrix, side, seen, sightings.frame)
    # The slopes with the point are those with the shift, turned to the world's axes.
    turns = np.ascontiguousarray(state.rotation.transpose(1, 2, 0)[:, :, sightings.frame])
    of_point = _products(seen.camera[3:], turns, "irk,ijk->jrk")
    normal = _products(of_point, of_point, "irk,jrk->ijk").reshape(9, -1)
    block = sum_by(sightings.point, normal.T, size).reshape(size, 3, 3)
    pull = sum_by(sightings.point, _products(of_point, seen.error, "irk,rk->ik").T, size)
    with_zoom = sum_by(sightings.point, _products(of_point, seen.zoom, "irk,rk->ik").T, size)
    diagonal = np.einsum("mii->mi", block)
    diagonal += damping * diagonal + 1e-9
    diagonal = np.einsum("ii->i", matrix)
    diagonal += damping * diagonal + 1e-9
    # With the block's inverse as root^T root, what is eliminated is a square.
    root = np.linalg.inv(np.linalg.cholesky(block))
    roots = np.ascontiguousarray(root.transpose(1, 2, 0)[:, :, sightings.point])
    mixed = _products(seen.camera, _products(roots, of_point, "ijk,jrk->irk"), "ark,irk->aik")
    pull, with_zoom = ((root @ rows[..., None])[..., 0] for rows in (pull, with_zoom))
    _eliminate(matrix, sightings, mixed)
    for rows, target in ((with_zoom, matrix[-1]), (pull, side)):
        across = _products(mixed, rows.T[:, sightings.point], "aik,ik->ak")
        target[cameras] -= sum_by(sightings.frame, across.T, count)
    matrix[-1, -1] -= (with_zoom**2).sum()
    side[-1] -= (with_zoom * pull).sum()
    if np.isfinite(zoom.weight):
        matrix[-1, -1] += zoom.weight
        side[-1] += zoom.weight * (state.log_zoom - zoom.expected)
    else:
        matrix[-1], matrix[-1, -1], side[-1] = 0, 1, 0
    change = -solve_blocks(matrix, side)
    of_camera = change[cameras]
    across = _products(mixed, of_camera.T[:, sightings.frame], "aik,ak->ik")
    pull = pull + change[-1] * with_zoom + sum_by(sightings.point, across.T, size)
    moved = -(root.swapaxes(-1, -2) @ pull[..., None])[..., 0]
    return _State(
        turn(of_camera[:, :3]) @ state.rotation,
        state.translation + of_camera[:, 3:],
        state.points + moved,
        state.log_zoom + float(change[-1]),
    )


@dataclass(frozen=True)
class _Slopes:
    """Slopes of K sightings, each already times the root of its hold; K runs last.

    Attributes:
      camera: [6, 2, K] with turns and shifts.
      zoom: [2, K].
      error: [2, K] the residuals.
    """

    camera: np.ndarray
    zoom: np.ndarray
    error: np.ndarray


def _slopes(state: _State, part: Sightings | Anchors, where: np.ndarray, zoom: Zoom) -> _Slopes:
    error, turned, camera = _errors(state, part, where, zoom.pixels)
    root = np.sqrt(part.weights / (1 + (error**2).sum(-1) / part.reach**2))
    factor = root * np.exp(state.log_zoom) * zoom.pixels[part.frame]
    slopes = np.ascontiguousarray(pose_slopes(turned, camera).transpose(2, 1, 0))
    return _Slopes(
        camera=slopes * factor,
        zoom=factor * (camera[:, :2] / camera[:, 2:]).T,
        error=root * np.ascontiguousarray(error.T),
    )


def _add_cameras(matrix: np.ndarray, side: np.ndarray, slopes: _Slopes, frame: np.ndarray) -> None:
    """Add what sightings mean for their cameras and the focal length; its border is the last row.

    Only what is on or below the diagonal is of use to `solve_blocks`.
    """
    count = len(side) // 6
    cameras = np.arange(6 * count).reshape(count, 6)
    normal = _products(slopes.camera, slopes.camera, "ark,brk->abk").reshape(36, -1)
    matrix[cameras[:, :, None], cameras[:, None]] += sum_by(frame, normal.T, count).reshape(
        count, 6, 6
    )
    for other, target in ((slopes.zoom, matrix[-1]), (slopes.error, side)):
        sums = sum_by(frame, _products(slopes.camera, other, "ark,rk->ak").T, count)
        target[cameras] += sums
        target[-1] += (slopes.zoom * other).sum()


def _products(left: np.ndarray, right: np.ndarray, which: str) -> np.ndarray:
    """Sums of products, for K sightings at once; with K last they run through memory."""
    return np.einsum(which, left, right)


def _eliminate(matrix: np.ndarray, sightings: Sightings, mixed: np.ndarray) -> None:
    """Subtract what the points, once eliminated, mean for the cameras that share them.

    Points seen at about the same time are taken together: they concern few of the cameras. Only
    what is on or below the diagonal is subtracted.
    """
    size = int(sightings.point.max(initial=-1)) + 1
    first, last = np.full(size, len(matrix)), np.full(size, -1)
    np.minimum.at(first, sightings.point, sightings.frame)
    np.maximum.at(last, sightings.point, sightings.frame)
    ranks = np.argsort(first + last, kind="stable")
    rank = np.empty(size, int)
    rank[ranks] = np.arange(size)
    order = np.argsort(rank[sightings.point], kind="stable")
    frame, place = sightings.frame[order], rank[sightings.point[order]]
    values = mixed.transpose(2, 0, 1)[order]  # [K, 6, 3]
    for begin in range(0, size, _POINTS_AT_ONCE):
        rows = slice(*np.searchsorted(place, [begin, begin + _POINTS_AT_ONCE]))
        chunk = ranks[begin : begin + _POINTS_AT_ONCE]
        low, high = int(first[chunk].min()), int(last[chunk].max()) + 1
        dense = np.zeros((high - low, 6, len(chunk), 3))
        dense[frame[rows] - low, :, place[rows] - begin] = values[rows]
        dense = dense.reshape(6 * (high - low), -1)
        target = matrix[6 * low : 6 * high, 6 * low : 6 * high]
        step = max(1, _SMALL // dense.size)
        for start in range(0, len(dense), step):
            end = start + step
            target[start:end, :end] -= dense[start:end] @ dense[:end].T


def solve_blocks(matrix: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Solve positive definite equations by Cholesky's decomposition in small blocks.

    As one large block they would be shared out to threads, which wait for one another longer than
    they work where a machine has other things to do.

    Args:
      matrix: [n, n]; what is above the diagonal is not looked at.
      side: [n].

    Returns:
      [n].

    Raises:
      np.linalg.LinAlgError: if the matrix is not positive definite.
    """
    number = -(-len(side) // _BLOCK)
    padded = np.eye(number * _BLOCK)
    padded[: len(side), : len(side)] = matrix
    blocks = padded.reshape(number, _BLOCK, number, _BLOCK).swapaxes(1, 2).copy()
    values = np.zeros((number, _BLOCK))
    values.ravel()[: len(side)] = side
    inverses = np.empty((number, _BLOCK, _BLOCK))
    for j in range(number):
        inverses[j] = np.linalg.inv(np.linalg.cholesky(blocks[j, j]))
        values[j] = inverses[j] @ values[j]
        below = blocks[j + 1 :, j] @ inverses[j].T
        blocks[j + 1 :, j] = below
        values[j + 1 :] -= below @ values[j]
        for i, block in enumerate(below):
            blocks[j + 1 + i, j + 1 : j + 2 + i] -= block @ below[: i + 1].swapaxes(1, 2)
    for j in reversed(range(number)):
        above = (blocks[j + 1 :, j].swapaxes(1, 2) @ values[j + 1 :, :, None]).sum(0)[:, 0]
        values[j] = inverses[j].T @ (values[j] - above)
    return values.ravel()[: len(side)]
