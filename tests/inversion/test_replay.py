import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_weights import drawn_generator

from eg3d_jax.cameras import azimuth, yaw_pitch_camera
from eg3d_jax.config import tiny
from inversion.latents import Latents, latents_at
from inversion.result import render_path


@pytest.fixture(scope="module")
def generator():
    return drawn_generator(tiny())


@pytest.fixture(scope="module")
def latents(generator):
    cameras = yaw_pitch_camera(np.float32([0.8, 0.1, -0.9]), 0.0)
    z = jax.random.normal(jax.random.key(3), (3, generator.config.z_dim))
    return Latents(w_plus=jax.vmap(generator.map_to_ws)(z), azimuth=azimuth(cameras))


def test_every_view_has_the_latent_of_its_azimuth(generator, latents):
    cameras = yaw_pitch_camera(np.float32([1.2, 0.4, 0.1, -0.5]), 0.1)
    out = jax.jit(lambda g, x: render_path(g, x, cameras, views_at_once=2))(generator, latents)
    for i in range(4):
        ws = latents_at(latents, azimuth(cameras[i]))
        alone = jax.jit(lambda g, ws, c: g.synthesize(ws, c))(generator, ws, cameras[i])
        # Differently fused float32, on values of about one.
        np.testing.assert_allclose(out.image[i], alone.image, atol=1e-5)
        np.testing.assert_allclose(out.depth[i], alone.depth, atol=1e-5)


def test_equal_latents_show_what_a_single_one_does(generator, latents):
    cameras = yaw_pitch_camera(np.float32([0.5, -0.3]), 0.0)
    first = jnp.broadcast_to(latents.w_plus[:1], latents.w_plus.shape)
    same = dataclasses.replace(latents, w_plus=first)
    one = Latents(w_plus=latents.w_plus[:1], azimuth=latents.azimuth[:1])
    render = jax.jit(lambda g, x: render_path(g, x, cameras))
    np.testing.assert_allclose(
        render(generator, same).image, render(generator, one).image, atol=1e-5
    )
