"""StyleGAN2: the mapping network and the synthesis network that makes the feature planes.

Source: spec eg3d sections 3 and 5. One example per call; callers `vmap`.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from eg3d_jax.config import GeneratorConfig
from eg3d_jax.layers import (
    Buffer,
    Linear,
    NoiseMode,
    SynthesisLayer,
    ToRgb,
    normalize_2nd_moment,
)
from eg3d_jax.resample import upsample2d

MAPPING_LR_MUL = 0.01  # of the mapping's layers: kernels are kept a hundred times as large


class MappingNetwork(nnx.Module):
    """z and a conditioning label to the style latent w (spec eg3d 3)."""

    def __init__(self, config: GeneratorConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.embed = Linear(config.c_dim, config.w_dim, rngs=rngs) if config.c_dim else None
        features = config.z_dim + (config.w_dim if config.c_dim else 0)
        sizes = [features] + [config.w_dim] * config.mapping_layers
        self.layers = nnx.List(
            Linear(i, o, activation="lrelu", lr_mul=MAPPING_LR_MUL, rngs=rngs)
            for i, o in zip(sizes[:-1], sizes[1:], strict=True)
        )
        self.w_avg = Buffer(jnp.zeros((config.w_dim,)))

    def __call__(self, z: Array, label: Array | None = None) -> Array:
        """z [..., z_dim] and label [..., c_dim] -> w [..., D], not truncated.

        Raises:
          ValueError: if the mapping is conditional and no label is given.
        """
        x = normalize_2nd_moment(z)
        if self.embed is not None:
            if label is None:
                raise ValueError(f"this mapping needs a label [..., {self.config.c_dim}]")
            label = label * (0.0 if self.config.c_zero else self.config.c_scale)
            embedded = normalize_2nd_moment(self.embed(label))
            embedded = jnp.broadcast_to(embedded, (*x.shape[:-1], embedded.shape[-1]))
            x = jnp.concatenate([x, embedded], axis=-1)
        for layer in self.layers:
            x = layer(x)
        return x

    def truncate(self, ws: Array, truncation: float | Array, cutoff: int | None = None) -> Array:
        """Pull the first `cutoff` (all, if None) of ws [L, D] towards the mean latent."""
        w_avg = self.w_avg[...]
        pulled = w_avg + truncation * (ws - w_avg)
        if cutoff is None:
            return pulled
        return jnp.where(jnp.arange(ws.shape[0])[:, None] < cutoff, pulled, ws)


class SynthesisBlock(nnx.Module):
    """One resolution: one or two convolutions and a to-RGB layer in the skip architecture."""

    def __init__(
        self,
        in_channels: int | None,
        out_channels: int,
        image_channels: int,
        *,
        w_dim: int,
        side: int,
        up: bool,
        clamp: float | None,
        rngs: nnx.Rngs,
    ):
        self.up = up
        layer = partial(SynthesisLayer, w_dim=w_dim, side=side, clamp=clamp, rngs=rngs)
        # The first block takes the learned constant, which needs no convolution before its own.
        self.conv0 = None if in_channels is None else layer(in_channels, out_channels, up=up)
        self.conv1 = layer(out_channels, out_channels)
        self.to_rgb = ToRgb(out_channels, image_channels, w_dim=w_dim, clamp=clamp, rngs=rngs)

    def __call__(
        self,
        x: Array,
        image: Array | None,
        ws: Array,
        *,
        noise_mode: NoiseMode = "const",
        key: Array | None = None,
    ) -> tuple[Array, Array]:
        """Features [h, w, I], image [h, w, J] and latents [3, D] ([2, D] if first) -> the same."""
        keys = (None, None) if key is None else jax.random.split(key)
        if self.conv0 is not None:
            x = self.conv0(x, ws[0], noise_mode=noise_mode, key=keys[0])
        x = self.conv1(x, ws[-2], noise_mode=noise_mode, key=keys[1])
        colour = self.to_rgb(x, ws[-1])
        if image is None:
            return x, colour
        return x, (upsample2d(image) if self.up else image) + colour


class Backbone(nnx.Module):
    """Style latents to feature planes (spec eg3d 5)."""

    def __init__(self, config: GeneratorConfig, *, rngs: nnx.Rngs):
        sides = config.block_sides
        channels = [config.channels(side) for side in sides]
        self.const = nnx.Param(rngs.params.normal((4, 4, channels[0])))
        self.blocks = nnx.List(
            SynthesisBlock(
                channels[i - 1] if i else None,
                channels[i],
                config.num_planes * config.plane_features,
                w_dim=config.w_dim,
                side=side,
                up=i > 0,
                clamp=config.conv_clamp,
                rngs=rngs,
            )
            for i, side in enumerate(sides)
        )

    def __call__(
        self, ws: Array, *, noise_mode: NoiseMode = "const", key: Array | None = None
    ) -> Array:
        """ws [L, D] -> the planes side by side in the channels, [P, P, num_planes * C]."""
        return self.features(ws, noise_mode=noise_mode, key=key)[-1][1]

    def features(
        self, ws: Array, *, noise_mode: NoiseMode = "const", key: Array | None = None
    ) -> list[tuple[Array, Array]]:
        """(features, image) after every block, coarse to fine."""
        x, image, outputs = self.const[...], None, []
        for i, block in enumerate(self.blocks):
            # A block's to-RGB layer shares its latent with the next block's first convolution.
            used = ws[0:2] if i == 0 else ws[2 * i - 1 : 2 * i + 2]
            block_key = None if key is None else jax.random.fold_in(key, i)
            x, image = block(x, image, used, noise_mode=noise_mode, key=block_key)
            outputs.append((x, image))
        return outputs
