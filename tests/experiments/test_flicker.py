"""Flicker is 0 for even change and 1 for noise."""

import math

import jax
import numpy as np
import pytest

from eg3d_jax.cameras import Cameras, azimuth
from eg3d_jax.generator import TriPlaneGenerator, with_finer_rays
from experiments.render import STEP_DEGREES, flicker, measure_flicker, slow_swing
from experiments.subjects import EMBEDDED, load_generator
from inversion.latents import repeat_latents
from inversion.result import render_views

pytestmark = pytest.mark.compiled_in_full


def test_even_change_and_no_change_do_not_flicker():
    rng = np.random.default_rng(0)
    start, change = rng.normal(size=(2, 1, 8, 8))
    assert flicker(start + np.arange(5)[:, None, None] * change) == pytest.approx(0, abs=1e-12)
    assert flicker(np.zeros((4, 8, 8))) == 0
    assert flicker(np.zeros((4, 0))) == 0  # depth, where nothing is solid


def test_independent_noise_is_1():
    noise = np.random.default_rng(0).normal(size=(6, 200, 200))
    assert flicker(noise) == pytest.approx(1, abs=0.01)  # 200,000 draws: 0.3 % of deviation


def test_jumping_back_and_forth_is_the_most():
    frames = np.array([0.0, 1.0])[np.arange(7) % 2][:, None]
    assert flicker(frames) == pytest.approx(2 / math.sqrt(3))


def test_two_frames_cannot_tell():
    with pytest.raises(ValueError, match="3 frames"):
        flicker(np.zeros((2, 4)))


def test_the_slow_path_is_even_and_frontal():
    yaw = 90 - np.degrees(np.asarray(azimuth(slow_swing(2.7, 4.2))))
    np.testing.assert_allclose(np.diff(yaw), STEP_DEGREES, atol=1e-4)
    assert abs(yaw.mean()) < 1e-4


@pytest.fixture(scope="module")
def head():
    generator = load_generator(EMBEDDED)
    z = np.random.RandomState(0).randn(generator.config.z_dim).astype(np.float32)
    return generator, repeat_latents(generator.map_to_ws(z, truncation=0.7), np.zeros(1))


@pytest.fixture(scope="module")
def drawn(head):
    """[T, H, W, 3] on the slow path, the samples jittered anew, as in the originals' films."""
    generator, latents = head

    @jax.jit
    def view(ws, key, camera):
        return generator.synthesize(ws, camera, draws=generator.random_draws(key)).image

    cameras = path(generator)
    keys = jax.random.split(jax.random.key(0), len(cameras))
    return np.stack([view(latents.w_plus[0], key, cameras[i]) for i, key in enumerate(keys)])


def path(generator: TriPlaneGenerator) -> Cameras:
    return slow_swing(generator.config.camera_radius, generator.config.focal)


@pytest.mark.slow
def test_films_are_steady_by_default_and_noise_with_drawn_samples(head, drawn):
    """The bounds: what ray-traced heads show with 4 x 4 rays a pixel, .24 and .39; noise, 1."""
    generator, latents = head
    ours = measure_flicker(generator, latents)
    assert all(ours[name] < 0.39 for name in ("image", "raw", "depth"))
    assert flicker(drawn) > 0.9


@pytest.mark.slow
def test_finer_rays_are_steadier_and_nearer_than_drawn_samples(head, drawn):
    generator, latents = head
    finer = with_finer_rays(generator, 3)
    assert finer.config.render.coarse_samples == 3 * generator.config.render.coarse_samples
    one, three = measure_flicker(generator, latents), measure_flicker(finer, latents)
    assert all(three[name] < 0.6 * one[name] for name in ("image", "depth"))
    ours, limit = (render_views(g, latents, path(g)).image for g in (generator, finer))
    assert np.abs(ours - limit).mean() < np.abs(drawn - limit).mean()
