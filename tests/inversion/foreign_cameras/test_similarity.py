"""Cameras of any world come to EG3D's by the cameras alone, or are refused with the repair."""

import numpy as np
import pytest
from foreign_scenes import orbit, random_similarity, replaced, scene
from hypothesis import given
from hypothesis import strategies as st

from eg3d_jax.cameras import to_label, yaw_pitch_camera
from eg3d_jax.errors import InputError
from inversion.foreign_cameras.similarity import from_axes, meeting
from inversion.similarity import IDENTITY

# Symmetric about the front, as the mean direction has to be that.
yaws = st.lists(st.floats(0.06, 1.2), min_size=1, max_size=4).map(
    lambda half: [*(-a for a in half), *half]
)
pitches = st.floats(-0.5, 0.5)
seeds = st.integers(0, 2**16)


def symmetric(yaw, pitch):
    return orbit(yaw, [pitch] * (len(yaw) // 2) * 2)


def test_the_cameras_here_are_eg3ds():
    labels = np.stack(list(orbit([-0.7, 0.2, 2.0], [0.1, -0.4, 0.3]).values()))
    usual = yaw_pitch_camera(np.float32([-0.7, 0.2, 2.0]), np.float32([0.1, -0.4, 0.3]))
    np.testing.assert_allclose(labels, to_label(usual), atol=1e-6)


@given(yaws, pitches, seeds)
def test_labels_come_back_from_any_world(yaw, pitch, seed):
    wanted = scene(symmetric(yaw, pitch))
    moved = scene(symmetric(yaw, pitch), moved=random_similarity(seed))
    found = from_axes(moved).move(moved.cam2world)
    np.testing.assert_allclose(found, wanted.cam2world, atol=1e-6)


@given(st.lists(st.floats(-1.2, 1.2), min_size=2, max_size=6), pitches, seeds, seeds)
def test_two_worlds_of_the_same_cameras_give_the_same_labels(yaw, pitch, first, second):
    if np.ptp(yaw) < 0.2:
        yaw = [*yaw, yaw[0] + 0.5]
    labels = orbit(yaw, [pitch, 0.3 - pitch])
    found = []
    for seed in (first, second):
        moved = scene(labels, moved=random_similarity(seed))
        found.append(from_axes(moved).move(moved.cam2world))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


@given(seeds, seeds)
def test_similarities_are_done_one_after_the_other(first, second):
    a, b = random_similarity(first), random_similarity(second)
    poses = scene(orbit([0.2, 0.5])).cam2world
    np.testing.assert_allclose(b.after(a).move(poses), b.move(a.move(poses)), atol=1e-9)
    np.testing.assert_array_equal(IDENTITY.after(a).move(poses), a.move(poses))
    np.testing.assert_allclose(a.inverse.move(a.move(poses)), poses, atol=1e-9)


def test_a_named_front_turns_the_world():
    labels = orbit([-0.2, 0.4, 1.0], [0.1, 0.1, 0.1])
    moved = scene(labels, moved=random_similarity(5))
    found = from_axes(moved, front=1).move(moved.cam2world)
    yaw = np.arctan2(found[:, 0, 3], found[:, 2, 3])
    np.testing.assert_allclose(yaw, [-0.6, 0.0, 0.6], atol=1e-6)


def test_wider_lenses_are_taken_to_be_filled_by_the_head_as_well():
    """From half as far, with half the focal length, the head is as large."""
    given_scene = scene(orbit([-0.5, 0.5]))
    wide = tuple(
        type(lens)(**{**vars(lens), "fx": lens.fx / 2, "fy": lens.fy / 2})
        for lens in given_scene.lenses
    )
    found = from_axes(replaced(given_scene, lenses=wide)).move(given_scene.cam2world)
    np.testing.assert_allclose(np.linalg.norm(found[:, :3, 3], axis=-1), 2.7 / 2, rtol=1e-6)


def test_axes_that_nearly_meet_give_the_nearest_point():
    poses = scene(orbit(np.linspace(-1, 1, 9))).cam2world
    poses[:, :3, 3] += np.random.default_rng(0).normal(size=(9, 3)) * 0.01
    found = meeting(poses)
    assert found is not None
    assert np.linalg.norm(found.point) < 0.02
    assert 0 < found.apart < 0.01
    # It is the least squares point: no other is nearer to all axes.
    axes, positions = poses[:, :3, 2], poses[:, :3, 3]

    def off(point):
        away = point - positions
        return (np.linalg.norm(away - (away * axes).sum(-1)[:, None] * axes, axis=-1) ** 2).sum()

    for step in 1e-4 * np.concatenate([np.eye(3), -np.eye(3)]):
        assert off(found.point + step) > off(found.point)


def transposed(poses):
    return np.linalg.inv(poses)


def flipped(poses):
    return poses @ np.diag([1.0, -1, -1, 1])


def one_flipped(poses):
    return np.concatenate([flipped(poses[:1]), poses[1:]])


def parallel(poses):
    poses = poses.copy()
    poses[:, :3, :3] = poses[0, :3, :3]
    return poses


def still(poses):
    return np.repeat(poses[:1], len(poses), axis=0)


def outward(poses):
    """Cameras in a room that look along its walls."""
    poses = poses.copy()
    poses[:, :3, 3] = np.random.default_rng(1).normal(size=(len(poses), 3)) * 3
    return poses


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (transposed, "would if these matrices were world-to-camera; invert them$"),
        (lambda p: transposed(flipped(p)), "world-to-camera; invert them, and their axes y and z"),
        (flipped, r"look away .* OpenCV's camera axes .* diag\(1, -1, -1, 1\)"),
        (one_flipped, "1 of 5 cameras look away"),
        (parallel, "axes of its 5 cameras are nearly parallel.* add pictures from other sides"),
        (still, "all 5 cameras stand at one place, before which the head moves"),
        (outward, "miss each other by .* % of their distance"),
    ],
)
def test_cameras_that_do_not_look_at_a_head_are_refused_with_the_repair(spoil, says):
    given_scene = scene(orbit([-0.8, -0.4, 0.1, 0.5, 0.9]), moved=random_similarity(2))
    with pytest.raises(InputError, match=f"^labels: .*{says}"):
        from_axes(replaced(given_scene, cam2world=spoil(given_scene.cam2world)))


def test_cameras_all_round_need_a_front():
    given_scene = scene(orbit(np.linspace(-np.pi, np.pi, 12, endpoint=False)))
    with pytest.raises(InputError, match="all round the head, .* from the front: --front"):
        from_axes(given_scene)
    found = from_axes(given_scene, front=6).move(given_scene.cam2world)
    np.testing.assert_allclose(found, given_scene.cam2world, atol=1e-6)


def test_a_single_camera_is_refused():
    with pytest.raises(InputError, match="nearly parallel"):
        from_axes(scene(orbit([0.0])))
