"""Feature lookup in tri-planes: project, interpolate bilinearly, average (spec eg3d section 7).

A plane is first *packed*: each cell holds the four texels at its corners side by side, so that a
point costs one gather index a plane, for all channels and all four taps. The packed border of zero
texels is EG3D's zero padding.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from eg3d_jax.config import Axes


def pack_planes(planes: Array) -> Array:
    """[N, P, P, C] planes, rows are the vertical coordinate -> [N, P+1, P+1, 4 C] cells."""
    padded = jnp.pad(planes, ((0, 0), (1, 1), (1, 1), (0, 0)))
    corners = [padded[:, i : -1 if i == 0 else None, j : -1 if j == 0 else None]
               for i in (0, 1) for j in (0, 1)]  # fmt: skip
    return jnp.concatenate(corners, axis=-1)


def project(points: Array, axes: tuple[Axes, ...], *, box_warp: float) -> Array:
    """Coordinates of points on each plane.

    Args:
      points: [M, 3] world units.
      axes: one matrix a plane; differs between checkpoints.
      box_warp: side of the box, world units.

    Returns:
      [N, M, 2] (horizontal, vertical), -1 to 1 inside the box.
    """
    inverse = np.linalg.inv(np.asarray(axes, np.float64))[:, :, :2].astype(np.float32)
    scaled = points * (2.0 / box_warp)
    # Written out: three products need full precision and no matrix unit.
    return sum(scaled[None, :, k, None] * inverse[:, None, k, :] for k in range(3))  # type: ignore[return-value]


def sample_packed(packed: Array, coordinates: Array) -> Array:
    """Bilinear lookup with zeros outside, align_corners = false (spec eg3d 7.3).

    Args:
      packed: [N, P+1, P+1, 4 C] from `pack_planes`.
      coordinates: [N, M, 2] (horizontal, vertical); -1 and 1 are the outer edges of the planes.

    Returns:
      [N, M, C]. Gradients reach the planes and the coordinates.
    """
    num_planes, cells = packed.shape[:2]
    position = ((coordinates + 1.0) * (cells - 1) - 1.0) / 2.0
    corner = jnp.floor(position)
    fraction = position - corner
    inside = jnp.all((corner >= -1) & (corner <= cells - 2), axis=-1)
    index = jnp.clip(corner, -1, cells - 2).astype(jnp.int32) + 1
    plane = jnp.arange(num_planes, dtype=jnp.int32)[:, None]
    flat = (plane * cells + index[..., 1]) * cells + index[..., 0]
    x, y = fraction[..., 0], fraction[..., 1]
    weights = jnp.stack([(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x], axis=-1)
    weights = jnp.where(inside[..., None], weights, 0.0)
    return _blend(packed.reshape(num_planes * cells * cells, -1), flat, weights)


@jax.custom_vjp
def _blend(cells: Array, index: Array, weights: Array) -> Array:
    """Cells [K, 4 C], indices [...] and weights [..., 4] of their quarters -> [..., C].

    The gradient is written out: JAX's own first widens it to all four quarters of every point, and
    is half as fast on CPU. The cells are looked up again if the weights need a gradient, which only
    cameras do; keeping them would take the most memory of all that a rendering keeps.
    """
    return jnp.asarray(
        sum(quarter * weights[..., k, None] for k, quarter in enumerate(_quarters(cells, index)))
    )


def _quarters(cells: Array, index: Array) -> list[Array]:
    return jnp.split(cells[index], 4, axis=-1)


def _blend_forward(cells: Array, index: Array, weights: Array):
    return _blend(cells, index, weights), (cells, index, weights)


def _blend_backward(residuals: tuple[Array, Array, Array], gradient: Array):
    cells, index, weights = residuals
    empty = jnp.zeros((cells.shape[0], gradient.shape[-1]), gradient.dtype)
    to_cells = [empty.at[index].add(weights[..., k, None] * gradient) for k in range(4)]
    to_weights = [jnp.sum(quarter * gradient, axis=-1) for quarter in _quarters(cells, index)]
    return jnp.concatenate(to_cells, axis=-1), None, jnp.stack(to_weights, axis=-1)


_blend.defvjp(_blend_forward, _blend_backward)


def mean_over_planes(sampled: Array) -> Array:
    """[N, M, C] features from `sample_packed` -> [M, C].

    Not `jnp.mean`: XLA hands reductions to a library on CPU (YNNPACK), for which the samples are
    written to memory first (jaxlib 0.10.1), or takes parts of the lookup with it, in pieces (0.12:
    the renderer was 2.3 times as slow). Additions are fused with the lookup.
    """
    return _mean_over_planes(sampled.shape[0], sampled)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mean_over_planes(num_planes: int, sampled: Array) -> Array:
    return jnp.asarray(sum(sampled[i] for i in range(num_planes))) / num_planes


def _mean_forward(num_planes: int, sampled: Array):
    return _mean_over_planes(num_planes, sampled), None


def _mean_backward(num_planes: int, _: None, gradient: Array):
    # As that of a mean; the gradient of the additions would pad each plane's to all planes.
    return (jnp.broadcast_to(gradient / num_planes, (num_planes, *gradient.shape)),)


_mean_over_planes.defvjp(_mean_forward, _mean_backward)


def sample_tri_planes(
    planes: Array, points: Array, axes: tuple[Axes, ...], *, box_warp: float
) -> Array:
    """Mean over the planes of the features at points.

    Args:
      planes: [N, P, P, C], rows are the vertical coordinate.
      points: [M, 3] world units.
      axes: one matrix a plane.
      box_warp: side of the box, world units.

    Returns:
      [M, C]; features fade to zero within half a texel outside the box.
    """
    sampled = sample_packed(pack_planes(planes), project(points, axes, box_warp=box_warp))
    return mean_over_planes(sampled)
