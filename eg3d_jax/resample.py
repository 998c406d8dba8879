"""FIR resampling and resizing of images [H, W, C], as StyleGAN2 and EG3D do it.

Source: spec eg3d section 2. What interleaves samples has a form for CPUs, by phases, and one for
all other devices without interleaving, which is the slowest of a GPU's small kernels.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array


def for_cpu() -> bool:
    """Whether what is traced now is for a CPU, by JAX's default device.

    Known while tracing (and part of what JAX keeps traces by), so that a program has one form only:
    `lax.platform_dependent` traces all, which takes half as long again and changes roundings.
    Either form is right everywhere, and slow on the other's devices.
    """
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    if device is None:
        return jax.default_backend() == "cpu"
    return (device if isinstance(device, str) else device.platform) == "cpu"


def upsample2d(image: Array) -> Array:
    """Double the side of [H, W, C] with the 1-3-3-1 filter, zeros outside (spec eg3d 2).

    Per axis out[2i] = (x[i-1] + 3 x[i]) / 4 and out[2i+1] = (3 x[i] + x[i+1]) / 4: border samples
    lose energy, unlike in a bilinear resize.
    """
    return (_upsample_by_phases if for_cpu() else _upsample_repeated)(image)


def _upsample_by_phases(image: Array) -> Array:
    for axis in (0, 1):
        before, after = _neighbours(image, axis)
        even, odd = (before + 3.0 * image) * 0.25, (3.0 * image + after) * 0.25
        image = _interleave(even, odd, axis)
    return image


def _upsample_repeated(image: Array) -> Array:
    """Each sample twice, then taps 1-2-1 / 4, which is the same."""
    for axis in (0, 1):
        twice = jnp.repeat(image, 2, axis)
        before, after = _neighbours(twice, axis)
        image = (before + 2.0 * twice + after) * 0.25
    return image


@jax.custom_vjp
def blur(image: Array) -> Array:
    """Filter [2 H + 1, 2 W + 1, C] to [2 H, 2 W, C] with taps 1-3-3-1 / 4 an axis (spec eg3d 4.2).

    Padded by one zero on either side before. The gradient is written out: the filter is symmetric,
    and JAX's own would pad and add for each tap.
    """
    return _taps_1331(image, 1)


def _taps_1331(image: Array, padding: int) -> Array:
    for axis in (0, 1):
        pad = [(padding, padding) if k == axis else (0, 0) for k in range(image.ndim)]
        padded = jnp.pad(image, pad)
        length = padded.shape[axis] - 3
        taps = [jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i in range(4)]
        a, b, c, d = (tap.astype(jnp.float32) for tap in taps)  # sums are not taken in bfloat16
        image = ((a + 3.0 * (b + c) + d) * 0.25).astype(image.dtype)
    return image


blur.defvjp(lambda image: (blur(image), None), lambda _, gradient: (_taps_1331(gradient, 2),))


def blur_phases(even: Array, odd: Array, axis: int) -> Array:
    """Filter a signal of 2 L + 1 samples, given by phases, to 2 L samples with taps 1-3-3-1 / 4.

    Args:
      even: samples 0, 2, ..., 2 L along `axis`, L + 1 of them.
      odd: samples 1, 3, ..., 2 L - 1, L of them.
      axis: the axis of length L + 1 or L.

    Returns:
      The filtered signal, padded by one zero on either side before filtering (spec eg3d 4.2).
    """
    length = odd.shape[axis]
    before, after = _neighbours(odd, axis)
    this = jax.lax.slice_in_dim(even, 0, length, axis=axis)
    following = jax.lax.slice_in_dim(even, 1, length + 1, axis=axis)
    out_even = (before + 3.0 * (this + odd) + following) * 0.25
    out_odd = (this + 3.0 * (odd + following) + after) * 0.25
    return _interleave(out_even, out_odd, axis)


def resize_bilinear(image: Array, side: int, *, antialias: bool) -> Array:
    """Resize [H, W, C] to [side, side, C], half-pixel centres, edges clamped.

    With `antialias`, shrinking uses a triangle filter as wide as the scale, renormalised at the
    borders; enlarging is the same either way (spec eg3d section 9).
    """
    shape = (side, side, image.shape[-1])
    return jax.image.resize(
        image, shape, "linear", antialias=antialias, precision=jax.lax.Precision.HIGHEST
    )


def _neighbours(image: Array, axis: int) -> tuple[Array, Array]:
    """The samples before and after each one along `axis`, zero outside."""
    length = image.shape[axis]
    pad = [(1, 1) if k == axis else (0, 0) for k in range(image.ndim)]
    padded = jnp.pad(image, pad)
    return (
        jax.lax.slice_in_dim(padded, 0, length, axis=axis),
        jax.lax.slice_in_dim(padded, 2, length + 2, axis=axis),
    )


def _interleave(even: Array, odd: Array, axis: int) -> Array:
    shape = list(even.shape)
    shape[axis] *= 2
    return jnp.stack([even, odd], axis=axis + 1).reshape(shape)
