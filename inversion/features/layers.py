"""Layers of frozen feature networks on one image [H, W, C]; callers `vmap`.

Their arrays are `Frozen` variables, so a filter for `nnx.Param` never trains them.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

from eg3d_jax.layers import in_bfloat16


class Frozen(nnx.Variable):
    """An array of a feature network, never trained."""


def frozen(value: ArrayLike) -> Frozen:
    """A float32 copy of an array as a `Frozen` variable."""
    return Frozen(jnp.asarray(np.asarray(value), jnp.float32))


class Conv(nnx.Module):
    """A correlation with given weights and zero padding."""

    def __init__(
        self, kernel: ArrayLike, bias: ArrayLike | None = None, *, stride: int = 1, padding: int = 0
    ):
        self.kernel = frozen(kernel)
        self.bias = None if bias is None else frozen(bias)
        self.stride = stride
        self.padding = padding

    def __call__(self, x: Array) -> Array:
        """[H, W, I] -> [h, w, O] with h = (H + 2 padding - k) // stride + 1."""
        x = correlate(x, self.kernel[...], stride=self.stride, padding=self.padding)
        return x if self.bias is None else x + self.bias[...]


class Affine(nnx.Module):
    """Scale and shift of the last axis: a batch norm in inference."""

    def __init__(self, scale: ArrayLike, shift: ArrayLike):
        self.scale = frozen(scale)
        self.shift = frozen(shift)

    def __call__(self, x: Array) -> Array:
        """[..., C] -> [..., C]."""
        return x * self.scale[...] + self.shift[...]


class PRelu(nnx.Module):
    """A slope per channel for negative values."""

    def __init__(self, slope: ArrayLike):
        self.slope = frozen(slope)

    def __call__(self, x: Array) -> Array:
        """[..., C] -> [..., C]."""
        return jnp.where(x >= 0, x, x * self.slope[...])


def correlate(x: Array, kernel: Array, *, stride: int = 1, padding: int = 0) -> Array:
    """Correlation with zero padding; strided ones become dense ones on blocks of pixels.

    The input gradient of a strided convolution is a dilated one, for which XLA has no fast code on
    CPUs. Folding stride x stride blocks into channels and the kernel with them avoids it, for some
    zeros in the kernel (11 x 11 becomes 12 x 12). In bfloat16 where the generator's are.

    Args:
      x: [H, W, I].
      kernel: [k, k, I, O].
      stride: step between outputs, pixels.
      padding: zeros on each side, pixels.

    Returns:
      [h, w, O], h = (H + 2 padding - k) // stride + 1.
    """
    size = kernel.shape[0]
    if size == 1 and padding == 0:
        return x[::stride, ::stride] @ kernel[0, 0]
    if stride > 1:
        x, kernel = _fold(x, kernel, stride, padding)
        padding = 0
    kept = x.dtype
    if in_bfloat16():
        x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return jax.lax.conv_general_dilated(
        x[None],
        kernel,
        (1, 1),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )[0].astype(kept)


def max_pool(x: Array, *, size: int, stride: int) -> Array:
    """Maxima of windows that fit inside: [H, W, C] -> [h, w, C], h = (H - size) // stride + 1.

    Written with slices: the gradient of XLA's window reduction is a slow scatter on CPUs.
    """
    for axis in (0, 1):
        count = (x.shape[axis] - size) // stride + 1
        stop = (count - 1) * stride + 1
        slices = [
            jax.lax.slice_in_dim(x, i, i + stop, stride=stride, axis=axis) for i in range(size)
        ]
        x = slices[0]
        for other in slices[1:]:
            x = jnp.maximum(x, other)
    return x


def require_shapes(found: Sequence[tuple[int, ...]], wanted: Sequence[tuple[int, ...]], what: str):
    """Compare the shapes of weights with those of an architecture.

    Raises:
      ValueError: naming both lists, if they differ.
    """
    if list(found) != list(wanted):
        raise ValueError(f"{what} has weights of shapes {list(found)}, wanted {list(wanted)}")


def _fold(x: Array, kernel: Array, stride: int, padding: int) -> tuple[Array, Array]:
    """Space to depth of an image and of its kernel: stride becomes 1, padding 0."""
    size = kernel.shape[0]
    blocks = -(-size // stride)
    config = []
    for side in x.shape[:2]:
        count = (side + 2 * padding - size) // stride + 1
        needed = (count - 1 + blocks) * stride
        config.append((padding, needed - side - padding, 0))
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [*config, (0, 0, 0)])
    x = rearrange(x, "(h a) (w b) i -> h w (a b i)", a=stride, b=stride)
    extra = blocks * stride - size
    kernel = jnp.pad(kernel, ((0, extra), (0, extra), (0, 0), (0, 0)))
    return x, rearrange(kernel, "(h a) (w b) i o -> h w (a b i) o", a=stride, b=stride)
