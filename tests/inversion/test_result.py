"""Pictures of an inversion."""

import jax
import jax.numpy as jnp
from flax import nnx

from eg3d_jax.cameras import yaw_pitch_camera
from eg3d_jax.config import tiny
from eg3d_jax.generator import TriPlaneGenerator
from inversion import result
from inversion.fitting.steps import start_tuning, tuned_generator
from inversion.latents import repeat_latents


def test_a_loaded_and_a_tuned_generator_share_one_program():
    """A tuned one's arrays are bound to a device, for which JAX would compile anew."""
    config = tiny()
    generator = TriPlaneGenerator(config, rngs=nnx.Rngs(0))
    latents = repeat_latents(jnp.zeros((config.num_ws, config.w_dim)), jnp.zeros(1))
    cameras = yaw_pitch_camera(jnp.array([-0.3, 0.3]), 0.0)
    state = jax.device_put(start_tuning(generator, jax.random.key(0)), jax.devices()[0])
    before = result._render_path._cache_size()
    result.render_views(generator, latents, cameras)
    result.render_views(tuned_generator(generator, state), latents, cameras)
    assert result._render_path._cache_size() == before + 1
