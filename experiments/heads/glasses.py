"""Glasses: frames without lenses, a mesh of tubes fitted to the eyes, nose and ears of a head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_COLOUR = np.array([0.075, 0.065, 0.07])
_SIDES = 8  # of a tube's cross-section
# Metres on the head, all times the distance between its eyes over the mean head's.
_MEAN_EYE_DISTANCE = 0.0616
_RIM, _TEMPLE = 0.0023, 0.0020  # radii of the tubes
_HALF_WIDTH, _HALF_HEIGHT = 0.0240, 0.0185
_TO_PUPIL, _BELOW_PUPIL = 0.0265, 0.0035  # from the eyeball's centre forwards to the rim, and down
_OFF_NOSE, _HINGE_OUT, _HINGE_UP = 0.0025, 0.0050, 0.0070
_WRAP, _TILT = 0.14, 0.10  # slopes: outer ends back, lower edge back
_HOOK = np.array([[0.0, 0.009, 0.016], [0.0, 0.008, 0.0], [-0.001, -0.003, -0.013],
                  [-0.002, -0.020, -0.020]])  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """Points on which glasses rest on a neutral head, world units; first the side of +x.

    Attributes:
      eyes: [2, 3] centres of the eyeballs.
      ears: [2, 3] a little below where the upper ends of the ears meet the head.
      nose: z of the nose's bridge at the height of the eyes.
    """

    eyes: np.ndarray
    ears: np.ndarray
    nose: float


@dataclass(frozen=True, kw_only=True)
class Solid:
    """A closed mesh beside the head's, of one colour.

    Attributes:
      vertices: [V, 3] world units.
      faces: [F, 3] int32, counter-clockwise from outside.
      normals: [V, 3] unit.
      colour: [3] sRGB in [0, 1], before light.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    colour: np.ndarray


def glasses(anchors: Anchors) -> Solid:
    """Make glasses: two rims, the bridge between them, and a temple to each ear."""
    unit = float(np.linalg.norm(anchors.eyes[0] - anchors.eyes[1])) / _MEAN_EYE_DISTANCE
    front = max(anchors.eyes[:, 2].mean() + _TO_PUPIL * unit, anchors.nose + _OFF_NOSE * unit)
    tubes, inner = [], []
    for eye, ear, side in zip(anchors.eyes, anchors.ears, (1.0, -1.0), strict=True):
        centre = np.array([eye[0], eye[1] - _BELOW_PUPIL * unit, front])
        turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        tubes.append(tube(_on_rim(centre, side, turn, unit), [0, 0, 1], _RIM * unit, closed=True))
        hinge = centre + _slanted(side * (_HALF_WIDTH + _HINGE_OUT), _HINGE_UP, side) * unit
        start = _on_rim(centre, side, np.array([0.30]), unit)[0]
        hook = ear + _HOOK * [side, 1, 1] * unit
        bend = hinge - [0, 0, 0.006 * unit]
        path = np.concatenate([[start, hinge, bend], hook])
        tubes.append(tube(_rounded(path), [side, 0.3, 0], _TEMPLE * unit))
        inner.append(_on_rim(centre, side, np.array([2.75]), unit)[0])
    along = np.linspace(0, 1, 9)[:, None]
    arch = np.sin(np.pi * along) * np.array([0, 0.0035, 0.0025]) * unit
    tubes.append(tube(inner[0] + along * (inner[1] - inner[0]) + arch, [0, 0, 1], _RIM * unit))
    return _joined(tubes)


def tube(path, beside, radius: float, *, closed: bool = False):
    """Make a round tube with closed ends: vertices, faces and normals.

    Args:
      path: [P, 3] points along its middle.
      beside: [3] a direction along which the path nowhere runs.
      radius: of the cross-section.
      closed: whether the path's last point is joined to its first.
    """
    path = np.asarray(path, np.float64)
    if closed:
        tangent = np.roll(path, -1, 0) - np.roll(path, 1, 0)
        radii = np.full(len(path), radius)
    else:
        tangent = np.gradient(path, axis=0)[[0, *range(len(path)), -1]]
        path, radii = path[[0, *range(len(path)), -1]], np.full(len(path) + 2, radius)
        radii[[0, -1]] = 0.0
    across = _unit(np.cross(tangent, beside))
    upward = _unit(np.cross(across, tangent))
    turn = 2 * np.pi * np.arange(_SIDES) / _SIDES
    normals = np.cos(turn)[:, None] * across[:, None] + np.sin(turn)[:, None] * upward[:, None]
    vertices = path[:, None] + radii[:, None, None] * normals
    rings = np.arange(len(path) if closed else len(path) - 1)[:, None]
    here, there = rings * _SIDES, (rings + 1) % len(path) * _SIDES
    k, after = np.arange(_SIDES), (np.arange(_SIDES) + 1) % _SIDES
    corners = [here + k, there + after, here + after, here + k, there + k, there + after]
    faces = np.stack(corners, -1).reshape(-1, 3)
    return vertices.reshape(-1, 3), faces, normals.reshape(-1, 3)


def _on_rim(centre, side: float, turn: np.ndarray, unit: float) -> np.ndarray:
    """Points [P, 3] of a rim, a rounded rectangle, at angles from its outer end upwards."""
    cosine, sine = np.cos(turn), np.sin(turn)
    size = (np.abs(cosine) ** 3 + np.abs(sine) ** 3) ** (-1 / 3)
    x, y = side * _HALF_WIDTH * size * cosine, _HALF_HEIGHT * size * sine
    return centre + _slanted(x, y, side) * unit


def _slanted(x, y, side: float) -> np.ndarray:
    """Offsets [..., 3] in the slanting plane of a lens."""
    return np.stack([x, y, -_WRAP * side * x + _TILT * y], -1)


def _rounded(path: np.ndarray) -> np.ndarray:
    """Cut the corners of a path twice (Chaikin)."""
    for _ in range(2):
        a, b = path[:-1], path[1:]
        cut = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], 1).reshape(-1, 3)
        path = np.concatenate([path[:1], cut, path[-1:]])
    return path


def _joined(tubes) -> Solid:
    starts = np.cumsum([0, *(len(vertices) for vertices, _, _ in tubes)])
    faces = [faces + start for (_, faces, _), start in zip(tubes, starts, strict=False)]
    return Solid(
        vertices=np.concatenate([vertices for vertices, _, _ in tubes]).astype(np.float32),
        faces=np.concatenate(faces).astype(np.int32),
        normals=np.concatenate([normals for _, _, normals in tubes]).astype(np.float32),
        colour=_COLOUR,
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-12)
