"""A walk passes its keys, closes, and has no corners."""

import numpy as np
import pytest

from experiments.media.camera_paths import closed_walk

KEYS = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)


def test_it_passes_every_key_at_even_times():
    np.testing.assert_allclose(closed_walk(KEYS, 40)[::10], KEYS, atol=1e-6)


@pytest.mark.parametrize("num_keys", [1, 2, 3, 4])
def test_it_closes_without_a_jump_or_a_corner(num_keys):
    walk = closed_walk(KEYS[:num_keys], 400 * num_keys)
    loop = np.concatenate([walk, walk[:2]])
    step = np.abs(np.diff(loop, axis=0))
    bend = np.abs(np.diff(loop, n=2, axis=0))
    assert step.max() < 0.02  # the largest slope is about 4 a key, over 400 frames
    assert bend.max() < 2e-4  # with a corner it would be of the size of a step


def test_two_keys_are_walked_there_and_back_on_a_line():
    walk = closed_walk(KEYS[:2], 20)
    share = (walk - KEYS[0]) / (KEYS[1] - KEYS[0])
    np.testing.assert_allclose(share, share[:, :1, :1] + np.zeros_like(share), atol=1e-4)
    np.testing.assert_allclose(walk[1:10], walk[:10:-1], atol=1e-5)
    u = np.arange(11) / 10
    np.testing.assert_allclose(share[:11, 0, 0], u**2 * (3 - 2 * u), atol=1e-5)


def test_it_moves_with_its_keys():
    np.testing.assert_allclose(
        closed_walk(2 * KEYS + 1, 12), 2 * closed_walk(KEYS, 12) + 1, atol=1e-5
    )
