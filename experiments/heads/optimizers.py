"""Optimizers of the embedded generator: Adam and Muon."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from optax import contrib

from eg3d_jax.stylegan2 import MAPPING_LR_MUL

Optimizer = Literal["adam", "muon"]


def make_optimizer(trained: nnx.State, name: Optimizer) -> optax.GradientTransformation:
    """Make Adam or Muon with smaller steps for the super-resolution, none for the mean latent.

    The super-resolution sees a picture or two a step; with the others' rate it tints all pictures
    towards the last. The mapping stores its kernels a hundred times larger than it applies them, so
    that a step changes them a hundred times less: right for StyleGAN's adversarial training, but
    here nearly all of a head's error is the mapping's (a fitted w shows it by 4 to 8 dB better than
    the w of its z). So its steps are a hundred times larger.
    """

    def factor(path, _) -> float:
        names = [getattr(entry, "key", None) for entry in path]
        if "w_avg" in names:
            return 0.0
        if "mapping" in names:
            return 1 / MAPPING_LR_MUL
        return 0.3 if "superresolution" in names else 1.0

    factors = jax.tree_util.tree_map_with_path(factor, trained)
    scale = optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, factors))
    if name == "adam":
        return optax.chain(optax.scale_by_adam(b1=0.9, b2=0.99), scale)
    matrices = jax.tree_util.tree_map_with_path(_as_matrix, trained)
    muon = contrib.muon(
        -1.0,  # the step's rate and sign are applied later
        consistent_rms=0.2,  # steps as large as Adam's
        adam_b1=0.9,
        adam_b2=0.99,
        muon_weight_dimension_numbers=lambda _: matrices,
    )
    return optax.chain(muon, scale)


def _as_matrix(path, value) -> contrib.MuonDimensionNumbers | None:
    """Shape of a kernel as a matrix for Muon, inputs by outputs; None leaves it to Adam."""
    if getattr(path[-2], "key", None) != "kernel":
        return None
    *inputs, output = range(value.ndim)
    return contrib.MuonDimensionNumbers(reduction_axis=tuple(inputs), output_axis=output)
