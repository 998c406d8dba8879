"""Gaussians to start from: discs on the surface that a generator's depth shows.

Depth seen from many sides gives points of the visible surface alone, with their normals and
colours; a surface cut from the density would have as many within the head. V views of h x h pixels.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from eg3d_jax.cameras import Cameras
from eg3d_jax.errors import InputError
from eg3d_jax.generator import Renders
from eg3d_jax.rays import cast_rays
from inversion.metrics import depth_normals
from inversion.splats.gaussians import Gaussians, colour_harmonics

# Solid is a pixel with this share of the largest opacity, unless that is next to nothing.
_SOLID, _LEAST_OPACITY, _LEAST_COSINE = 0.9, 0.05, 0.2
# Of a disc: deviation along it over the distance of its neighbours, and across over along.
_WIDTH, _FLATNESS = 0.45, 0.3
_START_OPACITY = 0.9


@jax.jit
def _surface(renders: Renders, cameras: Cameras) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Points [V, h, h, 3] and normals of the depth, and the colours of the pictures there."""
    side = renders.depth.shape[-1]

    def one(depth, camera):
        rays = cast_rays(camera, side)
        points = rays.origins + depth.reshape(-1, 1) * rays.directions
        normals = depth_normals(depth, camera)
        facing = -jnp.sum(normals.reshape(-1, 3) * rays.directions, axis=-1)
        return points.reshape(side, side, 3), normals, facing.reshape(side, side)

    points, normals, facing = jax.lax.map(lambda view: one(*view), (renders.depth, cameras))
    shape = (*renders.depth.shape, 3)
    colours = jnp.clip((jax.image.resize(renders.image, shape, "linear") + 1) / 2, 0.0, 1.0)
    least = jnp.maximum(_SOLID * jnp.max(renders.opacity), _LEAST_OPACITY)
    solid = (renders.opacity > least) & (facing > _LEAST_COSINE)
    return points, normals, jnp.where(solid[..., None], colours, jnp.nan)


def surface_gaussians(renders: Renders, cameras: Cameras, count: int, degree: int) -> Gaussians:
    """Place discs on the surface that renders show, evenly, a disc a cell of a grid of cubes.

    Args:
      renders: of V views; pixels seen at a grazing angle or not solid are left out.
      cameras: [V] of them.
      count: largest number of discs.
      degree: of their harmonics; all are 0 beyond the colour itself.

    Raises:
      InputError: if no view shows anything solid.
    """
    found = (np.asarray(x).reshape(-1, 3) for x in _surface(renders, cameras))
    points, normals, colours = found
    solid = np.isfinite(colours[:, 0])
    if not solid.any():
        raise InputError("the generator shows nothing solid from any side; is it of heads?")
    points, normals, colours = points[solid], normals[solid], colours[solid]
    size, cells = _cells(points, count)
    number = np.bincount(cells)[:, None]

    def mean(values: np.ndarray) -> np.ndarray:
        sums = [np.bincount(cells, values[:, axis]) for axis in range(3)]
        return np.stack(sums, axis=-1) / number

    centres, normals, colours = mean(points), mean(normals), mean(colours)
    scales = size * _WIDTH * np.array([1.0, 1.0, _FLATNESS])
    harmonics = np.zeros((len(centres), (degree + 1) ** 2, 3))
    harmonics[:, 0] = colour_harmonics(colours)
    fields = {
        "centres": centres,
        "log_scales": np.tile(np.log(scales), (len(centres), 1)),
        "rotations": _turn_z_to(normals),
        "opacity_logits": np.full(len(centres), np.log(_START_OPACITY / (1 - _START_OPACITY))),
        "harmonics": harmonics,
    }
    return Gaussians(**{name: jnp.asarray(x, jnp.float32) for name, x in fields.items()})


def _cells(points: np.ndarray, count: int) -> tuple[float, np.ndarray]:
    """Side of the smallest cubes of which points [M, 3] fill no more than `count`, and theirs."""
    least, extent = points.min(0), float(np.ptp(points, axis=0).max())
    fine, coarse = max(extent / 2**10, 1e-9), max(extent, 1e-6)
    best = coarse, np.zeros(len(points), np.int64)
    for _ in range(20):
        size = np.sqrt(fine * coarse)
        index = np.floor((points - least) / size).astype(np.int64)
        _, cells = np.unique(index @ np.array([1, 2**20, 2**40]), return_inverse=True)
        if cells.max() < count:
            coarse, best = size, (float(size), cells)
        else:
            fine = size
    return best


def _turn_z_to(normals: np.ndarray) -> np.ndarray:
    """Shortest turns [N, 4] (w, x, y, z) of the z axis to directions [N, 3]; any where one is 0."""
    normals = normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    x, y, z = normals.T
    turned = np.stack([1 + z, -y, x, np.zeros_like(x)], axis=-1)
    backwards = 1 + z < 1e-6
    turned[backwards] = [0, 1, 0, 0]
    return turned / np.linalg.norm(turned, axis=-1, keepdims=True)
