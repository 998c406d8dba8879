"""Frames of a known head find back to where they were seen from."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dot_scene import CAMERAS, PRIOR, Dots, Plain, pictures_from, random_motion, seen_from

from inversion import losses
from inversion.camera_refinement.alignment import align
from inversion.camera_refinement.joint import RefinementConfig, pose_targets
from inversion.camera_refinement.motion import CameraMotion, no_motion, pose_errors, transform
from inversion.views import Views

CONFIG = RefinementConfig(align_prior=1e-5)
WS = jnp.zeros((2, 3))
WRONG = transform(CAMERAS, random_motion(1), PRIOR)


def at(rigid):
    """The motion of a camera alone, with the focal length given."""
    return CameraMotion(rigid=rigid, focal=jnp.zeros(()))


def aligned(targets, config=CONFIG, steps=8, **more):
    """Cameras found frame by frame, and their losses [V, steps + 1]."""
    dots = Dots()
    rigid, courses = [], []
    for i in range(len(targets.cameras)):
        target = jax.tree.map(lambda x, i=i: x[i], targets)
        found, course = align(
            at(jnp.zeros(6)), dots, Plain(), target, dots.tri_planes(WS),
            config=config, num_steps=steps, **more,
        )  # fmt: skip
        rigid.append(found.rigid)
        courses.append(course)
    motion = CameraMotion(rigid=jnp.stack(rigid), focal=jnp.zeros(()))
    return transform(targets.cameras, motion, PRIOR), np.stack(courses)


def test_cameras_of_a_known_head_are_found():
    found, courses = aligned(seen_from(CAMERAS, WRONG, WS))
    for before, after in zip(pose_errors(WRONG, CAMERAS), pose_errors(found, CAMERAS), strict=True):
        assert np.median(after) < np.median(before) / 20
    assert np.all(courses[:, -1] < courses[:, 0] / 50)


def test_what_lies_outside_the_masks_has_no_say():
    images = pictures_from(CAMERAS, WS)
    mask = images.max(-1) > 0.02
    room = np.random.default_rng(2).uniform(-1, 1, images.shape)
    spoiled = Views(images=jnp.where(mask[..., None], images, room), cameras=WRONG, mask=mask)
    targets = pose_targets(Dots(), Plain(), spoiled, CONFIG)
    masked = dataclasses.replace(spoiled, images=images)
    chex.assert_trees_all_equal(targets, pose_targets(Dots(), Plain(), masked, CONFIG))
    found, _ = aligned(targets)
    everything = pose_targets(Dots(), Plain(), dataclasses.replace(spoiled, mask=None), CONFIG)
    disturbed, _ = aligned(everything)
    for before, after, unmasked in zip(
        pose_errors(WRONG, CAMERAS), pose_errors(found, CAMERAS), pose_errors(disturbed, CAMERAS),
        strict=True,
    ):  # fmt: skip
        assert np.median(after) < np.median(before) / 20
        assert np.median(after) < np.median(unmasked) / 2


def test_masks_shrink_to_where_half_of_a_pixel_is():
    mask = np.zeros((1, 48, 48), bool)
    mask[0, :, :25] = True
    views = Views(images=jnp.ones((1, 48, 48, 3)), cameras=CAMERAS[:1], mask=jnp.asarray(mask))
    targets = pose_targets(Dots(), Plain(), views, CONFIG)
    assert targets.mask is not None
    np.testing.assert_array_equal(targets.mask[0].sum(1), 13)
    np.testing.assert_array_equal(targets.images[0, 0, :, 0], np.arange(24) < 13)


def test_the_loss_is_that_of_the_weights_and_never_rises():
    config = dataclasses.replace(CONFIG, pixel=0.5, perceptual=2.0, align_prior=0.3)
    targets = seen_from(CAMERAS, WRONG, WS)
    _, courses = aligned(targets, config)
    dots, plain = Dots(), Plain()
    for i, course in enumerate(courses):
        camera, target = WRONG[i], targets.images[i]
        image = dots.render(dots.tri_planes(WS), camera, side=len(target), draws=None).features
        want = 0.5 * losses.pixel(image, target)
        want += 2.0 * losses.perceptual(plain.features(image), targets.features[i])
        np.testing.assert_allclose(course[0], want, rtol=1e-4)
        assert np.all(np.diff(course) <= 0)


def test_a_step_is_the_exact_one_where_the_prior_rules():
    # Of |x|^2 alone one step takes all but what the damping leaves.
    firm = dataclasses.replace(CONFIG, pixel=0.0, perceptual=0.0, align_prior=2.0)
    target = jax.tree.map(lambda x: x[0], seen_from(CAMERAS, WRONG, WS))
    start = jnp.asarray(np.random.default_rng(0).normal(size=6), jnp.float32)
    found, course = align(
        at(start), Dots(), Plain(), target, Dots().tri_planes(WS), config=firm, num_steps=1
    )
    np.testing.assert_allclose(found.rigid, start * (1 - 1 / 1.01), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(course[0], 2.0 * np.sum(np.square(start)), rtol=1e-5)


def test_a_strong_prior_keeps_cameras_where_they_are():
    firm = dataclasses.replace(CONFIG, align_prior=1e3)
    found, _ = aligned(seen_from(CAMERAS, WRONG, WS), firm)
    turn, shift = pose_errors(found, WRONG)
    assert np.max(turn) < 0.1
    assert np.max(shift) < 1e-3


@pytest.mark.parametrize("at_once", [5, 12])
def test_pictures_rendered_together_are_the_same(at_once):
    targets = seen_from(CAMERAS, WRONG, WS)
    alone, _ = aligned(targets, steps=3)
    together, _ = aligned(targets, steps=3, pictures_at_once=at_once)
    np.testing.assert_allclose(together.cam2world, alone.cam2world, atol=1e-5)


def test_what_is_not_finite_stays_and_is_told():
    targets = seen_from(CAMERAS, WRONG, WS)
    broken = dataclasses.replace(targets, images=targets.images.at[0, 0, 0, 0].set(jnp.nan))
    found, courses = aligned(broken, steps=2)
    still_there = transform(WRONG, no_motion(5), PRIOR)
    np.testing.assert_array_equal(found.cam2world[0], still_there.cam2world[0])
    assert np.all(np.isnan(courses[0]))
    assert np.all(np.isfinite(courses[1:]))
