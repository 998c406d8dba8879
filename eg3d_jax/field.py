"""Field of a set of feature planes: points to colour features and density (spec eg3d 7)."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
from flax import nnx
from jax import Array

from eg3d_jax.compositing import softplus
from eg3d_jax.config import Axes, GeneratorConfig
from eg3d_jax.layers import Linear
from eg3d_jax.tri_planes import project, sample_planes


class Decoder(nnx.Module):
    """Plane features at a point to colour features and density (spec eg3d 7.4)."""

    def __init__(self, config: GeneratorConfig, *, rngs: nnx.Rngs):
        hidden, features, lr_mul = (
            config.decoder_hidden,
            config.plane_features,
            config.decoder_lr_mul,
        )
        self.hidden = Linear(features, hidden, lr_mul=lr_mul, rngs=rngs)
        self.output = Linear(hidden, 1 + features, lr_mul=lr_mul, rngs=rngs)

    @jax.named_scope("decoder")
    def __call__(self, features: Array) -> tuple[Array, Array]:
        """[..., C] -> colour features [..., C] in [-0.001, 1.001] and raw density [...]."""
        out = self.output(softplus(self.hidden(features)))
        colour = jax.nn.sigmoid(out[..., 1:]) * (1 + 2 * 0.001) - 0.001
        return colour, out[..., 0]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TriPlaneField:
    """Field as a function of points, and a pytree: pass it through plain `jax.jit`.

    Attributes:
      decoder: from plane features.
      bordered: planes from `with_border`.
      axes: one matrix a plane.
      box_warp: side of the box, world units.
    """

    decoder: Decoder
    bordered: Array
    axes: tuple[Axes, ...] = field(metadata={"static": True})
    box_warp: float = field(metadata={"static": True})

    def __call__(self, points: Array) -> tuple[Array, Array]:
        """[M, 3] world units -> colour features [M, C] and raw density [M]."""
        coordinates = project(points, self.axes, box_warp=self.box_warp)
        return self.decoder(sample_planes(self.bordered, coordinates))
