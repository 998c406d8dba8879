"""The browser's camera and ours are one."""

import numpy as np
import pytest

from eg3d_jax.cameras import to_label, yaw_pitch_camera
from eg3d_jax.rays import cast_rays
from experiments.view.geometry import (
    at_radius,
    camera_of,
    nearest_labels,
    nearest_view,
    pose_of,
    quaternion,
    rotation,
    within_field,
)

HALF = np.sqrt(0.5)


@pytest.mark.parametrize(
    ("wxyz", "matrix"),
    [
        ((1, 0, 0, 0), [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        ((HALF, HALF, 0, 0), [[1, 0, 0], [0, 0, -1], [0, 1, 0]]),  # a quarter turn about x
        ((HALF, 0, 0, HALF), [[0, -1, 0], [1, 0, 0], [0, 0, 1]]),  # about z
        ((0, 1, 0, 0), [[1, 0, 0], [0, -1, 0], [0, 0, -1]]),  # a half turn about x
        ((0, 0, 2, 0), [[-1, 0, 0], [0, 1, 0], [0, 0, -1]]),  # about y; any length will do
    ],
)
def test_quaternions_of_known_turns(wxyz, matrix):
    np.testing.assert_allclose(rotation(wxyz), matrix, atol=1e-12)
    unit = np.array(wxyz) / np.linalg.norm(wxyz)
    np.testing.assert_allclose(quaternion(np.array(matrix)), unit, atol=1e-12)


def test_quaternions_of_any_turn_return():
    for q in np.random.default_rng(0).normal(size=(50, 4)):
        unit = q / np.linalg.norm(q) * np.sign(q[0])
        np.testing.assert_allclose(quaternion(rotation(q)), unit, atol=1e-12)


def test_a_browser_in_front_sees_as_the_frontal_camera():
    """OpenCV's axes, looking towards -z from the front: a half turn about x."""
    frontal = yaw_pitch_camera(0.0, 0.0, radius=2.7, focal=4.0)
    camera = camera_of((0, 1, 0, 0), (0, 0, 2.7), 2 * np.arctan(1 / 8))
    np.testing.assert_allclose(to_label(camera), to_label(frontal), atol=1e-6)


@pytest.mark.parametrize(("yaw", "pitch"), [(0.0, 0.0), (0.7, -0.3), (-2.5, 0.9), (3.1, 0.0)])
def test_cameras_return_from_the_browser(yaw, pitch):
    camera = yaw_pitch_camera(yaw, pitch, focal=3.0)
    pose = pose_of(camera)
    np.testing.assert_allclose(pose.look_at, 0, atol=1e-6)
    again = camera_of(pose.wxyz, pose.position, pose.fov)
    np.testing.assert_allclose(to_label(again), to_label(camera), atol=1e-5)


@pytest.mark.parametrize("distance", [1.0, 2.7, 20.0])
def test_from_any_distance_the_head_has_its_size_and_is_where_rays_are_sampled(distance):
    """The same square of the plane through the head's middle fills the picture."""
    far = yaw_pitch_camera(0.4, 0.2, radius=distance, focal=5.0)
    near = at_radius(far, 2.7)
    np.testing.assert_allclose(np.linalg.norm(near.position), 2.7, rtol=1e-5)  # float32
    corners = []
    for camera in (far, near):
        rays, forward = cast_rays(camera, 2), np.asarray(camera.cam2world)[:3, 2]
        depth = -np.asarray(camera.position) @ forward / (np.asarray(rays.directions) @ forward)
        corners.append(np.asarray(rays.origins) + depth[:, None] * np.asarray(rays.directions))
    np.testing.assert_allclose(corners[1], corners[0], atol=2e-5)


def test_from_within_the_head_the_picture_stays_finite():
    inside = at_radius(yaw_pitch_camera(0.0, 0.0, radius=1e-6, focal=5.0), 2.7)
    np.testing.assert_allclose(inside.intrinsics[0, 0], 50.0, rtol=1e-5)
    assert np.isfinite(np.asarray(to_label(inside))).all()


def test_no_field_is_wider_than_that_of_the_training():
    wide, part = within_field(yaw_pitch_camera(0.4, 0.2, focal=1.0), 4.0)
    assert part == 0.25
    np.testing.assert_allclose(to_label(wide), to_label(yaw_pitch_camera(0.4, 0.2, focal=4.0)))
    narrow, part = within_field(yaw_pitch_camera(0.4, 0.2, focal=8.0), 4.0)
    assert part == 1.0
    assert narrow.intrinsics[1, 1] == 8.0


def test_the_nearest_view_is_that_of_the_smallest_angle_from_any_distance():
    views = yaw_pitch_camera(np.radians([-40.0, 0.0, 40.0]), 0.0)
    index, degrees = nearest_view(yaw_pitch_camera(np.radians(25.0), 0.0, radius=9.0), views)
    assert index == 2
    np.testing.assert_allclose(degrees, 15.0, atol=1e-3)
    assert nearest_view(views[1], views)[0] == 1


def test_labels_find_their_own_among_others_in_any_order():
    labels = np.random.default_rng(0).normal(size=(5, 25))
    order = [3, 0, 4]
    assert nearest_labels(labels[order] + 1e-3, labels) == order
