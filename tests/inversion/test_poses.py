"""Cameras find back to where dots in space were seen from."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from eg3d_jax.cameras import azimuth, yaw_pitch_camera
from inversion.camera_motion import CameraMotion, CameraSpread, moved, pose_errors, still
from inversion.config import StageConfig
from inversion.latents import WStatistics
from inversion.poses import (
    PoseConfig,
    advance_each,
    advance_joint,
    pose_targets,
    start_each,
    start_joint,
)
from inversion.views import Views

SIDE, STEPS = 24, 80
SPREAD = CameraSpread()
CONFIG = PoseConfig(
    joint=StageConfig(num_steps=STEPS, learning_rate=0.1, ramp_down=0.7),
    each=StageConfig(num_steps=STEPS, learning_rate=0.1, ramp_down=0.7),
    camera_prior=1e-5,
    each_prior=1e-5,
    latent_prior=0.0,
)
CAMERAS = yaw_pitch_camera(jnp.linspace(-0.8, 0.8, 5), jnp.array([0.1, -0.1, 0.0, 0.2, -0.2]))


class Dots(nnx.Module):
    """Coloured dots; the first number of the latent says how far they are apart."""

    def __init__(self):
        self.config = SimpleNamespace(num_ws=2, neural_side=SIDE)

    def random_draws(self, key, side=None):
        return key

    def tri_planes(self, ws):
        rng = np.random.default_rng(0)
        return jnp.asarray(rng.uniform(-0.25, 0.25, (8, 3))) * (1.0 + 0.1 * ws[0, 0])

    def render(self, planes, camera, *, side, draws):
        rotation, position = camera.cam2world[:3, :3], camera.cam2world[:3, 3]
        seen = (planes - position) @ rotation @ camera.intrinsics.T
        where = seen[:, :2] / seen[:, 2:]
        pixels = (jnp.arange(side) + 0.5) / side
        x = jnp.exp(-((pixels - where[:, :1]) ** 2) / 0.005)
        y = jnp.exp(-((pixels - where[:, 1:]) ** 2) / 0.005)
        colours = jnp.asarray(np.random.default_rng(1).uniform(size=(8, 3)))
        return SimpleNamespace(features=jnp.einsum("ny,nx,nc->yxc", y, x, colours))


class Plain(nnx.Module):
    """Features are the pixels."""

    def features(self, image):
        return image.ravel() / image.size**0.5


def random_motion(seed, count=5, focal=0.0):
    rigid = np.random.default_rng(seed).uniform(-1, 1, (count, 6))
    return CameraMotion(rigid=jnp.asarray(rigid, jnp.float32), focal=jnp.asarray(focal))


def seen_from(cameras, wrong, ws, config=CONFIG):
    """Targets as they look from `cameras`, labelled with `wrong` ones."""
    dots = Dots()
    images = jax.vmap(
        lambda c: dots.render(dots.tri_planes(ws), c, side=SIDE, draws=None).features
    )(cameras)
    return pose_targets(dots, Plain(), Views(images=images, cameras=wrong), config)


def align(targets, ws, config=CONFIG):
    dots = Dots()
    state = start_each(still(len(targets.cameras)).rigid, jax.random.key(0))
    state, terms = advance_each(
        state, dots, Plain(), targets, dots.tri_planes(ws), jnp.zeros(()),
        config=config, num_steps=config.each.num_steps,
    )  # fmt: skip
    motion = CameraMotion(rigid=state.variables, focal=jnp.zeros(()))
    return moved(targets.cameras, motion, SPREAD), terms


def test_at_rest_nothing_moves():
    out = moved(CAMERAS, still(5), SPREAD)
    np.testing.assert_allclose(out.cam2world, CAMERAS.cam2world, atol=1e-6)
    np.testing.assert_array_equal(out.intrinsics, CAMERAS.intrinsics)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), focal=st.floats(-2, 2))
def test_motions_are_rigid_and_of_the_deviations_given(seed, focal):
    motion = random_motion(seed, focal=focal)
    out = moved(CAMERAS, motion, SPREAD)
    rotation = out.cam2world[:, :3, :3]
    np.testing.assert_allclose(
        rotation @ rotation.mT, np.broadcast_to(np.eye(3), (5, 3, 3)), atol=3e-6
    )
    np.testing.assert_array_equal(out.cam2world[:, 3], CAMERAS.cam2world[:, 3])
    turn, shift = pose_errors(out, CAMERAS)
    units = np.linalg.norm(np.asarray(motion.rigid).reshape(5, 2, 3), axis=-1)
    # The shift of a screw motion differs from its tangent's by a factor of 1 - turn^2 / 24 at most.
    np.testing.assert_allclose(turn, np.degrees(SPREAD.rotation) * units[:, 1], atol=5e-4)
    np.testing.assert_allclose(shift, SPREAD.translation * units[:, 0], rtol=1e-3, atol=1e-6)
    factor = np.exp(SPREAD.focal * focal)
    np.testing.assert_allclose(out.intrinsics[:, 0, 0], CAMERAS.intrinsics[:, 0, 0] * factor, 1e-5)
    np.testing.assert_array_equal(out.intrinsics[:, :2, 2], CAMERAS.intrinsics[:, :2, 2])


def test_a_turn_about_the_vertical_changes_the_azimuth_alone():
    turn = jnp.zeros((5, 6)).at[:, 4].set(1.0)
    out = moved(CAMERAS, CameraMotion(rigid=turn, focal=jnp.zeros(())), SPREAD)
    # About y a positive turn carries +z to +x: azimuths, from x to z, fall.
    np.testing.assert_allclose(azimuth(out), azimuth(CAMERAS) - SPREAD.rotation, atol=1e-6)
    np.testing.assert_allclose(out.position[:, 1], CAMERAS.position[:, 1], atol=1e-6)


def test_cameras_of_a_known_head_are_found():
    ws = jnp.zeros((2, 3))
    wrong = moved(CAMERAS, random_motion(1), SPREAD)
    found, terms = align(seen_from(CAMERAS, wrong, ws), ws)
    for before, after in zip(pose_errors(wrong, CAMERAS), pose_errors(found, CAMERAS), strict=True):
        assert np.median(after) < np.median(before) / 5
    assert terms["pixel"][-1] < terms["pixel"][0] / 50


def test_each_frame_is_fitted_for_itself():
    ws = jnp.zeros((2, 3))
    targets = seen_from(CAMERAS, moved(CAMERAS, random_motion(2), SPREAD), ws)
    together, _ = align(targets, ws)
    alone, _ = align(jax.tree.map(lambda x: x[2:3], targets), ws)
    # Adam's steps do not depend on the factor 1 / V of the mean, but for its epsilon.
    np.testing.assert_allclose(together.cam2world[2], alone.cam2world[0], atol=1e-3)


def test_latent_cameras_and_focal_length_are_found_together():
    ws = jnp.full((2, 3), 1.0)
    true = moved(CAMERAS, still(5), SPREAD)
    wrong = moved(true, random_motion(3, focal=1.0), SPREAD)
    targets = seen_from(true, wrong, ws)
    statistics = WStatistics(mean=jnp.zeros(3), std=jnp.ones(()))
    state = start_joint(statistics, 2, 5, jax.random.key(0))
    advance = partial(advance_joint, config=CONFIG, num_steps=STEPS)
    state, terms = advance(state, Dots(), Plain(), targets, statistics)
    found_ws, motion = state.variables
    found = moved(wrong, motion, SPREAD)
    turned, _ = pose_errors(wrong, true)
    turned_after, _ = pose_errors(found, true)
    assert np.median(turned_after) < np.median(turned) / 2
    assert terms["pixel"][-1] < terms["pixel"][0] / 20
    # A wider head seen through a shorter lens looks alike: their product is what is found.
    size = (1 + 0.1 * found_ws[0, 0]) * found.intrinsics[0, 0, 0] / true.intrinsics[0, 0, 0]
    assert size == pytest.approx(1.1, abs=0.02)


def test_a_strong_prior_keeps_cameras_where_they_are():
    ws = jnp.zeros((2, 3))
    wrong = moved(CAMERAS, random_motion(1), SPREAD)
    firm = PoseConfig(each=CONFIG.each, each_prior=1e3)
    found, _ = align(seen_from(CAMERAS, wrong, ws), ws, firm)
    turn, shift = pose_errors(found, wrong)
    assert np.max(turn) < 0.1
    assert np.max(shift) < 1e-3


def test_drawn_views_move_and_the_others_stay_for_a_step():
    config = PoseConfig(
        joint=StageConfig(num_steps=1, learning_rate=0.1),
        camera_prior=0.0, views_per_step=2, views_at_once=1,
    )  # fmt: skip
    ws = jnp.zeros((2, 3))
    targets = seen_from(CAMERAS, moved(CAMERAS, random_motion(4), SPREAD), ws)
    statistics = WStatistics(mean=jnp.zeros(3), std=jnp.ones(()))
    state = start_joint(statistics, 2, 5, jax.random.key(0))
    state, _ = advance_joint(
        state, Dots(), Plain(), targets, statistics, config=config, num_steps=1
    )
    rigid = np.asarray(state.variables[1].rigid)
    assert np.sum(np.any(rigid != 0, axis=1)) == 2


def test_errors_of_equal_cameras_are_zero():
    turn, shift = pose_errors(CAMERAS, CAMERAS)
    np.testing.assert_allclose(turn, 0.0, atol=0.05)  # as a cosine of 1 - 1e-7 would give
    np.testing.assert_allclose(shift, 0.0, atol=1e-6)
