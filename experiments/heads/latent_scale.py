"""Rescale the latents of a trained generator to unit deviation, without changing its pictures."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from eg3d_jax.generator import TriPlaneGenerator
from eg3d_jax.layers import Linear


def with_unit_latents(generator: TriPlaneGenerator) -> TriPlaneGenerator:
    """Rescale w to a root mean square deviation of 1 an entry, and measure its mean.

    The picture of a z does not change: the mapping's last layer, whose activation is homogeneous,
    is divided by the factor by which all layers that read w are multiplied. Steps and prior of an
    inversion are in units of w, so that one schedule fits generators of any scale.
    """
    generator = jax.tree.map(jnp.copy, generator)
    mapping = generator.mapping
    size = (10_000, generator.config.z_dim)
    z = jnp.asarray(np.random.default_rng(1).standard_normal(size), jnp.float32)
    w = jax.jit(lambda mapping, z: mapping(z))(mapping, z)
    mean = jnp.mean(w, axis=0)
    deviation = jnp.sqrt(jnp.mean(jnp.square(w - mean)))
    mapping.w_avg[...] = mean / deviation
    for variable in (mapping.layers[-1].kernel, mapping.layers[-1].bias):
        variable[...] /= deviation
    for path, module in nnx.iter_modules(generator):
        if isinstance(module, Linear) and path[-1] == "affine":
            module.kernel[...] *= deviation
    return generator
