"""Walks through the latent space: a smooth closed curve through given latents."""

from __future__ import annotations

import numpy as np
from jax.typing import ArrayLike


def closed_walk(knots: ArrayLike, num_frames: int) -> np.ndarray:
    """Closed Catmull-Rom curve through every knot, with a continuous velocity.

    Args:
      knots: [K, L, D] latents; the last is followed by the first. Two are walked there and back, at
        rest at either end.
      num_frames: length T of the walk, evenly spread over the knots; frame 0 is the first knot.

    Returns:
      [T, L, D] float32; it may be played in a loop.
    """
    knots = np.asarray(knots, np.float32)
    at = np.arange(num_frames) * (len(knots) / num_frames)
    start = np.floor(at).astype(int)
    u = (at - start)[:, None]
    # Cubic with the knots' values at both ends, and half the chord of their neighbours as slopes.
    weights = 0.5 * np.concatenate(
        [
            u * (u * (2 - u) - 1),
            u**2 * (3 * u - 5) + 2,
            u * (u * (4 - 3 * u) + 1),
            u**2 * (u - 1),
        ],
        axis=1,
    )
    around = knots[(start[:, None] + np.arange(-1, 3)) % len(knots)]
    return np.einsum("tk,tkld->tld", weights, around).astype(np.float32)
