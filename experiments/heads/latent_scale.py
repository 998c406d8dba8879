"""The same generator with latents of unit spread, whatever training made of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from eg3d_jax.generator import TriPlaneGenerator
from eg3d_jax.layers import Linear


def with_unit_latents(generator: TriPlaneGenerator) -> TriPlaneGenerator:
    """The generator with w of root mean square deviation 1 an entry, its mean latent measured.

    Every picture of a z stays what it is: the mapping's last layer, whose activation passes factors
    on, is divided by what all that reads w is multiplied with. Steps and prior of an inversion
    count in units of w, so that the same schedule fits whatever scale training ended at.
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
