"""Camera paths from labels and transforms: conventions, and what is refused."""

import json
import math

import numpy as np
import pytest

from eg3d_jax.cameras import mirror_image, to_label, yaw_pitch_camera
from eg3d_jax.errors import InputError
from inversion.frames.camera_files import read_camera_path
from inversion.frames.transforms import FLIP_AXES

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


def test_frames_come_in_natural_order_of_their_paths(tmp_path):
    content = transforms(camera_angle_x=0.23)
    for frame, name in zip(content["frames"], ["./img/10.png", "img\\9", "img/11"], strict=True):
        frame["file_path"] = name
    in_order = np.asarray(to_label(CAMERAS))[[1, 0, 2]]
    read = np.asarray(to_label(read_camera_path(write(tmp_path, content))))
    np.testing.assert_allclose(read[:, :16], in_order[:, :16], atol=1e-6)
    content["frames"][2]["file_path"] = "img/9"
    with pytest.raises(InputError, match="more than one label for img/9"):
        read_camera_path(write(tmp_path, content))
    # Paths that cannot order them: those of some only, or the same of all.
    for names in ({"img/9"}, {None, "img/1"}):
        for frame, name in zip(content["frames"], sorted(map(str, names)) * 3, strict=False):
            frame["file_path"] = None if name == "None" else name
        read = np.asarray(to_label(read_camera_path(write(tmp_path, content))))
        np.testing.assert_allclose(read[:, :16], np.asarray(to_label(CAMERAS))[:, :16], atol=1e-6)


@pytest.mark.parametrize("form", ["[n, 25]", "[n, 1, 25]", "[1, n, 25]", "[25]"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, str])
@pytest.mark.parametrize("keys", [None, ("labels",), ("x",), ("ws", "cs", "other")])
def test_arrays_are_cameras_in_their_own_order(tmp_path, form, dtype, keys):
    labels = np.asarray(to_label(CAMERAS))
    array = {"[n, 25]": labels, "[n, 1, 25]": labels[:, None], "[1, n, 25]": labels[None]}
    array = array.get(form, labels[0]).astype(dtype)
    path = tmp_path / "path"
    with path.open("wb") as file:
        if keys is None:
            np.save(file, array)
        else:  # beside latents, and beside other cameras a known key goes first
            others = {"ws": np.ones((3, 1, 14, 512)), "other": array[..., ::-1]}
            np.savez(file, **{key: others.get(key, array) for key in keys})
    read = np.asarray(to_label(read_camera_path(path)))
    np.testing.assert_array_equal(read, labels[:1] if form == "[25]" else labels)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((3, 24)), r"no cameras, but float64 \[3, 24\]; it must hold numbers \[25\]"),
        (np.zeros((0, 25)), r"no cameras, but float64 \[0, 25\]"),
        (np.zeros((2, 3, 25)), "no cameras"),
        (np.ones(25, bool), "no cameras, but bool"),
        (np.ones(25, complex), "no cameras, but complex128"),
        (np.full((2, 25), np.nan), "camera 0 holds nan at index 0; want finite"),
        (np.array([None]), "cannot be read as an npy file"),
        (np.zeros(25), "camera 0: the last row of cam2world is 0 0 0 0"),
    ],
)
def test_other_arrays_are_refused(tmp_path, array, says):
    np.save(tmp_path / "path.npy", array)
    with pytest.raises(InputError, match=r"path\.npy.*" + says):
        read_camera_path(tmp_path / "path.npy")


def test_archives_without_cameras_or_with_several_are_refused(tmp_path):
    path = tmp_path / "path.npz"
    for arrays, says in (
        ({"a": np.zeros(25), "b": np.zeros(25)}, r"several arrays of cameras \(a, b\); keep one"),
        ({"a": np.zeros(3)}, r"no cameras, but a float64 \[3\]"),
        ({"a": np.array([None])}, "no cameras, but a"),
        ({}, "no cameras, but nothing"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(InputError, match=r"path\.npz.*" + says):
            read_camera_path(path)
    np.savez_compressed(path, labels=np.asarray(to_label(CAMERAS)))
    whole = path.read_bytes()
    for damaged in (whole[:100], whole[:80] + bytes(60) + whole[140:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"path\.npz cannot be read as an npz file"):
            read_camera_path(path)


def test_damaged_files_of_numpy_are_named(tmp_path):
    """Whatever byte of the header is another, the file is read as cameras or refused by name."""
    np.save(tmp_path / "whole.npy", np.asarray(to_label(CAMERAS)))
    whole, path = (tmp_path / "whole.npy").read_bytes(), tmp_path / "path.npy"
    messages = set()
    for index in range(6, 128):
        for byte in b"{(,'9\x00":
            path.write_bytes(whole[:index] + bytes([byte]) + whole[index + 1 :])
            try:
                read_camera_path(path)
            except InputError as error:
                messages.add(str(error))
    assert len(messages) > 5
    assert all(m.startswith(f"{path}") and "\n" not in m for m in messages)


def test_mirror_images_are_left_out_by_name_and_told_of_by_camera(tmp_path):
    labels = np.asarray(to_label(CAMERAS), np.float64)
    both = np.stack([x for label in labels for x in (label, mirror_image(label))]).tolist()
    named = [name for i in range(3) for name in (f"{i}.png", f"{i}_mirror.png")]
    path = write(tmp_path, {"labels": list(zip(named, both, strict=True))})
    with pytest.warns(UserWarning, match=r"path.json: 3 mirror images of frames left out"):
        np.testing.assert_array_equal(to_label(read_camera_path(path)), np.float32(labels))
    numbered = [f"img{i:08d}.png" for i in range(6)]
    path = write(tmp_path, {"labels": list(zip(numbered, both, strict=True))})
    with pytest.warns(UserWarning, match=r"in pairs \(img00000000.png and img00000001.png, 3"):
        assert len(read_camera_path(path)) == 6


@pytest.mark.parametrize("level", ["file", "frame"])
@pytest.mark.parametrize(
    "lens",
    [
        {"is_fisheye": True},
        {"is_fisheye": "true"},
        {"is_fisheye": 1},
        {"camera_model": "OPENCV_FISHEYE"},
        {"camera_model": "fisheye"},
        {"camera_model": "EQUIRECTANGULAR"},
        {"camera_model": None},
        {"ftheta_p0": 0.1},
    ],
)
def test_lenses_that_are_no_pinhole_are_refused(tmp_path, level, lens):
    content = transforms(camera_angle_x=0.23)
    (content if level == "file" else content["frames"][1]).update(lens)
    number = 0 if level == "file" else 1
    says = rf"path\.json: frame {number}: {next(iter(lens))} is .* only pinhole cameras"
    with pytest.raises(InputError, match=says):
        read_camera_path(write(tmp_path, content))


def test_pinholes_by_every_name_are_taken_in_silence(tmp_path):
    for lens in ({"is_fisheye": False}, {"is_fisheye": "false", "k1": 0}, {"is_fisheye": 0},
                 {"camera_model": "OPENCV", "k1": 0.0, "p1": "0"}, {"camera_model": "pinhole"},
                 {"distortion_params": [0, 0.0]}):  # fmt: skip
        read_camera_path(write(tmp_path, transforms(camera_angle_x=0.23) | lens))


def test_distortion_is_told_of_once_with_its_largest_value(tmp_path):
    content = transforms(camera_angle_x=0.23, k1=0.1)
    content["frames"][1] |= {"k2": "-0.3", "p1": 0.2}
    with pytest.warns(
        UserWarning, match="distortion is ignored, a coefficient of frame 1 is -0.3"
    ) as w:
        read_camera_path(write(tmp_path, content))
    assert len(w) == 1
    content = transforms(camera_angle_x=0.23, distortion_params=[0, -0.4, 0.1])
    with pytest.warns(UserWarning, match="a coefficient of frame 0 is -0.4"):
        read_camera_path(write(tmp_path, content))


def test_numbers_of_transforms_may_be_text(tmp_path):
    content = transforms(camera_angle_x=0.23)
    wanted = to_label(read_camera_path(write(tmp_path, content)))
    content["camera_angle_x"] = " 2.3e-1"
    for frame in content["frames"]:
        frame["transform_matrix"] = [[repr(v) for v in row] for row in frame["transform_matrix"]]
    np.testing.assert_array_equal(to_label(read_camera_path(write(tmp_path, content))), wanted)
    for wrong in ("nan", "wide", True):
        content["frames"][1]["transform_matrix"][0][0] = wrong
        with pytest.raises(InputError, match="frame 1: transform_matrix is not"):
            read_camera_path(write(tmp_path, content))


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
