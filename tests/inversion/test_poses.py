"""Cameras find back to where dots in space were seen from."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dot_scene import CAMERAS, PRIOR, Dots, Plain, random_motion, seen_from
from hypothesis import given, settings
from hypothesis import strategies as st

from eg3d_jax.cameras import azimuth
from inversion.camera_refinement.joint import (
    RefinementConfig,
    advance_joint,
    advance_latent,
    start_joint,
    start_latent,
)
from inversion.camera_refinement.motion import CameraMotion, no_motion, pose_errors, transform
from inversion.config import StageConfig
from inversion.fitting.adam import start_state
from inversion.latents import WStatistics

STEPS = 80
CONFIG = RefinementConfig(
    joint=StageConfig(num_steps=STEPS, learning_rate=0.1, ramp_down=0.7),
    camera_prior=1e-5,
    latent_prior=0.0,
    views_per_step=None,
)


def test_at_rest_nothing_moves():
    out = transform(CAMERAS, no_motion(5), PRIOR)
    np.testing.assert_allclose(out.cam2world, CAMERAS.cam2world, atol=1e-6)
    np.testing.assert_array_equal(out.intrinsics, CAMERAS.intrinsics)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), focal=st.floats(-2, 2))
def test_motions_are_rigid_and_of_the_deviations_given(seed, focal):
    motion = random_motion(seed, focal=focal)
    out = transform(CAMERAS, motion, PRIOR)
    rotation = out.cam2world[:, :3, :3]
    np.testing.assert_allclose(
        rotation @ rotation.mT, np.broadcast_to(np.eye(3), (5, 3, 3)), atol=3e-6
    )
    np.testing.assert_array_equal(out.cam2world[:, 3], CAMERAS.cam2world[:, 3])
    turn, shift = pose_errors(out, CAMERAS)
    units = np.linalg.norm(np.asarray(motion.rigid).reshape(5, 2, 3), axis=-1)
    # The shift of a screw motion differs from its tangent's by a factor of 1 - turn^2 / 24 at most.
    np.testing.assert_allclose(turn, np.degrees(PRIOR.rotation) * units[:, 1], atol=5e-4)
    np.testing.assert_allclose(shift, PRIOR.translation * units[:, 0], rtol=1e-3, atol=1e-6)
    factor = np.exp(PRIOR.focal * focal)
    np.testing.assert_allclose(out.intrinsics[:, 0, 0], CAMERAS.intrinsics[:, 0, 0] * factor, 1e-5)
    np.testing.assert_array_equal(out.intrinsics[:, :2, 2], CAMERAS.intrinsics[:, :2, 2])


def test_a_turn_about_the_vertical_changes_the_azimuth_alone():
    turn = jnp.zeros((5, 6)).at[:, 4].set(1.0)
    out = transform(CAMERAS, CameraMotion(rigid=turn, focal=jnp.zeros(())), PRIOR)
    # About y a positive turn carries +z to +x: azimuths, from x to z, fall.
    np.testing.assert_allclose(azimuth(out), azimuth(CAMERAS) - PRIOR.rotation, atol=1e-6)
    np.testing.assert_allclose(out.position[:, 1], CAMERAS.position[:, 1], atol=1e-6)


def test_what_all_cameras_share_moves_each_of_them():
    prior = dataclasses.replace(PRIOR, shared=4.0)
    own, shared = random_motion(1), random_motion(2, count=1).rigid[0]
    both = transform(CAMERAS, dataclasses.replace(own, shared=shared), prior)
    summed = dataclasses.replace(own, rigid=own.rigid + 4.0 * shared)
    np.testing.assert_allclose(
        both.cam2world, transform(CAMERAS, summed, PRIOR).cam2world, atol=1e-6
    )


def test_a_turn_of_the_whole_head_is_found_though_each_camera_is_nearly_certain():
    """By what is shared; without it, the same steps leave most of the turn."""
    ws, left = jnp.zeros((2, 3)), {}
    turned = CameraMotion(rigid=jnp.zeros(6).at[4].set(1.5) * jnp.ones((5, 1)), focal=jnp.zeros(()))
    wrong = transform(CAMERAS, turned, PRIOR)
    targets = seen_from(CAMERAS, wrong, ws)
    statistics = WStatistics(mean=jnp.zeros(3), std=jnp.ones(()))
    for shared in (0.0, 4.0):
        prior = dataclasses.replace(PRIOR, rotation=PRIOR.rotation / 10, shared=10 * shared)
        config = dataclasses.replace(CONFIG, prior=prior, camera_prior=1e-4)
        state = start_joint(statistics, 2, 5, jax.random.key(0))
        state, _ = advance_joint(
            state, Dots(), Plain(), targets, statistics, config=config, num_steps=STEPS
        )
        found = transform(wrong, state.variables[1], prior)
        left[shared] = float(np.median(pose_errors(found, CAMERAS)[0]))
    assert left[0.0] > 1.0
    assert left[4.0] < 0.5 * left[0.0]


def test_latent_cameras_and_focal_length_are_found_together():
    ws = jnp.full((2, 3), 1.0)
    true = transform(CAMERAS, no_motion(5), PRIOR)
    wrong = transform(true, random_motion(3, focal=1.0), PRIOR)
    targets = seen_from(true, wrong, ws)
    statistics = WStatistics(mean=jnp.zeros(3), std=jnp.ones(()))
    state = start_joint(statistics, 2, 5, jax.random.key(0))
    advance = partial(advance_joint, config=CONFIG, num_steps=STEPS)
    state, terms = advance(state, Dots(), Plain(), targets, statistics)
    found_ws, motion = state.variables
    found = transform(wrong, motion, PRIOR)
    turned, _ = pose_errors(wrong, true)
    turned_after, _ = pose_errors(found, true)
    assert np.median(turned_after) < np.median(turned) / 2
    assert terms["pixel"][-1] < terms["pixel"][0] / 20
    # A wider head seen through a shorter lens looks alike: their product is what is found.
    size = (1 + 0.1 * found_ws[0, 0]) * found.intrinsics[0, 0, 0] / true.intrinsics[0, 0, 0]
    assert size == pytest.approx(1.1, abs=0.02)


def test_a_latent_is_fitted_where_cameras_are_known():
    config = dataclasses.replace(
        CONFIG, latent=StageConfig(num_steps=200, learning_rate=0.05, ramp_down=0.9)
    )
    targets = seen_from(CAMERAS, CAMERAS, jnp.full((2, 3), 1.0))
    statistics = WStatistics(mean=jnp.zeros(3), std=jnp.ones(()))
    state = start_latent(jnp.zeros((2, 3)), jax.random.key(0))
    state, terms = advance_latent(
        state, Dots(), Plain(), targets, statistics, config=config, num_steps=200
    )
    assert state.variables[0, 0] == pytest.approx(1.0, abs=0.01)
    assert terms["pixel"][-1] < terms["pixel"][0] / 1000


def joint_step(motion):
    """One step on two of five views, from a motion of their cameras."""
    config = RefinementConfig(
        joint=StageConfig(num_steps=1, learning_rate=0.1),
        camera_prior=0.0, views_per_step=2, views_at_once=1,
    )  # fmt: skip
    ws = jnp.zeros((2, 3))
    targets = seen_from(CAMERAS, transform(CAMERAS, random_motion(4), PRIOR), ws)
    statistics = WStatistics(mean=jnp.zeros(3), std=jnp.ones(()))
    state = start_state((ws, motion), jax.random.key(0))
    return advance_joint(state, Dots(), Plain(), targets, statistics, config=config, num_steps=1)


def test_drawn_views_move_and_the_others_stay_for_a_step():
    state, _ = joint_step(no_motion(5))
    rigid = np.asarray(state.variables[1].rigid)
    assert np.sum(np.any(rigid != 0, axis=1)) == 2


def test_the_camera_prior_counts_motions_and_focal_length():
    motion = random_motion(5, focal=2.0)
    expected = np.mean(np.sum(np.square(motion.rigid), axis=-1)) + 2.0**2
    _, terms = joint_step(motion)
    assert float(terms["camera_prior"][0]) == pytest.approx(expected, rel=1e-6)


def test_errors_of_equal_cameras_are_zero():
    turn, shift = pose_errors(CAMERAS, CAMERAS)
    np.testing.assert_allclose(turn, 0.0, atol=0.05)  # as a cosine of 1 - 1e-7 would give
    np.testing.assert_allclose(shift, 0.0, atol=1e-6)
