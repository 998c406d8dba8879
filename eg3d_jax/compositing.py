"""Integration of samples along rays (spec eg3d 8.5; NeRF, arXiv:2003.08934, eq. 3).

R rays, S samples a ray in ascending depth.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def midpoints(x: Array, axis: int = -1) -> Array:
    """Means of neighbours along `axis`, one fewer than there are samples."""
    length = x.shape[axis]
    before = jax.lax.slice_in_dim(x, 0, length - 1, axis=axis)
    after = jax.lax.slice_in_dim(x, 1, length, axis=axis)
    return (before + after) / 2


@jax.custom_jvp
def softplus(x: Array) -> Array:
    """log(1 + exp(x)), without overflow.

    For t = exp(-|x|) it is max(x, 0) + log(1 + t), and log(1 + t) = 2 artanh(z) with
    z = t / (2 + t) <= 1/3, of whose series six terms are enough: the rest is 1e-7 at most. A third
    of the cost of `jax.nn.softplus`, which takes log1p and looks for NaN.
    """
    t = jnp.exp(-jnp.abs(x))
    z = t / (2.0 + t)
    square, series = jnp.square(z), 0.0
    for power in (11, 9, 7, 5, 3, 1):  # of z, the last one taken out
        series = series * square + 2.0 / power
    return jnp.maximum(x, 0.0) + z * series


@softplus.defjvp
def _softplus_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    return softplus(x), jax.nn.sigmoid(x) * tangent


@jax.named_scope("compositing")
def interval_weights(density: Array, depth: Array) -> Array:
    """Weight of each interval between two samples, by the mid-point rule.

    Args:
      density: [..., S] raw decoder output; softplus(mean of two neighbours - 1) is the extinction
        per world unit.
      depth: [..., S] distances from the camera centre, ascending, world units.

    Returns:
      [..., S-1], each in [0, 1]; they sum to the ray's opacity.

    Raises:
      ValueError: if `density` and `depth` differ in shape.
    """
    if density.shape != depth.shape:
        raise ValueError(f"density {density.shape} and depth {depth.shape} must be equal: [..., S]")
    extinction = softplus(midpoints(density) - 1.0)
    alpha = 1.0 - jnp.exp(-extinction * jnp.diff(depth))
    # 1e-10 as in EG3D: the product never reaches zero, where its gradient would be lost.
    transmittance = jnp.cumprod(1.0 - alpha + 1e-10, axis=-1)
    before = jnp.concatenate([jnp.ones_like(alpha[..., :1]), transmittance[..., :-1]], axis=-1)
    return alpha * before


def sample_weights(weights: Array) -> Array:
    """Weight of each sample from those of the intervals: [..., S-1] -> [..., S].

    The mid-point rule gives interval i the mean of samples i and i + 1, so a sum of interval means
    equals a sum of samples with these weights, and no sample has to be averaged, or sorted.
    """
    zero = jnp.zeros_like(weights[..., :1])
    return midpoints(jnp.concatenate([zero, weights, zero], axis=-1))


def expected_depth(weights: Array, depth: Array) -> Array:
    """Mean depth of each ray over its interval weights; +inf for an empty ray.

    Args:
      weights: [..., S-1] from `interval_weights`.
      depth: [..., S] ascending.

    Returns:
      [...] world units.
    """
    opacity = jnp.sum(weights, axis=-1)
    empty = opacity <= 0.0
    # The guard is on the operand: after a division by zero the gradient would be NaN.
    mean = jnp.sum(weights * midpoints(depth), axis=-1) / jnp.where(empty, 1.0, opacity)
    return jnp.where(empty, jnp.inf, mean)
