"""Cameras that cannot be right are refused with the repair, loose ones mended, odd ones told of."""

import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eg3d_jax.cameras import nearest_rotation, to_label, yaw_pitch_camera
from eg3d_jax.errors import InputError
from inversion.frames.camera_checks import check_cameras, nearest_cameras

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
QUARTER = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
RANGE = (2.25, 3.3)


def cameras(yaw=(-40, -15, 10, 35), pitch=5.0):
    view = yaw_pitch_camera(np.radians(yaw), np.radians(np.full(len(yaw), pitch)))
    return np.asarray(to_label(view), np.float64)


def posed(change, yaw=(-40, -15, 10, 35), pitch=5.0):
    """The cameras with `change` made to each cam2world."""
    labels = cameras(yaw, pitch)
    poses = [change(label[:16].reshape(4, 4).copy()) for label in labels]
    labels[:, :16] = np.reshape(poses, (-1, 16))
    return labels


def check(labels, **options):
    named = {f"{i}.png": label for i, label in enumerate(labels)}
    found = check_cameras("dataset.json", named, **{"ray_range": RANGE, **options})
    return np.stack(list(found.values()))


def refusal(labels, **options):
    with pytest.raises(InputError) as caught:
        check(labels, **options)
    message = str(caught.value)
    assert message.startswith("dataset.json")
    assert "\n" not in message
    return message


def scaled(pose, rows=4, columns=4, by=2.0):
    pose[:rows, :columns] *= by
    return pose


@settings(deadline=None)
@given(
    yaw=st.lists(st.floats(-180, 180), min_size=1, max_size=4),
    pitch=st.floats(-30, 30),
    digits=st.integers(4, 12),
)
def test_valid_labels_stay_as_they_are_bit_for_bit(yaw, pitch, digits):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*back of the head")
        for labels in (cameras(yaw, pitch), np.round(cameras(yaw, pitch), digits)):
            np.testing.assert_array_equal(check(labels), labels)


@settings(deadline=None)
@given(errors=arrays(np.float64, (4, 3, 3), elements=st.floats(-0.008, 0.008)))
def test_loose_rotations_become_the_nearest_with_one_warning(errors):
    labels = cameras()
    poses = labels[:, :16].reshape(4, 4, 4).copy()
    poses[:, :3, :3] += errors
    labels[:, :16] = poses.reshape(4, 16)
    off = np.abs(poses[:, :3, :3].transpose(0, 2, 1) @ poses[:, :3, :3] - np.eye(3)).max((1, 2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = check(labels)
    expected = poses.copy()
    expected[off > 1e-3, :3, :3] = nearest_rotation(poses[off > 1e-3, :3, :3])
    np.testing.assert_array_equal(found[:, :16].reshape(4, 4, 4), expected)
    np.testing.assert_array_equal(found[:, 16:], labels[:, 16:])
    assert len(caught) == (1 if off.max() > 1e-3 else 0)
    for warning in caught:
        assert f"off by up to {off.max():.2g} ({off.argmax()}.png)" in str(warning.message)


def test_the_warning_counts_the_rotations_and_names_the_worst():
    labels = cameras()
    labels[1, 0] += 0.004
    labels[2, 5] += 0.02
    with pytest.warns(UserWarning, match=r"^dataset.json: 2 of 4 rotations .* by up to 0\.039 \(2"):
        check(labels)
    labels[2, 5] += 0.02
    assert "2.png: the rotation is not orthonormal (off by 0.078, at most 0.05" in refusal(labels)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (scaled, "cam2world is scaled as a whole, its last row is 0 0 0 2; divide its 16 numbers"),
        (lambda p: -p, "divide its 16 numbers by -1"),
        (lambda p: scaled(p, 3), "the rotation is scaled by 2; divide its 9 numbers by that"),
        (lambda p: scaled(p, 3, 3, 1 / 3), "the rotation is scaled by 0.3333"),
        (lambda p: 0 * p, "last row of cam2world is 0 0 0 0"),
        (lambda p: scaled(p, 2, 3), "not orthonormal"),
        (lambda p: p.T, "transposed?"),
    ],
)
def test_scaled_matrices_are_refused_with_the_factor(change, says):
    assert "dataset.json: 0.png: " in refusal(posed(change))
    assert says in refusal(posed(change))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: p @ FLIP, "looks away from the head.*from the right by diag.1, -1, -1, 1"),
        (np.linalg.inv, "world-to-camera matrices: invert them"),
        (lambda p: FLIP @ np.linalg.inv(p), "world-to-camera matrices: invert them"),
        (lambda p: scaled(p, 3, 4, [1, 1, 1, 1e3]), "2700 units.*positions times 0.001"),
        (lambda p: Z_UP @ p, r"up in the pictures is \+z of the world.*become x, z, -y"),
        (lambda p: Z_UP.T @ p, "up in the pictures is -z of the world.*become x, -z, y"),
        (lambda p: FLIP @ p, "-y of the world.*from the left by diag.1, -1, -1, 1"),
        (lambda p: p @ QUARTER @ QUARTER, "upside down.*from the right by diag.-1, -1, 1, 1"),
    ],
)
def test_other_conventions_are_refused_with_a_repair_that_mends_them(change, says):
    assert re.search(says, refusal(posed(change)))


def test_advice_on_scale_names_axes_and_origin_and_a_world_that_is_turned_as_well():
    message = refusal(posed(lambda p: scaled(Z_UP @ p, 3, 4, [1, 1, 1, 4])))
    assert "scale the camera positions, once origin and axes are right" in message
    assert "y up, and the head at the origin looking towards +z" in message
    assert "so that x, y, z become x, z, -y" in message
    assert "times" not in message  # that alone would not do


def test_one_wrong_camera_among_others_gets_no_advice_for_all():
    labels = cameras()
    labels[2] = posed(lambda p: p @ FLIP)[2]
    message = refusal(labels)
    assert "2.png: the camera looks away" in message
    assert "all cameras" not in message


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_rolled_camera_among_others_is_told_of(turns):
    labels = cameras()
    labels[2] = posed(lambda p: p @ np.linalg.matrix_power(QUARTER, turns))[2]
    degrees = 180 if turns == 2 else 90
    with pytest.warns(UserWarning, match=f"1 of 4 cameras .* 2.png rolled by {degrees} degrees"):
        np.testing.assert_array_equal(check(labels), labels)


def test_a_head_that_lies_on_its_side_is_told_of_once():
    with pytest.warns(UserWarning, match="4 of 4 cameras .* 90 degrees .*mostly .x of") as told:
        check(posed(lambda p: p @ QUARTER))
    assert len(told) == 1


def test_one_camera_upside_down_alone_is_refused():
    assert "down points up" in refusal(posed(lambda p: p @ QUARTER @ QUARTER, yaw=(20,)))


@pytest.mark.parametrize("up", [1, -1])
def test_a_few_steep_cameras_may_be_of_another_world(up):
    with pytest.warns(UserWarning, match="look steeply from (below|above), up .* mostly [+-]z"):
        check(cameras(yaw=(-2, 0, 2), pitch=60.0 * up))


def test_cameras_all_behind_the_head_are_told_of():
    with pytest.warns(UserWarning, match="all cameras see the back of the head"):
        check(cameras(yaw=(150, 180, 210)))


@pytest.mark.parametrize("pitch", [-40, 0, 40, 80])
def test_a_turn_all_round_and_steep_views_in_it_are_nothing_odd(pitch):
    check(cameras(yaw=range(0, 360, 20), pitch=pitch))


def test_focal_lengths_far_apart_are_told_of_and_further_apart_refused():
    labels = cameras()
    labels[1, 16] *= 1.02
    check(labels)
    labels[1, 16] *= 1.08
    with pytest.warns(UserWarning, match="of 1.png are 4.698 4.265, 10 % apart"):
        check(labels)
    labels[1, 16] *= 1.5  # as of a wide picture, each divided by its own side
    assert "1.png: the focal lengths are 7.047 4.265, too far apart" in refusal(labels)


def test_intrinsics_of_another_picture_are_told_of():
    labels = cameras()
    labels[:, [16, 18, 20, 21]] /= 2
    with pytest.warns(UserWarning, match="principal point of 0.png is 0.25 0.25, far from"):
        check(labels)
    labels = cameras()
    labels[:, [16, 20]] = 50
    with pytest.warns(UserWarning, match="focal length of 0.png is 50 .* millimetres"):
        check(labels)


def optimised(labels):
    return nearest_cameras(
        "x.npz", {f"cs[{i}]": label for i, label in enumerate(labels)}, box_side=1.0
    )


def test_cameras_are_no_optimised_numbers():
    labels = np.round(cameras(), 5)
    np.testing.assert_array_equal(list(optimised(labels).values()), labels)


def test_optimised_numbers_become_the_nearest_camera_with_a_word_on_how_far():
    labels = cameras()
    pose = labels[2, :16].reshape(4, 4)
    # x towards z by three degrees, and z stays: the nearest rotation turns each by half of that.
    x, z = pose[:3, 0].copy(), pose[:3, 2]
    pose[:3, 0] = np.cos(np.radians(3)) * x + np.sin(np.radians(3)) * z
    labels[2, 23] = 0.04
    with pytest.warns(UserWarning, match=r"1 of 4 .* up to 1\.5 degrees \(cs\[2\]\) .* 0\.04$"):
        found = np.stack(list(optimised(labels).values()))
    np.testing.assert_array_equal(found[[0, 1, 3]], labels[[0, 1, 3]])
    check(found)
    rotation = found[2, :16].reshape(4, 4)[:3, :3]
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-14)


@pytest.mark.parametrize(
    ("index", "value", "says"),
    [(0, 3.0, "not orthonormal"), (15, 2.0, "last row"), (23, 0.7, "intrinsics are"),
     (16, -1.0, "focal length is -1"), (11, 0.0, "inside the head")],
)  # fmt: skip
def test_numbers_that_are_no_camera_by_far_are_refused(index, value, says):
    labels = cameras(yaw=(0,))
    labels[0, index] = value
    with pytest.raises(InputError, match=rf"x.npz: cs\[0\]: .*{says}"):
        optimised(labels)
