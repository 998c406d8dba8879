"""Camera paths from labels and transforms: conventions, and what is refused."""

import json
import math

import numpy as np
import pytest

from eg3d_jax.cameras import to_label, yaw_pitch_camera
from experiments.camera_files import read_camera_path
from experiments.errors import InputError
from experiments.transforms import FLIP_AXES

FOCAL = 4.2647
CAMERAS = yaw_pitch_camera(np.float32([0.9, -0.3, 0.2]), np.float32([0.1, 0.0, -0.2]), focal=FOCAL)
OPENCV_POSE = np.asarray(CAMERAS.cam2world[0]).tolist()


def write(tmp_path, content):
    path = tmp_path / "path.json"
    path.write_text(json.dumps(content))
    return path


def transforms(**intrinsics):
    """The cameras as a NeRF dataset has them: camera axes x right, y up, looking along -z."""
    matrices = np.asarray(CAMERAS.cam2world, np.float64) @ FLIP_AXES
    frames = [{"file_path": "a.png", "transform_matrix": matrix.tolist()} for matrix in matrices]
    return {**intrinsics, "frames": frames}


def test_labels_come_in_natural_order_of_their_names_as_those_of_frames_do(tmp_path):
    names = ["10.png", "9.png", "11.png"]
    labels = np.asarray(to_label(CAMERAS)).tolist()
    path = write(tmp_path, {"labels": list(zip(names, labels, strict=True))})
    np.testing.assert_array_equal(to_label(read_camera_path(path)), np.array(labels)[[1, 0, 2]])


@pytest.mark.parametrize(
    "intrinsics",
    [
        {"camera_angle_x": 2 * math.atan(0.5 / FOCAL)},
        {"fl_x": FOCAL * 800, "w": 800},
        {"fl_x": FOCAL * 600, "fl_y": FOCAL * 600, "w": 800, "h": 600, "cx": 400, "cy": 300},
        {"camera_angle_x": 2 * math.atan(400 / (FOCAL * 600)), "w": 800, "h": 600},
    ],
)
def test_opengl_transforms_become_opencv_cameras_of_the_central_square(tmp_path, intrinsics):
    read = read_camera_path(write(tmp_path, transforms(**intrinsics)))
    np.testing.assert_allclose(to_label(read), to_label(CAMERAS), atol=1e-5)


def test_a_camera_looks_along_minus_z_of_its_transform(tmp_path):
    """At (0, 0, 2.7) with the identity for axes: the frontal view of a head that looks to +z."""
    frontal = np.eye(4)
    frontal[2, 3] = 2.7
    content = {"camera_angle_x": 0.23, "frames": [{"transform_matrix": frontal.tolist()}]}
    read = read_camera_path(write(tmp_path, content))
    np.testing.assert_allclose(read.cam2world[0, :3, 2], [0, 0, -1], atol=1e-6)
    np.testing.assert_allclose(read.cam2world, yaw_pitch_camera([0.0], 0.0).cam2world, atol=1e-6)


def test_a_frame_may_have_intrinsics_of_its_own(tmp_path):
    content = transforms(fl_x=FOCAL * 100, w=100)
    content["frames"][1] |= {"fl_x": 300.0, "cx": 40}
    read = read_camera_path(write(tmp_path, content))
    np.testing.assert_allclose(read.intrinsics[:, 0, 0], [FOCAL, 3.0, FOCAL], rtol=1e-6)
    np.testing.assert_allclose(read.intrinsics[:, 0, 2], [0.5, 0.4, 0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c.pop("frames"), "neither 'labels'"),
        (lambda c: c.update(frames=[]), "no frames"),
        (lambda c: c.update(frames=[3]), "frame 0 is no object"),
        (lambda c: c.pop("camera_angle_x"), "camera_angle_x in radians, or fl_x"),
        (lambda c: c.update(camera_angle_x=40.0), "radians between 0 and pi"),
        (lambda c: c.update(camera_angle_x="wide"), "'wide'; it must be a finite number"),
        (lambda c: c.update(camera_model="OPENCV_FISHEYE"), "only pinhole"),
        (lambda c: c.update(w=0), "must be positive"),
        (lambda c: c["frames"][2].pop("transform_matrix"), "frame 2: transform_matrix is not"),
        (lambda c: c["frames"][1].update(transform_matrix=[[1, 2], [3]]), "frame 1: transform"),
        # A world in metres, or OpenCV axes where OpenGL's belong: the head is out of sight.
        (lambda c: c["frames"][0]["transform_matrix"][2].__setitem__(3, 90.0), "frame 0: the"),
        (lambda c: c["frames"][0].update(transform_matrix=OPENCV_POSE), "looks away from the head"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_frame(tmp_path, spoil, message):
    content = transforms(camera_angle_x=0.23)
    spoil(content)
    with pytest.raises(InputError, match=r"path\.json.*" + message):
        read_camera_path(write(tmp_path, content), ray_range=(2.25, 3.3))


def test_a_file_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "path.json"
    path.write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        read_camera_path(path)
