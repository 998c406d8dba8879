"""Style latents at the knots and between them, and their statistics (spec inversion 1.3, 5.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from eg3d_jax.cameras import to_label
from eg3d_jax.generator import TriPlaneGenerator
from inversion.config import LatentSpace


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Latents:
    """One latent for each knot, a view that has a latent of its own.

    Attributes:
      w_plus: [K, L, D] style latents; K = 1 is one latent for all views.
      azimuth: [K] radians, ascending, without a jump at pi (see `views.continuous_azimuths`).
    """

    w_plus: Array
    azimuth: Array

    def __len__(self) -> int:
        """Number of latents K."""
        return self.w_plus.shape[0]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class WStatistics:
    """Statistics of latents mapped from random z.

    Attributes:
      mean: [D].
      std: scalar, root mean square distance from the mean: about sqrt(D) times the deviation of one
        entry.
    """

    mean: Array
    std: Array


def repeat_latents(w_plus: Array, azimuth: ArrayLike) -> Latents:
    """Repeat a latent at every knot, each copy independent from here on.

    Args:
      w_plus: [L, D].
      azimuth: [K] radians, ascending.

    Returns:
      K latents.

    Raises:
      ValueError: if the shapes are others or the azimuths do not ascend.
    """
    if w_plus.ndim != 2 or np.ndim(azimuth) != 1 or not np.size(azimuth):
        raise ValueError(
            f"a latent {w_plus.shape} and azimuths {np.shape(azimuth)} must be [L, D] and [K], "
            "K at least 1"
        )
    if not isinstance(azimuth, Tracer) and np.any(np.diff(np.asarray(azimuth)) < 0):
        raise ValueError(
            f"azimuths {np.asarray(azimuth).tolist()} do not ascend; sort the views, and pass "
            "their azimuths through `continuous_azimuths` if they lie around pi"
        )
    azimuth = jnp.asarray(azimuth, jnp.float32)
    return Latents(w_plus=jnp.tile(w_plus, (azimuth.shape[0], 1, 1)), azimuth=azimuth)


def in_space(ws: Array, space: LatentSpace) -> Array:
    """Restrict latents [..., L, D] to the space in which they are fitted.

    In W every layer sees the mean over the layers: layers that start equal stay equal.
    """
    if space == "w+":
        return ws
    return jnp.broadcast_to(jnp.mean(ws, axis=-2, keepdims=True), ws.shape)


@jax.jit
def latents_at(latents: Latents, azimuth: ArrayLike) -> Array:
    """Interpolate the latent for a view between the knots.

    Linear between the two knots around the query, constant beyond the first and the last. The
    authors' code takes the two nearest instead, which agrees if knots are equally spaced and
    jumps if they are not (spec inversion 5.2). Queries are periodic: each stands for the equal
    angle within half a turn of the middle of the knots. Of knots with the same azimuth the last
    counts at that azimuth.

    Args:
      latents: at the knots.
      azimuth: scalar, radians; carries no gradient.

    Returns:
      [L, D], differentiable in the latents.

    Raises:
      ValueError: if `azimuth` is no scalar.
    """
    if jnp.ndim(azimuth):
        raise ValueError(f"azimuth has shape {jnp.shape(azimuth)}, wanted a scalar; vmap over it")
    knots = jax.lax.stop_gradient(latents.azimuth)
    if len(latents) == 1:
        return latents.w_plus[0]
    query = jax.lax.stop_gradient(jnp.asarray(azimuth, jnp.float32))
    turns = jnp.round((query - (knots[0] + knots[-1]) / 2) / (2 * jnp.pi))
    query = query - turns * (2 * jnp.pi)
    left = jnp.searchsorted(knots, query, side="right") - 1
    left = jnp.clip(left, 0, len(latents) - 2)
    start, end = knots[left], knots[left + 1]
    width = end - start
    inside = (query - start) / jnp.where(width > 0, width, 1.0)
    mix = jnp.where(width > 0, jnp.clip(inside, 0.0, 1.0), (query >= end).astype(inside.dtype))
    return (1.0 - mix) * latents.w_plus[left] + mix * latents.w_plus[left + 1]


def w_statistics(
    map_to_w: Callable[[Array], Array],
    z_dim: int,
    *,
    num_samples: int = 10_000,
    seed: int = 123,
    batch: int = 1_000,
) -> WStatistics:
    """Mean and deviation of latents mapped from random z (spec inversion 1.3).

    The z are those of the authors' code, so that both start inversion from the same latent.

    Args:
      map_to_w: z [n, z_dim] -> w [n, D], not truncated; conditioned on a camera from the front.
      z_dim: length of z.
      num_samples: number of z.
      seed: of NumPy's legacy generator.
      batch: how many are mapped together.

    Returns:
      The statistics in float32, accumulated in float64.

    Raises:
      ValueError: if a number is not positive or `map_to_w` returns another shape.
    """
    if min(z_dim, num_samples, batch) < 1:
        raise ValueError(f"{z_dim=}, {num_samples=} and {batch=} must be positive")
    random = np.random.RandomState(seed)  # the draws of the authors' code
    z = random.randn(num_samples, z_dim).astype(np.float32)
    mapped = jax.jit(map_to_w)
    parts = [np.asarray(mapped(z[i : i + batch])) for i in range(0, num_samples, batch)]
    if parts[0].ndim != 2 or parts[0].shape[0] != min(batch, num_samples):
        raise ValueError(
            f"map_to_w made {parts[0].shape} of z {z[:batch].shape}, wanted [n, D]; vmap it over z"
        )
    w = np.concatenate(parts).astype(np.float64)
    mean = w.mean(axis=0)
    std = np.sqrt(np.square(w - mean).sum() / num_samples)
    return WStatistics(mean=jnp.asarray(mean, jnp.float32), std=jnp.asarray(std, jnp.float32))


def step_lengths(w_plus: ArrayLike) -> np.ndarray:
    """Euclidean distances of neighbouring latents.

    Args:
      w_plus: [K, L, D].

    Returns:
      [K - 1] float64; empty for a single latent.

    Example:
      >>> step_lengths([[[0.0, 0.0]], [[3.0, 4.0]], [[3.0, 6.0]]])
      array([5., 2.])
    """
    return np.linalg.norm(np.diff(_flat(w_plus), axis=0), axis=-1)


def turning_angles(w_plus: ArrayLike) -> np.ndarray:
    """Angle at each inner latent between the directions to its two neighbours.

    The authors' code returns 180 degrees for about half of all points by mistake.

    Args:
      w_plus: [K, L, D].

    Returns:
      [K - 2] degrees, float64, 180 where the path goes straight on; NaN where a neighbour is equal.
      Empty for fewer than three latents.
    """
    steps = np.diff(_flat(w_plus), axis=0)
    lengths = np.linalg.norm(steps, axis=-1, keepdims=True)
    unit = np.divide(steps, lengths, out=np.full_like(steps, np.nan), where=lengths > 0)
    back, on = -unit[:-1], unit[1:]
    # Exact near 0 and 180 degrees, where the arc cosine is not.
    return np.degrees(
        2 * np.arctan2(np.linalg.norm(back - on, axis=-1), np.linalg.norm(back + on, axis=-1))
    )


def _flat(w_plus: ArrayLike) -> np.ndarray:
    array = np.asarray(w_plus, np.float64)
    if array.ndim != 3:
        raise ValueError(f"latents have shape {array.shape}, wanted [K, L, D]")
    return array.reshape(len(array), -1)


def frontal_mapping(generator: TriPlaneGenerator) -> Callable[[Array], Array]:
    """Mapping of z [n, z_dim] to w [n, D] under the frontal camera, not truncated."""
    label = to_label(generator.frontal_camera()) if generator.config.c_dim else None
    return lambda z: generator.mapping(z, label)


def mean_latent(generator: TriPlaneGenerator) -> WStatistics:
    """W statistics under the frontal camera (spec inversion 1.3)."""
    return w_statistics(frontal_mapping(generator), generator.config.z_dim)
