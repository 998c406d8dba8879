"""Convolutions on one image [H, W, C] with a kernel [k, k, I, O], written for XLA."""

from __future__ import annotations

from functools import partial

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


# Where XLA's own kernel gradient becomes the slower one, pixels.
_LARGE_SIDE = 128

_Padding = tuple[tuple[int, int], tuple[int, int]]


def _correlate(x: Array, kernel: Array, padding: _Padding) -> Array:
    """Correlate [H, W, I] with [kh, kw, I, O] under ((top, bottom), (left, right)) padding."""
    odd = kernel.shape[0] % 2 and kernel.shape[1] % 2
    by_xla = odd and x.shape[0] <= _LARGE_SIDE
    return (_convolve if by_xla else _convolve_taps)(x, kernel, padding)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve_taps(x: Array, kernel: Array, padding: _Padding) -> Array:
    """The same convolution, whose kernel gradient is matrix products, one a tap and row.

    XLA's gradient with respect to the kernel is a convolution with a kernel as large as the image.
    On CPU that is two to four times slower than the products for even-sided kernels and for large
    images; for small images with 3 x 3 kernels it is the faster way.
    """
    return _convolve(x, kernel, padding)


def _convolve(x: Array, kernel: Array, padding: _Padding) -> Array:
    return jax.lax.conv_general_dilated(
        x[None], kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]


def _taps_forward(x: Array, kernel: Array, padding: _Padding):
    return _convolve_taps(x, kernel, padding), (x, kernel)


def _taps_backward(padding: _Padding, residuals: tuple[Array, Array], gradient: Array):
    x, kernel = residuals
    rows, columns = kernel.shape[:2]
    (top, bottom), (left, right) = padding
    turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    mirrored = (
        (rows - 1 - top, rows - 1 - bottom),
        (columns - 1 - left, columns - 1 - right),
    )
    dx = _correlate(gradient, turned, mirrored)
    padded = jnp.pad(x, ((top, bottom), (left, right), (0, 0)))
    height, width = gradient.shape[:2]
    taps = [
        jnp.einsum("hwi,hwo->hio", padded[i : i + height, j : j + width], gradient).sum(0)
        for i in range(rows)
        for j in range(columns)
    ]
    return dx, jnp.stack(taps).reshape(kernel.shape)


_convolve_taps.defvjp(_taps_forward, _taps_backward)
