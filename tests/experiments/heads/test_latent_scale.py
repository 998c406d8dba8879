"""Latents of unit spread: another scale of w, the same pictures."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from drawn_weights import drawn_generator

from eg3d_jax.cameras import yaw_pitch_camera
from experiments.heads.anatomy import Z_DIM
from experiments.heads.latent_scale import with_unit_latents
from experiments.heads.network import embedded_config


def test_latents_are_scaled_and_pictures_stay():
    config = dataclasses.replace(embedded_config(Z_DIM), plane_side=8, channel_base=64, w_dim=16)
    generator = drawn_generator(config, seed=3)
    generator.mapping.layers[-1].kernel[...] *= 6.0  # from a third to two
    scaled = with_unit_latents(generator)
    z = jax.random.normal(jax.random.key(0), (20_000, Z_DIM))
    w, before = scaled.mapping(z), generator.mapping(z)
    deviation = jnp.sqrt(jnp.mean(jnp.var(w, axis=0)))
    # Both samples know it to a per cent or two, as every few of the 16 entries vary together.
    np.testing.assert_allclose(deviation, 1.0, atol=0.03)
    assert jnp.sqrt(jnp.mean(jnp.var(before, axis=0))) > 1.5
    np.testing.assert_allclose(scaled.mapping.w_avg[...], w.mean(0), atol=0.05)

    @jax.jit
    def image(generator):
        return generator.synthesize(generator.map_to_ws(z[0]), yaw_pitch_camera(0.3, 0.0)).image

    np.testing.assert_allclose(image(scaled), image(generator), rtol=1e-4, atol=1e-4)
    # The given one is left alone.
    np.testing.assert_allclose(generator.mapping(z), before, rtol=1e-5, atol=1e-5)
