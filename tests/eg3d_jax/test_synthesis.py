"""What holds for a whole generator by itself, whatever PyTorch's does."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eg3d_jax.cameras import orbit
from eg3d_jax.rendering import RenderedRays


@pytest.fixture(scope="module")
def tiny_ws(tiny_generator):
    config = tiny_generator.config
    return jax.random.normal(jax.random.key(0), (config.num_ws, config.w_dim))


CAMERAS = orbit(np.linspace(1.3, 1.8, 4), np.linspace(1.4, 1.7, 4))
synthesize = jax.jit(lambda g, ws, camera: g.synthesize(ws, camera))


def test_synthesis_is_its_stages_one_after_the_other(tiny_generator, tiny_ws):
    def staged(g, ws, camera):
        return g.superresolve(g.render(g.tri_planes(ws), camera), ws)

    wanted = jax.jit(staged)(tiny_generator, tiny_ws, CAMERAS[0])
    chex.assert_trees_all_close(synthesize(tiny_generator, tiny_ws, CAMERAS[0]), wanted, atol=1e-5)


def test_synthesis_without_draws_is_deterministic(tiny_generator, tiny_ws):
    first, again = (synthesize(tiny_generator, tiny_ws, CAMERAS[0]) for _ in range(2))
    chex.assert_trees_all_equal(first, again)


def test_synthesis_paints_with_the_noise_asked_for(tiny_generator, tiny_ws):
    """The planes alone have noise to draw, and refuse to without a key."""

    def trace(key):
        jax.eval_shape(
            lambda ws: tiny_generator.synthesize(ws, CAMERAS[0], noise_mode="random", key=key),
            tiny_ws,
        )

    with pytest.raises(ValueError, match="noise_mode='random' needs a key"):
        trace(None)
    trace(jax.random.key(0))


def test_many_views_equal_single_ones(tiny_generator, tiny_ws):
    """In particular a view's depth limits are its own, whatever is rendered with it."""
    many = jax.jit(lambda g, ws, c: g.synthesize_views(ws, c, views_at_once=2))(
        tiny_generator, tiny_ws, CAMERAS
    )
    for i in range(len(CAMERAS)):
        single = synthesize(tiny_generator, tiny_ws, CAMERAS[i])
        chex.assert_trees_all_close(jax.tree.map(lambda x, i=i: x[i], many), single, atol=1e-4)


def test_the_side_is_an_argument_and_leaves_the_generator_alone(tiny_generator, tiny_ws):
    """PyTorch's generator remembers the last neural rendering resolution it was given."""

    def shapes(side):
        def synthesize(ws):
            return tiny_generator.synthesize(ws, CAMERAS[0], side=side)

        out = jax.eval_shape(synthesize, tiny_ws)
        return out.raw.shape, out.depth.shape, out.image.shape

    assert shapes(4) == ((4, 4, 3), (4, 4), (16, 16, 3))
    assert shapes(None) == ((8, 8, 3), (8, 8), (16, 16, 3))


def test_the_last_latent_alone_steers_superresolution(tiny_generator, tiny_ws):
    config = tiny_generator.config
    features = jax.random.normal(jax.random.key(1), (8, 8, config.plane_features))
    rendered = RenderedRays(features=features, depth=jnp.ones((8, 8)), opacity=jnp.ones((8, 8)))
    run = jax.jit(lambda ws: tiny_generator.superresolve(rendered, ws).image)
    first = run(tiny_ws)
    np.testing.assert_array_equal(run(tiny_ws.at[:-1].set(0.0)), first)
    assert np.abs(run(tiny_ws.at[-1].set(0.0)) - first).max() > 1e-3


def test_turning_the_camera_a_full_circle_changes_nothing(tiny_generator, tiny_ws):
    once, turned = (orbit(h, 1.5) for h in (1.2, 1.2 + 2 * math.pi))
    a, b = (synthesize(tiny_generator, tiny_ws, camera) for camera in (once, turned))
    chex.assert_trees_all_close(a, b, atol=1e-3)
