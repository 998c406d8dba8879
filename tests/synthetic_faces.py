"""Synthetic pictures of the face model: cameras, and the landmarks that they would show."""

from __future__ import annotations

import numpy as np

from eg3d_jax.cameras import FFHQ_FOCAL, look_at
from inversion.footage.face_model import FaceModel, load_face_model
from inversion.footage.landmarks import Face, Landmarks
from inversion.footage.solve import Observation
from inversion.footage.windows import CENTER, RADIUS, Window


def cameras(yaw: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """EG3D's cameras [n, 4, 4], degrees, that look at the head's middle from RADIUS away."""
    yaw, pitch = np.radians(yaw), np.radians(pitch)
    away = [np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)]
    away = np.stack(np.broadcast_arrays(*away), -1)
    # |CENTER + d away| = RADIUS
    along = away @ CENTER
    distance = -along + np.sqrt(along**2 - CENTER @ CENTER + RADIUS**2)
    position = CENTER + distance[:, None] * away
    cam2world = np.array(look_at(position, CENTER), np.float64)
    # Beyond the float32 that they are computed in: exact rotations that look there exactly.
    forward = (CENTER - position) / distance[:, None]
    right = np.cross(forward, [0, 1, 0])
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    turned = np.stack([right, np.cross(forward, right), forward], -1)
    np.testing.assert_allclose(turned, cam2world[:, :3, :3], atol=1e-6)
    cam2world[:, :3, :3], cam2world[:, :3, 3] = turned, position
    return cam2world


def shown(points: np.ndarray, cam2world: np.ndarray, windows: list[Window]) -> np.ndarray:
    """Pixels [n, P, 3] of points [P, 3] or [n, P, 3], with depth in pixels."""
    camera = (points - cam2world[:, None, :3, 3]) @ cam2world[:, :3, :3]
    sides = np.array([window.side for window in windows])[:, None]
    centers = np.stack([window.center for window in windows])[:, None]
    scale = FFHQ_FOCAL * sides
    pixels = centers + scale[..., None] * camera[..., :2] / camera[..., 2:]
    depth = scale * (camera[..., 2] - RADIUS) / RADIUS
    return np.concatenate([pixels, depth[..., None]], -1)


def observations(landmarks: np.ndarray, size: int = 1000) -> list[Observation]:
    """Observations of pictures of `size` pixels a side with these landmarks [n, 468, 3]."""
    face = Face(np.zeros(2), 1.0, 0.0, 1.0, np.zeros((6, 2)))
    return [
        Observation(
            landmarks=Landmarks(
                points=points.astype(np.float32), presence=1.0, mirror_gap=0.0, face=face
            ),
            height=size,
            width=size,
        )
        for points in landmarks
    ]


def random_people(model: FaceModel, rng: np.random.Generator, count: int, strength: float):
    """Faces [count, 468, 3] of the model's own shapes and expressions."""
    faces = np.tile(model.points, (count, 1, 1))
    for basis in (model.shapes, model.expressions):
        values = strength * rng.standard_normal((count, len(basis)))
        faces = faces + np.tensordot(values, basis, 1)
    return faces


def turned_by(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Degrees [n] between the rotations of cameras [n, 4, 4]."""
    # Unlike the arc cosine of the trace, exact for small angles.
    chord = np.linalg.norm(a[:, :3, :3] - b[:, :3, :3], axis=(-2, -1)) / np.sqrt(8)
    return np.degrees(2 * np.arcsin(np.minimum(chord, 1)))


MODEL = load_face_model()
