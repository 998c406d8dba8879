"""Feature lookup in tri-planes: project, interpolate bilinearly, average (spec eg3d section 7).

A border of zero texels around the planes is EG3D's zero padding.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from eg3d_jax.config import Axes
from eg3d_jax.resample import for_cpu

_INDEX = np.uint32  # JAX asks of signed ones, each time, whether they are negative


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
    """Mean over planes of bilinear lookups, zeros outside, align_corners = false (spec eg3d 7.3).

    Args:
      bordered: [N, P+2, P+2, C] from `with_border`.
      coordinates: [N, M, 2] (horizontal, vertical); -1 and 1 are the outer edges of the planes.

    Returns:
      [M, C]. Gradients reach the planes and the coordinates.
    """
    last = bordered.shape[1] - 3.0  # texel that is not border
    position = ((coordinates + 1.0) * (last + 1.0) - 1.0) / 2.0
    # What lies farther out than the border is looked up in it.
    return _mean_lookup(bordered, jax.lax.clamp(-1.0, position, last + 1.0))


@jax.custom_vjp
def _mean_lookup(bordered: Array, position: Array) -> Array:
    """`sample_planes` at positions [N, M, 2] in texels, from -1 to P.

    The gradient is written out, so that texels are looked up again if positions need one, which
    only cameras do; keeping them would take the most memory of all that a rendering keeps.
    """
    num_planes, side, _, channels = bordered.shape
    if for_cpu():
        # Where planes begin is a constant array. Computed from the side, which the rows are
        # multiplied by as well, it makes XLA's CPU compiler load the side, and compute all indices,
        # anew for every channel: the lookup is nine times as slow (jaxlib 0.10.1).
        begin = jnp.asarray(np.arange(num_planes, dtype=_INDEX)[:, None] * side**2)
        x, y, taps = _places(position, side, begin)
        texels = bordered.reshape(num_planes * side**2, channels)
        weighted = zip(taps, _weights(x, y), strict=True)
        each = jnp.asarray(sum(texels[tap] * weight[..., None] for tap, weight in weighted))
    else:
        # One plane's places after the other's: those of all are more than a GPU's cache holds, and
        # each is read for every channel.
        each = [_interpolated(*plane) for plane in zip(bordered, position, strict=True)]
    # Not `jnp.mean`: XLA hands reductions to a library on CPU (YNNPACK), for which the samples are
    # written to memory first (jaxlib 0.10.1), or takes parts of the lookup with it, in pieces
    # (0.12: the renderer was 2.3 times as slow). Additions are fused with the lookup.
    return jnp.asarray(sum(each[i] for i in range(num_planes))) / num_planes


def _interpolated(plane: Array, position: Array) -> Array:
    """Lookup in one plane [P+2, P+2, C] at [M, 2] -> [M, C], for GPUs: fractions, no weights."""
    side, texels = len(plane), plane.reshape(-1, plane.shape[-1])
    x, y, taps = _places(position, side)
    a, b, c, d = (texels[tap] for tap in taps)
    x, y = x[:, None], y[:, None]
    upper, lower = a + x * (b - a), c + x * (d - c)
    return upper + y * (lower - upper)


def _places(
    position: Array, side: int, begin: Array | int = 0
) -> tuple[Array, Array, tuple[Array, ...]]:
    """Which texels positions [..., 2] lie between.

    Args:
      position: in texels, -1 is the border.
      side: of a plane with its border.
      begin: index of the plane's first texel.

    Returns:
      Fractions x and y [...] in [0, 1] of the way to the next column and to the next row, and
      indices [...] of the texels: this, the next, and these two in the next row.
    """
    corner = jnp.minimum(jnp.floor(position), side - 3.0)
    fraction = position - corner
    index = (corner + 1.0).astype(_INDEX)
    first = begin + index[..., 1] * side + index[..., 0]
    taps = (first, first + 1, first + side, first + (side + 1))
    return fraction[..., 0], fraction[..., 1], taps


def _weights(x: Array, y: Array) -> tuple[Array, ...]:
    """Of the four texels."""
    return (1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x


def _lookup_forward(bordered: Array, position: Array):
    return _mean_lookup(bordered, position), (bordered, position)


def _lookup_backward(residuals: tuple[Array, Array], gradient: Array):
    bordered, position = residuals
    gradient = gradient / len(bordered)
    to_planes, to_position = [], []
    for plane, where in zip(bordered, position, strict=True):
        texels = plane.reshape(-1, plane.shape[-1])
        x, y, taps = _places(where, len(plane))
        to_texels = jnp.zeros_like(texels)
        for tap, weight in zip(taps, _weights(x, y), strict=True):
            to_texels = to_texels.at[tap].add(weight[:, None] * gradient)
        to_planes.append(to_texels.reshape(plane.shape))
        a, b, c, d = (jnp.sum(texels[tap] * gradient, axis=-1) for tap in taps)
        by_x, by_y = (1 - y) * (b - a) + y * (d - c), (1 - x) * (c - a) + x * (d - b)
        to_position.append(jnp.stack([by_x, by_y], axis=-1))
    return jnp.stack(to_planes), jnp.stack(to_position)


_mean_lookup.defvjp(_lookup_forward, _lookup_backward)


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
    return sample_planes(with_border(planes), project(points, axes, box_warp=box_warp))
