"""Layers of StyleGAN2 on one example: equalised linear, modulated convolution, noise.

Arrays are channels last and carry no batch axis; callers `vmap`. Because modulation acts on the
activations, all examples of a `vmap` share one kernel and the batch becomes one convolution.
Source: spec eg3d sections 2 and 4.
"""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from eg3d_jax.convolution import conv2d, conv2d_up

NoiseMode = Literal["const", "none", "random"]
Activation = Literal["linear", "lrelu"]


class Buffer(nnx.Variable):
    """State of a generator that is not trained: noise maps and the mean latent."""


def normalize_2nd_moment(x: Array) -> Array:
    """Scale [..., C] to a mean square of one; a zero vector stays zero."""
    return x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-8)


def bias_act(
    x: Array,
    bias: Array | None,
    activation: Activation = "linear",
    *,
    gain: float = 1.0,
    clamp: float | None = None,
) -> Array:
    """Add [C] `bias` to [..., C], activate, multiply by the gain, clamp (spec eg3d 2).

    Args:
      x: [..., C].
      bias: [C] or None.
      activation: 'lrelu' has slope 0.2 and a gain of sqrt(2) of its own.
      gain: extra factor on the activation gain and on `clamp`.
      clamp: limit before the extra gain, None for no limit.
    """
    if bias is not None:
        x = x + bias
    if activation == "lrelu":
        x = jnp.where(x >= 0, x, 0.2 * x)
        x = x * (math.sqrt(2.0) * gain)
    elif gain != 1.0:
        x = x * gain
    return x if clamp is None else jnp.clip(x, -clamp * gain, clamp * gain)


class Linear(nnx.Module):
    """Linear layer with equalised learning rate: y = act(x K (lr_mul / sqrt(in)) + b lr_mul)."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: Activation = "linear",
        lr_mul: float = 1.0,
        bias_init: float = 0.0,
        rngs: nnx.Rngs,
    ):
        self.activation: Activation = activation
        self.lr_mul = lr_mul
        self.kernel = nnx.Param(rngs.params.normal((in_features, out_features)) / lr_mul)
        self.bias = nnx.Param(jnp.full((out_features,), bias_init))

    def __call__(self, x: Array) -> Array:
        """[..., in] -> [..., out]."""
        kernel = self.kernel[...]
        scaled = kernel * (self.lr_mul / math.sqrt(kernel.shape[0]))
        bias = self.bias[...]
        return bias_act(
            x @ scaled, bias if self.lr_mul == 1 else bias * self.lr_mul, self.activation
        )


def in_bfloat16() -> bool:
    """Whether convolutions take and return bfloat16; all between them stays float32.

    Those with a 1 x 1 kernel, which end in a picture or in planes, return float32.

    So it is where JAX's default precision of matrix products is 'bfloat16'
    (`jax.default_matmul_precision`, or JAX_DEFAULT_MATMUL_PRECISION in the environment), which says
    as much and is a part of what JAX keeps traces by. It halves what convolutions read and write.
    """
    return jax.config.jax_default_matmul_precision == "bfloat16"  # pyright: ignore[reportAttributeAccessIssue]


def modulated_conv(
    x: Array, kernel: Array, style: Array, *, demodulate: bool = True, up: bool = False
) -> Array:
    """Convolve with a kernel whose input channels are scaled by a style (spec eg3d 4).

    Args:
      x: [H, W, I].
      kernel: [k, k, I, O] with k 1 or 3; k is 3 if `up`.
      style: [I] factor of each input channel.
      demodulate: divide each output channel by the norm of its modulated kernel.
      up: double the side: a *true* convolution of the zero-interleaved input, then 1-3-3-1.
        Without it the operation is a correlation.

    Returns:
      [H, W, O], or [2 H, 2 W, O] if `up`.
    """
    operands = x * style, kernel
    if in_bfloat16():
        operands = tuple(operand.astype(jnp.bfloat16) for operand in operands)
    out = (conv2d_up if up else conv2d)(*operands).astype(x.dtype)
    if demodulate:
        power = jnp.sum(jnp.square(kernel), axis=(0, 1))
        out = out * jax.lax.rsqrt(jnp.square(style) @ power + 1e-8)
    return out


class SynthesisLayer(nnx.Module):
    """Style, modulated convolution, noise, bias, leaky ReLU (spec eg3d 4.3)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        w_dim: int,
        side: int,
        up: bool = False,
        clamp: float | None = None,
        rngs: nnx.Rngs,
    ):
        self.up = up
        self.clamp = clamp
        self.affine = Linear(w_dim, in_channels, bias_init=1.0, rngs=rngs)
        self.kernel = nnx.Param(rngs.params.normal((3, 3, in_channels, out_channels)))
        self.bias = nnx.Param(jnp.zeros((out_channels,)))
        self.noise_strength = nnx.Param(jnp.zeros(()))
        self.noise_map = Buffer(rngs.params.normal((side, side)))

    def __call__(
        self,
        x: Array,
        w: Array,
        *,
        noise_mode: NoiseMode = "const",
        key: Array | None = None,
        gain: float = 1.0,
    ) -> Array:
        """[H, W, I] and a latent [D] -> [side, side, O].

        Raises:
          ValueError: if `noise_mode` is 'random' and no key is given.
        """
        y = modulated_conv(x, self.kernel[...], self.affine(w), up=self.up)
        if noise_mode != "none":
            noise = self.noise_map[...]
            if noise_mode == "random":
                if key is None:
                    raise ValueError("noise_mode='random' needs a key; give one or use 'const'")
                noise = jax.random.normal(key, noise.shape)
            y = y + (noise * self.noise_strength[...])[..., None]
        return bias_act(y, self.bias[...], "lrelu", gain=gain, clamp=self.clamp)


class ToRgb(nnx.Module):
    """A 1 x 1 modulated convolution without demodulation (spec eg3d 4.4)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        w_dim: int,
        clamp: float | None = None,
        rngs: nnx.Rngs,
    ):
        self.clamp = clamp
        self.affine = Linear(w_dim, in_channels, bias_init=1.0, rngs=rngs)
        self.kernel = nnx.Param(rngs.params.normal((1, 1, in_channels, out_channels)))
        self.bias = nnx.Param(jnp.zeros((out_channels,)))

    def __call__(self, x: Array, w: Array) -> Array:
        """[H, W, I] and a latent [D] -> [H, W, O]."""
        style = self.affine(w) * (1.0 / math.sqrt(x.shape[-1]))
        y = modulated_conv(x, self.kernel[...], style, demodulate=False)
        return bias_act(y, self.bias[...], clamp=self.clamp)
