"""Convolutions on one image [H, W, C] with a kernel [k, k, I, O], written for XLA."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from eg3d_jax.resample import blur_phases


def conv2d(x: Array, kernel: Array) -> Array:
    """Correlate [H, W, I] with an odd-sided kernel [k, k, I, O], zeros outside -> [H, W, O]."""
    if kernel.shape[:2] == (1, 1):
        return x @ kernel[0, 0]
    half = kernel.shape[0] // 2
    return _correlate(x, kernel, ((half, half), (half, half)))


def conv2d_up(x: Array, kernel: Array) -> Array:
    """Double the side: a transposed stride-2 convolution, then the 1-3-3-1 filter (spec eg3d 4.2).

    The transposed convolution t[2y + ky, 2x + kx] += x[y, x] W[ky, kx] is computed by its four
    phases: even samples of t see two taps of an axis, odd ones a single tap. Nine products a
    pixel, no multiplication with inserted zeros, no dilation; the filter acts on the phases.

    Args:
      x: [H, W, I].
      kernel: [3, 3, I, O].

    Returns:
      [2 H, 2 W, O].
    """
    even, odd = jnp.array([2, 0]), jnp.array([1])
    phases = [
        [
            _correlate(x, kernel[rows][:, columns], (pad_rows, pad_columns))
            for columns, pad_columns in ((even, (1, 1)), (odd, (0, 0)))
        ]
        for rows, pad_rows in ((even, (1, 1)), (odd, (0, 0)))
    ]
    by_row = [blur_phases(even_columns, odd_columns, 1) for even_columns, odd_columns in phases]
    return blur_phases(by_row[0], by_row[1], 0)


def _correlate(x: Array, kernel: Array, padding: tuple[tuple[int, int], tuple[int, int]]) -> Array:
    return jax.lax.conv_general_dilated(
        x[None], kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]
