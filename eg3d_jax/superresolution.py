"""Super-resolution of rendered features, steered by the last latent (spec eg3d 9)."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax import Array

from eg3d_jax.config import GeneratorConfig
from eg3d_jax.resample import resize_bilinear
from eg3d_jax.stylegan2 import SynthesisBlock


class SuperResolution(nnx.Module):
    """The hybrid super-resolution networks 2X, 4X, 8X, 8XDC and any of their shape."""

    def __init__(self, config: GeneratorConfig, *, rngs: nnx.Rngs):
        self.config = config.superresolution
        side, in_channels = self.config.input_side, config.plane_features
        blocks = []
        for out_channels, up in zip(self.config.channels, self.config.upsample, strict=True):
            side = side * 2 if up else side
            blocks.append(
                SynthesisBlock(
                    in_channels,
                    out_channels,
                    3,
                    w_dim=config.w_dim,
                    side=side,
                    up=up,
                    clamp=self.config.clamp,
                    rngs=rngs,
                )
            )
            in_channels = out_channels
        self.blocks = nnx.List(blocks)

    def __call__(self, features: Array, w: Array) -> Array:
        """Features [h, h, C] about [-1, 1] and the last latent [D] -> image [H, H, 3].

        Raises:
          ValueError: if `features` are not square, or larger than this variant can take.
        """
        return self.block_outputs(features, w)[-1][1]

    def block_outputs(self, features: Array, w: Array) -> list[tuple[Array, Array]]:
        """(features, image) after each block."""
        side = self.config.input_side
        if features.ndim != 3 or features.shape[0] != features.shape[1]:
            raise ValueError(
                f"features have shape {features.shape}, want one square view [h, h, C]"
            )
        if features.shape[0] != side:
            if features.shape[0] > side and not self.config.resize_larger:
                raise ValueError(
                    f"rendered at {features.shape[0]} pixels, but this super-resolution takes at "
                    f"most {side}; render at {side} or fewer"
                )
            features = resize_bilinear(features, side, antialias=self.config.antialias)
        x, image, outputs = features, features[..., :3], []
        ws = jnp.broadcast_to(w, (3, *w.shape))
        for block in self.blocks:
            x, image = block(x, image, ws, noise_mode=self.config.noise)
            outputs.append((x, image))
        return outputs
