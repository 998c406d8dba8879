"""Smoothing removes independent errors from the cameras of a video, and nothing else."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eg3d_jax.cameras import Cameras, yaw_pitch_camera
from inversion.camera_refinement.motion import (
    CameraMotion,
    CameraPrior,
    pose_errors,
    rigid_between,
    transform,
)
from inversion.camera_refinement.smoothing import likely_errors, smooth, smooth_motions

FRAMES = 60
PRIOR = CameraPrior()


def sweep() -> Cameras:
    """A head that turns from side to side and nods."""
    time = np.linspace(0, 1, FRAMES, dtype=np.float32)
    return yaw_pitch_camera(1.2 * np.sin(5 * time), 0.2 * np.sin(7 * time))


def shaken(cameras: Cameras, seed: int, size: float) -> Cameras:
    """The same with errors of `size` deviations, independent from frame to frame."""
    rigid = size * np.random.default_rng(seed).standard_normal((len(cameras), 6))
    motion = CameraMotion(rigid=jnp.asarray(rigid, jnp.float32), focal=jnp.zeros(()))
    return transform(cameras, motion, PRIOR)


def chosen(cameras: Cameras, order: np.ndarray) -> Cameras:
    return Cameras(cam2world=cameras.cam2world[order], intrinsics=cameras.intrinsics[order])


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.floats(0.1, 0.6))
def test_independent_errors_shrink_by_a_quarter_or_more(seed, size):
    true = sweep()
    wrong = shaken(true, seed, size)
    before, after = (pose_errors(cameras, true) for cameras in (wrong, smooth(wrong, PRIOR)))
    for was, became in zip(before, after, strict=True):
        assert np.mean(became) < 0.75 * np.mean(was)


def test_steady_cameras_stay():
    """To what a trend that bends can be mistaken for an error, and rounding."""
    true = sweep()
    turn, shift = pose_errors(smooth(true, PRIOR), true)
    assert np.max(turn) < 0.02
    assert np.max(shift) < 1e-4


def test_a_uniform_motion_stays_with_its_errors_alone():
    """The closed form: residuals of a series whose second differences are nothing but errors."""
    errors = np.random.default_rng(0).standard_normal(300)
    found, deviation = likely_errors(np.diff(errors + 3.0 * np.arange(300), n=2))
    line = np.polyfit(np.arange(300), errors, 1)
    np.testing.assert_allclose(found, errors - np.polyval(line, np.arange(300)), atol=0.3)
    assert deviation == pytest.approx(np.std(errors), rel=0.1)


def test_a_motion_that_changes_freely_has_no_errors():
    """Its changes are independent: nothing points to errors, whose changes are not."""
    change = np.random.default_rng(0).standard_normal(500)
    found, deviation = likely_errors(change)
    assert np.max(np.abs(found)) < 0.3
    assert deviation < 0.3


def test_motions_keep_what_changes_slowly_and_lose_what_does_not():
    slow = np.stack([np.sin(0.05 * np.arange(FRAMES) + axis) for axis in range(6)], axis=-1)
    noise = 0.5 * np.random.default_rng(0).standard_normal((FRAMES, 6))
    left = smooth_motions((slow + noise).astype(np.float32)) - slow
    assert np.sqrt(np.mean(left**2)) < 0.5 * np.sqrt(np.mean(noise**2))
    np.testing.assert_array_equal(smooth_motions(noise[:9]), noise[:9])


def test_photographs_in_any_order_stay():
    order = np.random.default_rng(0).permutation(FRAMES)
    cameras = chosen(shaken(sweep(), 1, 0.3), order)
    np.testing.assert_array_equal(smooth(cameras, PRIOR).cam2world, cameras.cam2world)


def test_a_few_frames_tell_nothing_and_stay():
    cameras = chosen(shaken(sweep(), 2, 0.3), np.arange(9))
    np.testing.assert_array_equal(smooth(cameras, PRIOR).cam2world, cameras.cam2world)


def test_a_head_at_rest_stays():
    still = chosen(sweep(), np.zeros(12, int))
    np.testing.assert_allclose(smooth(still, PRIOR).cam2world, still.cam2world, atol=1e-5)


def test_poses_stay_rigid_and_lenses_as_they_are():
    cameras = shaken(sweep(), 3, 0.5)
    steady = smooth(cameras, PRIOR)
    rotation = steady.cam2world[:, :3, :3]
    unit = np.broadcast_to(np.eye(3), rotation.shape)
    np.testing.assert_allclose(rotation @ rotation.mT, unit, atol=3e-6)
    np.testing.assert_array_equal(steady.intrinsics, cameras.intrinsics)


def test_the_motion_between_cameras_moves_them_there():
    start = sweep()
    end = dataclasses.replace(shaken(start, 4, 1.0), intrinsics=start.intrinsics)
    motion = CameraMotion(rigid=rigid_between(start, end, PRIOR), focal=jnp.zeros(()))
    np.testing.assert_allclose(transform(start, motion, PRIOR).cam2world, end.cam2world, atol=1e-5)
