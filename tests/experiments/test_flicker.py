"""Flicker is 0 for even change and 1 for noise."""

import math

import numpy as np
import pytest

from eg3d_jax.cameras import azimuth
from experiments.flicker import STEP_DEGREES, flicker, slow_swing


def test_even_change_and_no_change_do_not_flicker():
    rng = np.random.default_rng(0)
    start, change = rng.normal(size=(2, 1, 8, 8))
    assert flicker(start + np.arange(5)[:, None, None] * change) == pytest.approx(0, abs=1e-12)
    assert flicker(np.zeros((4, 8, 8))) == 0


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
