"""The rotation and the camera nearest to given numbers, and mirror images of cameras."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from eg3d_jax.cameras import (
    from_label,
    mirror_image,
    nearest_camera,
    nearest_rotation,
    to_label,
    yaw_pitch_camera,
)
from eg3d_jax.rays import cast_rays

turns = arrays(np.float64, 3, elements=st.floats(-3, 3)).map(
    lambda vector: Rotation.from_rotvec(vector).as_matrix()
)
small = arrays(np.float64, (3, 3), elements=st.floats(-0.02, 0.02))


def labels(*yaw):
    label = to_label(yaw_pitch_camera(np.float32(yaw), np.full(len(yaw), 0.2, np.float32)))
    return np.asarray(label, np.float64)


@given(turns, small)
def test_a_disturbed_rotation_comes_back_within_the_disturbance(rotation, error):
    found = nearest_rotation(rotation + error)
    np.testing.assert_allclose(found.T @ found, np.eye(3), atol=1e-14)
    assert np.linalg.det(found) > 0
    # Nearest: no rotation is nearer to what was given than the one that was disturbed.
    assert np.linalg.norm(found - rotation - error) <= np.linalg.norm(error) + 1e-14
    assert np.linalg.norm(found - rotation) <= 2 * np.linalg.norm(error) + 1e-14
    np.testing.assert_array_equal(nearest_rotation(found), found)


@given(turns, st.floats(0.5, 2))
def test_the_rotation_nearest_to_a_scaled_one_is_itself(rotation, scale):
    np.testing.assert_allclose(nearest_rotation(scale * rotation), rotation, atol=1e-14)


def test_a_matrix_that_mirrors_has_a_nearest_rotation_too():
    found = nearest_rotation([np.diag([1.0, 1.0, -0.1]), np.eye(3)])
    np.testing.assert_array_equal(found, [np.eye(3), np.eye(3)])


@pytest.mark.parametrize("matrix", [np.eye(4), np.full((3, 3), np.nan), 1.0])
def test_other_matrices_are_refused(matrix):
    with pytest.raises(ValueError, match=r"want finite numbers \[\*, 3, 3\]"):
        nearest_rotation(matrix)


def test_cameras_are_their_own_nearest_ones():
    found = nearest_camera(labels(0.3, -0.7))
    np.testing.assert_allclose(found, labels(0.3, -0.7), atol=1e-7)
    np.testing.assert_array_equal(nearest_camera(found), found)
    with pytest.raises(ValueError, match="must be 25 long"):
        nearest_camera(np.zeros(24))


@settings(deadline=None)
@given(arrays(np.float64, 25, elements=st.floats(-0.02, 0.02)))
def test_25_free_numbers_become_a_camera_no_further_than_they_went(error):
    label = labels(0.3)[0]
    found = nearest_camera(label + error)
    cam2world = found[:16].reshape(4, 4)
    np.testing.assert_array_equal(cam2world[3], [0, 0, 0, 1])
    np.testing.assert_array_equal(found[[19, 22, 23, 24]], [0, 0, 0, 1])
    rotation = cam2world[:3, :3]
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-14)
    # Position, focal lengths, skew and principal point are free in a camera too.
    free = [3, 7, 11, 16, 17, 18, 20, 21]
    np.testing.assert_array_equal(found[free], (label + error)[free])
    # 1e-6: the label itself is a rotation to float32 only.
    assert np.linalg.norm(found - label - error) <= np.linalg.norm(error) + 1e-6


def test_a_mirror_image_casts_the_mirrored_rays():
    """The ray through column j is the mirror image of the one through column n - 1 - j."""
    label = labels(0.4)[0]
    label[17], label[18] = 0.1, 0.4  # skew, and a principal point off the middle
    rays = cast_rays(from_label(label), 8)
    mirrored = cast_rays(from_label(mirror_image(label)), 8)
    flip = np.float32([-1, 1, 1])
    given_rays = jnp.reshape(rays.directions, (8, 8, 3))[:, ::-1] * flip
    np.testing.assert_allclose(jnp.reshape(mirrored.directions, (8, 8, 3)), given_rays, atol=1e-6)
    np.testing.assert_allclose(mirrored.origins, rays.origins * flip, atol=1e-6)
    np.testing.assert_allclose(mirror_image(mirror_image(label)), label, rtol=1e-15)
