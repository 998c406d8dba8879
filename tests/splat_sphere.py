"""Renders of a coloured sphere, whose depth and colours are known in closed form."""

import jax.numpy as jnp
import numpy as np

from eg3d_jax.cameras import Cameras, yaw_pitch_camera
from eg3d_jax.generator import Renders
from eg3d_jax.rays import cast_rays

RADIUS = 0.2
_FINER = 4  # rays along either side of a pixel, whose mean it shows


def colours(points: np.ndarray) -> np.ndarray:
    """Smooth over the sphere: [..., 3] in [0.2, 0.8]."""
    return 0.5 + 0.3 * points / RADIUS


def cameras(yaws, pitch=0.0) -> Cameras:
    return yaw_pitch_camera(np.asarray(yaws, np.float32), np.asarray(pitch, np.float32))


def renders(views: Cameras, side: int) -> Renders:
    """Of V views, the sphere on white; pictures and depth of `side` pixels."""
    parts = []
    for view in range(len(views)):
        _, image, opacity = _trace(views[view], side * _FINER)
        depth, _, _ = _trace(views[view], side)
        parts.append((_mean(image), depth.reshape(side, side), _mean(opacity)[..., 0]))
    image, depth, opacity = (
        jnp.asarray(np.stack(part), jnp.float32) for part in zip(*parts, strict=True)
    )
    return Renders(image=image, raw=image, depth=depth, opacity=opacity)


def _trace(camera: Cameras, side: int):
    rays = cast_rays(camera, side)
    origins, directions = (np.asarray(x, np.float64) for x in (rays.origins, rays.directions))
    along = np.sum(origins * directions, -1)
    root = along**2 - np.sum(origins**2, -1) + RADIUS**2
    hit = root > 0
    depth = np.where(hit, -along - np.sqrt(np.maximum(root, 0)), 3.3)
    points = origins + depth[:, None] * directions
    image = np.where(hit[:, None], colours(points) * 2 - 1, 1.0)
    return depth, image, hit[:, None].astype(float)


def _mean(values: np.ndarray) -> np.ndarray:
    """Means over the pixels of a picture that was traced finer."""
    side = round(len(values) ** 0.5) // _FINER
    return values.reshape(side, _FINER, side, _FINER, -1).mean((1, 3))
