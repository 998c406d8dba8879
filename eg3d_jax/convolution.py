"""Convolutions on one image [H, W, C] with a kernel [k, k, I, O], written for XLA.

Each has a form for CPUs and one for all other devices; see `resample.for_cpu`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

from eg3d_jax.resample import blur, blur_phases, for_cpu

_LAYOUT = ("NHWC", "HWIO", "NHWC")
# Channels from which a 3 x 3 kernel is applied by tiles: with fewer, writing what is multiplied and
# its products takes the time that the multiplications no longer do.
_LEAST_CHANNELS = 256


def conv2d(x: Array, kernel: Array) -> Array:
    """Correlate [H, W, I] with an odd-sided kernel [k, k, I, O], zeros outside -> [H, W, O].

    In float32 if the kernel is 1 x 1, whatever it and x are.
    """
    if kernel.shape[:2] == (1, 1):
        return jnp.matmul(x, kernel[0, 0], preferred_element_type=jnp.float32)
    half = kernel.shape[0] // 2
    padding = ((half, half), (half, half))
    return (_correlate if for_cpu() else _convolve)(x, kernel, padding)


def conv2d_up(x: Array, kernel: Array) -> Array:
    """Double the side: a transposed stride-2 convolution, then the 1-3-3-1 filter (spec eg3d 4.2).

    Args:
      x: [H, W, I].
      kernel: [3, 3, I, O].

    Returns:
      [2 H, 2 W, O].
    """
    return (_up_by_phases if for_cpu() else _up_transposed)(x, kernel)


def _up_transposed(x: Array, kernel: Array) -> Array:
    """`conv2d_up` for GPUs: one call of their library, and one filter on all that it returns."""
    out = blur(_spread(x, kernel))
    # Else XLA would keep what is rounded already for the backward pass in float32.
    return jax.lax.optimization_barrier(out) if out.dtype == jnp.bfloat16 else out


@jax.custom_jvp
def _spread(x: Array, kernel: Array) -> Array:
    """Transposed stride-2 convolution: [H, W, I] with [3, 3, I, O] -> [2 H + 1, 2 W + 1, O]."""
    return jax.lax.conv_general_dilated(
        x[None],
        kernel[::-1, ::-1],
        (1, 1),
        ((2, 2), (2, 2)),
        lhs_dilation=(2, 2),
        dimension_numbers=_LAYOUT,
    )[0]


@partial(_spread.defjvp, symbolic_zeros=True)
def _spread_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]):
    x, kernel = primals
    dx, dkernel = tangents
    terms = []
    if not isinstance(dx, SymbolicZero):
        terms.append(_spread(dx, kernel))
    if not isinstance(dkernel, SymbolicZero):
        terms.append(_spread_of_kernel(x, dkernel))
    out = _spread(x, kernel)
    return out, sum(terms[1:], terms[0]) if terms else jnp.zeros_like(out)


def _spread_of_kernel(x: Array, kernel: Array) -> Array:
    """`_spread` with the roles swapped: the kernel is the image, and x, spread, is the kernel.

    Its transpose, the gradient of the kernel, is then the gradient of a strided convolution, which
    a GPU's library has; that of `_spread` as it stands is none, and ends as a convolution with a
    kernel of 513 x 513.
    """
    rows, columns = (2 * side - 2 for side in x.shape[:2])
    return jax.lax.conv_general_dilated(
        kernel,
        x[::-1, ::-1, None],
        (1, 1),
        ((rows, rows), (columns, columns)),
        rhs_dilation=(2, 2),
        dimension_numbers=("HWCN", "HWOI", "NHWC"),
    )[..., 0].transpose(1, 2, 0)


def _up_by_phases(x: Array, kernel: Array) -> Array:
    """`conv2d_up` for CPUs.

    The transposed convolution t[2y + ky, 2x + kx] += x[y, x] W[ky, kx] is computed by its four
    phases: even samples of t see two taps of an axis, odd ones a single tap. Nine products a
    pixel, no multiplication with inserted zeros, no dilation; the filter acts on the phases.
    """
    even, odd = jnp.array([2, 0]), jnp.array([1])
    phases = [
        [
            _correlate(x, kernel[rows][:, columns], (pad_rows, pad_columns))
            for columns, pad_columns in ((even, (1, 1)), (odd, (0, 0)))
        ]
        for rows, pad_rows in ((even, (1, 1)), (odd, (0, 0)))
    ]
    by_row = [
        blur_phases(jnp.asarray(even_columns), jnp.asarray(odd_columns), 1)
        for even_columns, odd_columns in phases
    ]
    return blur_phases(by_row[0], by_row[1], 0)


_Padding = tuple[tuple[int, int], tuple[int, int]]


def _convolve(x: Array, kernel: Array, padding: _Padding) -> Array:
    """Correlate [H, W, I] with [kh, kw, I, O] under ((top, bottom), (left, right)) padding.

    JAX's own gradients: views of a `vmap` share the kernel, so that its gradient is one convolution
    over all of them, which a GPU's library has; matrix products would take half of a tuning step.
    """
    return jax.lax.conv_general_dilated(
        x[None], kernel, (1, 1), padding, dimension_numbers=_LAYOUT
    )[0]


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _correlate(x: Array, kernel: Array, padding: _Padding) -> Array:
    """`_convolve` for CPUs, by tiles where these pay.

    The gradients are written out because XLA's CPU compiler handles its own badly: inside a loop
    (`lax.scan`, `lax.map`) convolutions that are not in the canonical layout run up to 50 times
    slower (github.com/jax-ml/jax/issues/12868), and the gradient with respect to the kernel is a
    convolution with a kernel as large as the image, two to four times slower than matrix products.
    """
    return (_by_tiles if _tiles_pay(x, kernel, padding) else _convolve)(x, kernel, padding)


def _forward(x: Array, kernel: Array, padding: _Padding):
    return _correlate(x, kernel, padding), (x, kernel)


def _backward(padding: _Padding, residuals: tuple[Array, Array], gradient: Array):
    x, kernel = residuals
    rows, columns = kernel.shape[:2]
    (top, bottom), (left, right) = padding
    # Without the barrier XLA folds the transpose into a convolution of another layout.
    turned = jax.lax.optimization_barrier(jnp.swapaxes(kernel[::-1, ::-1], 2, 3))
    dx = _correlate(
        gradient,
        turned,
        ((rows - 1 - top, rows - 1 - bottom), (columns - 1 - left, columns - 1 - right)),
    )
    if _tiles_pay(x, kernel, padding):
        _, of_kernel = jax.vjp(lambda kernel: _by_tiles(x, kernel, padding), kernel)
        return dx, of_kernel(gradient)[0]
    padded = jnp.pad(x, ((top, bottom), (left, right), (0, 0)))
    height, width, out_channels = gradient.shape
    # Long rows: one product a row, summed after, keeps each product in the cache.
    by_row = out_channels <= width
    taps = []
    for i in range(rows):
        for j in range(columns):
            window = padded[i : i + height, j : j + width]
            if by_row:
                taps.append(jnp.einsum("hwi,hwo->hio", window, gradient).sum(0))
            else:
                taps.append(jnp.einsum("hwi,hwo->io", window, gradient))
    return dx, jnp.stack(taps).reshape(kernel.shape)


_correlate.defvjp(_forward, _backward)


def _tiles_pay(x: Array, kernel: Array, padding: _Padding) -> bool:
    """Whether `_by_tiles` takes these and is faster."""
    fits = kernel.shape[:2] == (3, 3) and padding == ((1, 1), (1, 1))
    even = x.shape[0] % 2 == 0 and x.shape[1] % 2 == 0
    exact = x.dtype == jnp.float32  # sums of tiles are not to be rounded to bfloat16
    return fits and even and exact and min(kernel.shape[2:]) >= _LEAST_CHANNELS


def _by_tiles(x: Array, kernel: Array, padding: _Padding) -> Array:
    """Correlate [H, W, I] with [3, 3, I, O] by 2 x 2 pixels at once: 16 products, not 36.

    Winograd's minimal filtering F(2 x 2, 3 x 3) (Lavin and Gray, arXiv 1509.09308): along an axis
    (a, b, c, d) and a kernel (f, g, h) give (m0 + m1 + m2, m1 - m2 - m3) of m0 = (a - c) f,
    m1 = (b + c)(f + g + h) / 2, m2 = (c - b)(f - g + h) / 2, m3 = (b - d) h. In float32 it rounds
    half as much again as the sum of nine taps does. Each product is a matrix's of its own, so that
    what it reads is made right before it and is still in the cache.
    """
    height, width, channels = x.shape
    image = jnp.pad(x, (*padding, (0, 0)))
    kernels = [_of_kernel(rows, 1) for rows in _of_kernel(kernel, 0)]
    products = [
        [
            jnp.matmul(tiles.reshape(-1, channels), taps[0, 0])
            for tiles, taps in zip(_of_image(rows, 1), of_rows, strict=True)
        ]
        for rows, of_rows in zip(_of_image(image, 0), kernels, strict=True)
    ]
    by_column = zip(*(_of_products(row) for row in products), strict=True)
    pixels = [_of_products(list(column)) for column in by_column]  # by column, then row, of a tile
    shape = height // 2, width // 2, kernel.shape[-1]
    left, right = ([pixel.reshape(shape) for pixel in column] for column in pixels)
    rows = [
        jnp.stack(pair, 2).reshape(height // 2, width, -1) for pair in zip(left, right, strict=True)
    ]
    return jnp.stack(rows, 1).reshape(height, width, -1)


def _of_image(x: Array, axis: int) -> list[Array]:
    """What is multiplied of every second four samples in a row along an axis."""
    end = x.shape[axis] - 3
    a, b, c, d = (jax.lax.slice_in_dim(x, i, end + i, 2, axis) for i in range(4))
    return [a - c, b + c, c - b, b - d]


def _of_kernel(kernel: Array, axis: int) -> list[Array]:
    """What it is multiplied by, of three taps along an axis."""
    f, g, h = jnp.split(kernel, 3, axis)
    return [f, 0.5 * (f + g + h), 0.5 * (f - g + h), h]


def _of_products(products: list[Array]) -> list[Array]:
    """The two samples that four products give."""
    m0, m1, m2, m3 = products
    return [m0 + m1 + m2, m1 - m2 - m3]
