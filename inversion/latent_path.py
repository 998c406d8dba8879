"""The path that the latents of a run take from view to view (spec inversion 8)."""

from __future__ import annotations

import numpy as np
from jax.typing import ArrayLike


def step_lengths(w_plus: ArrayLike) -> np.ndarray:
    """Euclidean distances of neighbouring latents.

    Args:
      w_plus: [K, L, D].

    Returns:
      [K - 1] float64; empty for a single latent.
    """
    return np.linalg.norm(np.diff(_flat(w_plus), axis=0), axis=-1)


def turning_angles(w_plus: ArrayLike) -> np.ndarray:
    """Angle at each inner latent between the ways to its two neighbours.

    The authors' code calls about half of all points straight by a slip; here a point is as straight
    as it is.

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
