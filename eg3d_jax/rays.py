"""Camera rays, and the depths along them at which samples are taken.

Source: spec eg3d sections 6.2 and 8.1 to 8.4. R rays, D coarse and K fine samples a ray.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from eg3d_jax.cameras import Cameras, check_single
from eg3d_jax.compositing import midpoints
from eg3d_jax.config import RenderConfig

_HIGHEST = jax.lax.Precision.HIGHEST


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Rays:
    """Half-lines in world space.

    Attributes:
      origins: [R, 3] world units.
      directions: [R, 3] of unit length.
    """

    origins: Array
    directions: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class RayDraws:
    """Random numbers of one rendering, uniform in [0, 1) (spec eg3d 8.7).

    Attributes:
      jitter: [R, D] offset of each coarse sample within its interval.
      u: [R, K] arguments of the inverse cumulative distribution of the fine samples.
    """

    jitter: Array
    u: Array


def random_draws(key: Array, num_rays: int, config: RenderConfig) -> RayDraws:
    """Fresh draws for `num_rays` rays."""
    key_jitter, key_u = jax.random.split(key)
    return RayDraws(
        jitter=jax.random.uniform(key_jitter, (num_rays, config.coarse_samples)),
        u=jax.random.uniform(key_u, (num_rays, config.fine_samples)),
    )


def midway_draws(num_rays: int, config: RenderConfig) -> RayDraws:
    """Deterministic stand-in for `random_draws`: the middle of every interval."""
    u = (jnp.arange(config.fine_samples, dtype=jnp.float32) + 0.5) / max(config.fine_samples, 1)
    return RayDraws(
        jitter=jnp.full((num_rays, config.coarse_samples), 0.5),
        u=jnp.broadcast_to(u, (num_rays, config.fine_samples)),
    )


def cast_rays(camera: Cameras, side: int) -> Rays:
    """Rays of one camera through the centres of side x side pixels, row by row.

    Args:
      camera: cam2world [4, 4], intrinsics [3, 3].
      side: pixels along either axis; R = side * side.
    """
    if side < 1:
        raise ValueError(f"side={side} must be at least 1 pixel")
    centres = (jnp.arange(side, dtype=jnp.float32) + 0.5) / side
    v, u = jnp.meshgrid(centres, centres, indexing="ij")
    return pixel_rays(camera, u.reshape(-1), v.reshape(-1))


def pixel_rays(camera: Cameras, u: Array, v: Array) -> Rays:
    """Rays of one camera through image positions (spec eg3d 6.2).

    Args:
      camera: cam2world [4, 4], intrinsics [3, 3].
      u: [R] horizontal position over the image side, 0 at the left edge, 1 at the right.
      v: [R] vertical position, 0 at the top.
    """
    check_single(camera)
    matrix = camera.intrinsics
    fx, skew, cx = matrix[0, 0], matrix[0, 1], matrix[0, 2]
    fy, cy = matrix[1, 1], matrix[1, 2]
    y = (v - cy) / fy
    x = (u - cx + cy * skew / fy - skew * v / fy) / fx
    local = jnp.stack([x, y, jnp.ones_like(x)], axis=-1)
    direction = jnp.matmul(local, camera.cam2world[:3, :3].T, precision=_HIGHEST)
    norm = jnp.sqrt(jnp.sum(jnp.square(direction), axis=-1, keepdims=True))
    return Rays(
        origins=jnp.broadcast_to(camera.position, direction.shape),
        directions=direction / jnp.maximum(norm, 1e-12),
    )


def box_limits(rays: Rays, box_side: float) -> tuple[Array, Array]:
    """Near and far intersections [R] with the origin's cube; (-1, -2) where a ray misses it.

    Without gradient, by the slab method (spec eg3d 8.1). Negative nears are kept.
    """
    rays = jax.lax.stop_gradient(rays)
    half, inverse = 0.5 * box_side, 1.0 / rays.directions
    lower = (-half - rays.origins) * inverse
    upper = (half - rays.origins) * inverse
    near3 = jnp.where(inverse < 0, upper, lower)
    far3 = jnp.where(inverse < 0, lower, upper)
    (near_x, near_y, near_z), (far_x, far_y, far_z) = near3.T, far3.T
    missed = (near_x > far_y) | (near_y > far_x)
    near, far = jnp.maximum(near_x, near_y), jnp.minimum(far_x, far_y)
    missed |= (near > far_z) | (near_z > far)
    near, far = jnp.maximum(near, near_z), jnp.minimum(far, far_z)
    return jnp.where(missed, -1.0, near), jnp.where(missed, -2.0, far)


def ray_limits(rays: Rays, config: RenderConfig) -> tuple[Array, Array]:
    """Start and end distance [R] of each ray, world units.

    With limits from the box, rays that miss it get the smallest near and, as in EG3D, the
    *largest near* of the rays that hit (spec eg3d 8.1).
    """
    if config.ray_start is not None and config.ray_end is not None:
        shape = rays.origins.shape[:1]
        return jnp.full(shape, config.ray_start), jnp.full(shape, config.ray_end)
    near, far = box_limits(rays, config.box_warp)
    valid = far > near
    smallest = jnp.min(jnp.where(valid, near, jnp.inf))
    largest = jnp.max(jnp.where(valid, near, -jnp.inf))
    fill = ~valid & jnp.any(valid)
    return jnp.where(fill, smallest, near), jnp.where(fill, largest, far)


def stratified_depths(start: Array, end: Array, jitter: Array, *, disparity: bool = False) -> Array:
    """Coarse sample depths, ascending; the last may pass `end` (spec eg3d 8.2).

    Args:
      start: [R] world units.
      end: [R] world units.
      jitter: [R, D] in [0, 1), in units of the spacing.
      disparity: space evenly in 1 / distance; ascending only if `end` < D * `start`, beyond which
        jitter may send the last sample behind the camera (`RenderConfig` refuses that).

    Returns:
      [R, D] distances, world units.
    """
    count = jitter.shape[-1]
    if disparity:
        s = jnp.linspace(0.0, 1.0, count) + jitter / (count - 1)
        return 1.0 / ((1.0 - s) / start[:, None] + s / end[:, None])
    span = (end - start)[:, None]
    steps = jnp.arange(count, dtype=jnp.float32) / (count - 1)
    return start[:, None] + steps * span + jitter * (span / (count - 1))


@jax.named_scope("fine_depths")
def importance_depths(depths: Array, weights: Array, u: Array) -> Array:
    """Fine sample depths from the coarse pass, without gradient (spec eg3d 8.4).

    Args:
      depths: [R, D] coarse depths, ascending.
      weights: [R, D-1] weights of the coarse intervals.
      u: [R, K] uniform in [0, 1).

    Returns:
      [R, K] depths, ascending where u is.
    """
    depths, weights = jax.lax.stop_gradient((depths, weights))
    edge = jnp.full_like(weights[:, :1], -jnp.inf)
    padded = jnp.concatenate([edge, weights, edge], axis=-1)
    widened = jnp.maximum(padded[:, :-1], padded[:, 1:])
    smoothed = midpoints(widened) + 0.01
    return inverse_cdf(midpoints(depths), smoothed[:, 1:-1], u)


def inverse_cdf(bins: Array, weights: Array, u: Array) -> Array:
    """Sample a piecewise constant density by its inverse cumulative distribution.

    As in EG3D there is one bin edge too many: cdf entry j belongs to bins[j], and the last edge
    is never used (spec eg3d 8.4).

    Args:
      bins: [R, B] ascending edges, B = number of weights + 2 in EG3D's use.
      weights: [R, M] non-negative, not normalised.
      u: [R, K] in [0, 1).

    Returns:
      [R, K] samples, ascending where u is.
    """
    weights = weights + 1e-5
    cdf = jnp.cumsum(weights / jnp.sum(weights, axis=-1, keepdims=True), axis=-1)
    cdf = jnp.concatenate([jnp.zeros_like(cdf[:, :1]), cdf], axis=-1)
    above = count_up_to(cdf, u)
    low, high = jnp.maximum(above, 1) - 1, jnp.minimum(above, cdf.shape[-1] - 1)
    cdf_low, cdf_high = (take(cdf, i) for i in (low, high))
    bin_low, bin_high = (take(bins, i) for i in (low, high))
    width = cdf_high - cdf_low
    width = jnp.where(width < 1e-5, 1.0, width)
    inside = bin_low + (u - cdf_low) / width * (bin_high - bin_low)
    # Rounded, it may lie beyond the next bin's first sample.
    return jnp.minimum(inside, bin_high)


def count_up_to(ascending: Array, limits: Array) -> Array:
    """How many of each row's numbers [R, N] are at most each of its limits [R, Q]: [R, Q].

    Unsigned, as all that are to be an index.
    """
    return jnp.sum(ascending[:, None, :] <= limits[:, :, None], axis=-1, dtype=jnp.uint32)


def take(x: Array, index: Array) -> Array:
    """Of each row of x [R, N] the entries with an index, uint32 [R, Q] below N: [R, Q].

    Neither negative nor beyond the end, which JAX would have looked up for each index.
    """
    return jnp.take_along_axis(x, index, axis=-1, mode="promise_in_bounds")
