"""Surface normals of rendered depth, and their colours."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from eg3d_jax.cameras import Cameras
from eg3d_jax.rays import cast_rays


def depth_normals(depth: Array, camera: Cameras) -> Array:
    """Normals of the surface that a depth map shows, by central differences of its points.

    Of depth rather than of density: depth averages over a ray, while the gradient of the density
    shows the texels of the planes. Pixels next to a jump in depth get a normal that faces sideways,
    as the rim of a round body does.

    Args:
      depth: [h, h] distance from the camera centre, world units.
      camera: a single camera.

    Returns:
      [h, h, 3] of unit length in world axes, towards the camera; 0 where there is no slope to tell.
    """
    side = depth.shape[0]
    rays = cast_rays(camera, side)
    points = rays.origins + depth.reshape(-1, 1) * rays.directions
    down, right = jnp.gradient(points.reshape(side, side, 3), axis=(0, 1))
    normal = jnp.cross(down, right)  # y x x = -z in OpenCV's axes: towards the camera
    return normal / jnp.maximum(jnp.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)


def colour_normals(normals: ArrayLike, *, opacity: ArrayLike, threshold: float = 0.5) -> np.ndarray:
    """Normals as colours: red, green and blue rise with x, y and z.

    Of normals in world axes, a point of the head keeps its colour while the camera moves; a face
    seen from anywhere is lilac in front.

    Args:
      normals: [*, h, w, 3] of unit length.
      opacity: [*, h, w] in [0, 1]; where it is below `threshold` the picture is white.
      threshold: see `opacity`.

    Returns:
      uint8 [*, h, w, 3].
    """
    colours = np.round((np.asarray(normals) + 1) * 127.5).clip(0, 255).astype(np.uint8)
    return np.where((np.asarray(opacity) >= threshold)[..., None], colours, np.uint8(255))
