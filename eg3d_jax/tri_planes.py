"""Feature lookup in tri-planes: project, interpolate bilinearly, average (spec eg3d section 7).

A border of zero texels around the planes is EG3D's zero padding.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from eg3d_jax.config import Axes


@jax.named_scope("border")
def with_border(planes: Array) -> Array:
    """Planes [N, P, P, C] with a texel of zeros on every side, [N, P+2, P+2, C]."""
    return jnp.pad(planes, ((0, 0), (1, 1), (1, 1), (0, 0)))


@jax.named_scope("lookup")
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


@jax.named_scope("lookup")
def sample_planes(bordered: Array, coordinates: Array) -> Array:
    """Bilinear lookup with zeros outside, align_corners = false (spec eg3d 7.3).

    Args:
      bordered: [N, P+2, P+2, C] from `with_border`.
      coordinates: [N, M, 2] (horizontal, vertical); -1 and 1 are the outer edges of the planes.

    Returns:
      [N, M, C]. Gradients reach the planes and the coordinates.
    """
    num_planes, side = bordered.shape[:2]
    last = side - 3.0  # texel that is not border
    position = ((coordinates + 1.0) * (last + 1.0) - 1.0) / 2.0
    corner = jnp.floor(position)
    fraction = position - corner
    inside = jnp.all((corner >= -1) & (corner <= last), axis=-1)
    index = jnp.clip(corner, -1, last).astype(jnp.int32) + 1
    # Where planes begin is a constant array. Computed from the side, which the rows are multiplied
    # by as well, it makes XLA's CPU compiler load the side, and compute all indices, anew for every
    # channel: the lookup is nine times as slow (jaxlib 0.10.1).
    begin = jnp.asarray(np.arange(num_planes, dtype=np.int32)[:, None] * side**2)
    first = begin + index[..., 1] * side + index[..., 0]
    x, y = fraction[..., 0], fraction[..., 1]
    weights = [(1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x]
    texels = bordered.reshape(num_planes * side**2, -1)
    return _blend(texels, first, jnp.where(inside, jnp.stack(weights), 0.0), side)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _blend(texels: Array, first: Array, weights: Array, side: int) -> Array:
    """Sum of each point's four texels times their weights, [...] -> [..., C].

    The gradient is written out, so that texels are looked up again if the weights need one, which
    only cameras do; keeping them would take the most memory of all that a rendering keeps.

    Args:
      texels: [K, C], plane by plane and row by row.
      first: [...] index of the first; the others are the next, and these two in the next row.
      weights: [4, ...].
      side: of a plane with its border.
    """
    taps = _taps(first, side)
    return jnp.asarray(sum(texels[tap] * weights[k, ..., None] for k, tap in enumerate(taps)))


def _taps(first: Array, side: int) -> list[Array]:
    return [first + step for step in (0, 1, side, side + 1)]


def _blend_forward(texels: Array, first: Array, weights: Array, side: int):
    return _blend(texels, first, weights, side), (texels, first, weights)


def _blend_backward(side: int, residuals: tuple[Array, Array, Array], gradient: Array):
    texels, first, weights = residuals
    to_texels, to_weights = jnp.zeros_like(texels), []
    for k, tap in enumerate(_taps(first, side)):
        to_texels = to_texels.at[tap].add(weights[k, ..., None] * gradient)
        to_weights.append(jnp.sum(texels[tap] * gradient, axis=-1))
    return to_texels, None, jnp.stack(to_weights)


_blend.defvjp(_blend_forward, _blend_backward)


@jax.named_scope("lookup")
def mean_over_planes(sampled: Array) -> Array:
    """[N, M, C] features from `sample_planes` -> [M, C].

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
    sampled = sample_planes(with_border(planes), project(points, axes, box_warp=box_warp))
    return mean_over_planes(sampled)
