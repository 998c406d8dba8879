"""Which camera, how many pixels and which of them the depth term looks at."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from eg3d_jax.cameras import azimuth, yaw_pitch_camera
from inversion.config import InversionConfig
from inversion.regularizers import agree_in_depth

CAMERAS = yaw_pitch_camera(jnp.array([0.8, 0.0, -0.8]), 0.0)
CONFIG = InversionConfig(depth_side=2)
DEPTHS = np.float32([[[1, 2], [0, 5]], [[3, 2], [0, 9]]])  # of two latents
OPACITIES = np.float32([[[1, 1], [1, 0.25]], [[0.5, 1], [0.25, 1]]])
# Squared distances from the means are 1, 0, 0 and 4, and the least opacities 1/2, 1, 1/4, 1/4.
SPREAD = (0.5 * 1 + 0.25 * 4) / (0.5 + 1 + 0.25 + 0.25)


class Relief:
    """Planes are depths and opacities; depths are stretched by the camera's azimuth."""

    def __init__(self):
        self.sides = []

    def random_draws(self, key, side):
        self.sides.append(side)

    def render(self, planes, camera, *, side, draws, rays_at_once):
        self.sides.append(side)
        depth, opacity = planes
        return SimpleNamespace(depth=depth * azimuth(camera), opacity=opacity)


def term(generator, key):
    planes = jnp.asarray(DEPTHS), jnp.asarray(OPACITIES)
    return agree_in_depth(generator, planes, CAMERAS, CONFIG, key)["depth"]


def test_depth_counts_by_the_least_opacity_from_any_of_the_cameras():
    keys = jax.random.split(jax.random.key(0), 20)
    found = np.asarray(jax.jit(jax.vmap(partial(term, Relief())))(keys)) / SPREAD
    expected = np.square(np.asarray(azimuth(CAMERAS)))
    seen_from = np.argmin(np.abs(found[:, None] - expected), axis=1)
    np.testing.assert_allclose(found, expected[seen_from], rtol=1e-5)  # float32, a few roundings
    assert set(seen_from.tolist()) == {0, 1, 2}


def test_depth_is_rendered_with_as_many_pixels_as_asked_for():
    generator = Relief()
    jax.eval_shape(partial(term, generator), jax.random.key(0))
    assert generator.sides == [2, 2]  # of the ray samples and the picture
