"""What is cut out of pictures shows points where the label's pinhole camera sees them."""

import sys

import numpy as np
import pytest
from foreign_scenes import orbit, scene
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from eg3d_jax.cameras import FFHQ_FOCAL
from eg3d_jax.errors import InputError
from inversion.footage.windows import CENTER
from inversion.foreign_cameras.cuts import (
    cut_of,
    draw,
    is_whole,
    outside,
    to_pixels,
    to_tangents,
)
from inversion.frames.scene import Lens

PLAIN = Lens(width=640, height=480, fx=700, fy=720, cx=330, cy=215)
BENT = Lens(**{**vars(PLAIN), "distortion": (-0.2, 0.05, 0.004, -0.003, 0.01)})
FISH = Lens(**{**vars(PLAIN), "distortion": (0.03, -0.01), "fisheye": True})
SQUARE = Lens(width=64, height=64, fx=64 * FFHQ_FOCAL, fy=64 * FFHQ_FOCAL, cx=32, cy=32)
POINTS = np.array([[0.0, 0, 0], [0.15, 0.1, 0.1], [-0.2, 0.15, 0], [0.1, -0.2, 0.15]])


def camera(yaw=0.4, distance=2.7, turn=0.0):
    """A camera [4, 4] that looks beside the head, rolled a little."""
    pose = scene(orbit([yaw])).cam2world[0]
    pose[:3, 3] *= distance / 2.7
    c, s = np.cos(turn), np.sin(turn)
    aside = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    roll = np.array([[np.cos(0.1), -np.sin(0.1), 0], [np.sin(0.1), np.cos(0.1), 0], [0, 0, 1]])
    pose[:3, :3] = pose[:3, :3] @ aside @ roll
    return pose


def blobs(places, height, width, radius=4.0):
    """A dark picture with a soft light at each place."""
    y, x = np.mgrid[:height, :width] + 0.5
    shown = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / 2 / radius**2) for a, b in places)
    return np.repeat(np.round(255 * shown).clip(0, 255).astype(np.uint8)[..., None], 3, -1)


def seen(label, point):
    pose, intrinsics = label[:16].reshape(4, 4), label[16:].reshape(3, 3)
    place = intrinsics @ (pose[:3, :3].T @ (point - pose[:3, 3]))
    return place[:2] / place[2]


@pytest.mark.parametrize("degrees", [-170, -90, -25, 25, 84, 180])
def test_pictures_on_their_side_are_cut_upright(degrees):
    """The label is that of the turned camera, which shows the head upright."""
    pose = scene(orbit([0.4])).cam2world[0]
    pose[:3, :3] = pose[:3, :3] @ Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    assert not is_whole(pose, SQUARE)
    cut = cut_of(pose, CENTER)
    assert cut is not None
    low, high = (seen(cut.label, CENTER + [0, y, 0]) for y in (-0.1, 0.1))
    np.testing.assert_allclose(low[0], high[0], atol=0.01)
    assert low[1] > high[1] + 0.1
    picture = blobs([to_pixels((CENTER - pose[:3, 3])[None] @ pose[:3, :3], PLAIN)[0]], 480, 640)
    shown = draw(picture, cut, PLAIN, 64)[..., 0]
    place = np.array(np.unravel_index(shown.argmax(), shown.shape))[::-1] + 0.5
    np.testing.assert_allclose(place / 64, seen(cut.label, CENTER), atol=1 / 64)


@pytest.mark.parametrize("lens", [PLAIN, BENT, FISH], ids=["pinhole", "opencv", "fisheye"])
@pytest.mark.parametrize("size", [64, 256])
def test_points_are_where_the_label_says(lens, size):
    if not lens.pinhole:
        pytest.importorskip("cv2", reason="lenses are straightened by OpenCV, of extra footage")
    pose = camera(turn=0.2)
    cut = cut_of(pose, CENTER)
    assert cut is not None
    for point in POINTS:
        ray = (point - pose[:3, 3]) @ pose[:3, :3]
        place = to_pixels(ray[None], lens)
        drawn = draw(blobs(place, 480, 640), cut, lens, size)[..., 0].astype(float)
        y, x = np.mgrid[:size, :size] + 0.5
        found = np.array([(drawn * x).sum(), (drawn * y).sum()]) / drawn.sum()
        # In pixels of the source, whose grey levels are rounded.
        scale = cut.focal * size / lens.fx
        np.testing.assert_allclose(found / scale, seen(cut.label, point) * size / scale, atol=0.3)


@given(st.floats(-1, 1), st.floats(2.5, 2.9), st.floats(-0.3, 0.3))
def test_a_camera_that_stays_keeps_its_place_and_looks_at_the_head(yaw, distance, turn):
    pose = camera(yaw, distance, turn)
    cut = cut_of(pose, CENTER)
    assert cut is not None
    np.testing.assert_array_equal(cut.label[[3, 7, 11]], pose[:3, 3])
    np.testing.assert_allclose(seen(cut.label, CENTER), 0.5, atol=1e-9)
    rotation = cut.label[:16].reshape(4, 4)[:3, :3]
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-9)
    assert cut.label[16] == cut.focal


@given(st.floats(-1, 1), st.floats(0.9, 30), st.floats(-0.3, 0.3))
def test_a_camera_that_is_moved_sees_the_head_as_large_from_eg3ds_distance(yaw, distance, turn):
    pose = camera(yaw, distance, turn)
    cut = cut_of(pose, CENTER, moved_about=CENTER)
    assert cut is not None
    position = cut.label[[3, 7, 11]]
    assert np.linalg.norm(position) == pytest.approx(2.7)
    assert cut.label[16] == cut.label[20] == FFHQ_FOCAL
    np.testing.assert_allclose(seen(cut.label, CENTER), 0.5, atol=1e-9)
    # The direction is that of the true camera, and a length across has as many sides.
    away = (pose[:3, 3] - CENTER) / np.linalg.norm(pose[:3, 3] - CENTER)
    np.testing.assert_allclose(-cut.label[[2, 6, 10]], away, atol=1e-9)
    assert cut.focal / np.linalg.norm(pose[:3, 3] - CENTER) == pytest.approx(
        FFHQ_FOCAL / np.linalg.norm(position - CENTER)
    )


@given(st.floats(-1.4, 1.4), st.floats(0.9, 30), st.floats(-0.2, 0.2))
def test_a_moved_camera_keeps_its_direction_to_a_head_beside_the_middle(yaw, distance, turn):
    """In worlds where the middle of a crop is not the head's."""
    pose, head = camera(yaw, distance, turn), np.array([0.02, -0.06, 0.11])
    cut = cut_of(pose, np.zeros(3), moved_about=head)
    assert cut is not None
    told = cut.label[:16].reshape(4, 4)
    assert np.linalg.norm(told[:3, 3]) == pytest.approx(2.7)
    np.testing.assert_allclose(seen(cut.label, np.zeros(3)), 0.5, atol=1e-9)
    before, after = (place[:3, 3] - head for place in (pose, told))
    np.testing.assert_allclose(
        after / np.linalg.norm(after), before / np.linalg.norm(before), atol=1e-9
    )
    # What is drawn has the head's middle where the label has it, and the head as large.
    ray = cut.turn @ pose[:3, :3].T @ (head - pose[:3, 3])
    np.testing.assert_allclose(cut.focal * ray[:2] / ray[2] + 0.5, seen(cut.label, head), atol=1e-9)
    assert cut.focal / np.linalg.norm(before) == pytest.approx(FFHQ_FOCAL / np.linalg.norm(after))


@pytest.mark.parametrize("lens", [PLAIN, BENT, FISH], ids=["pinhole", "opencv", "fisheye"])
def test_tangents_are_those_of_the_rays(lens):
    if not lens.pinhole:
        pytest.importorskip("cv2", reason="lenses are straightened by OpenCV, of extra footage")
    rays = np.array([[0.1, 0.2, 1.0], [-0.3, 0.1, 1], [0, 0, 1]])
    np.testing.assert_allclose(to_tangents(to_pixels(rays, lens), lens), rays[:, :2], atol=1e-4)
    plain = to_pixels(rays, PLAIN)
    np.testing.assert_allclose(plain, rays[:, :2] * [700, 720] + [330, 215])


def test_a_cut_beyond_the_border_is_told_and_mirrored():
    lens = Lens(width=100, height=100, fx=426.47, fy=426.47, cx=50, cy=50)
    inside, beside = (cut_of(camera(turn=turn), np.zeros(3)) for turn in (0, 0.1))
    assert inside is not None
    assert beside is not None
    assert outside(inside, lens) < 0.1
    # Half a radian times the focal length over the side is shifted out of the picture.
    assert outside(beside, lens) == pytest.approx(np.tan(0.1) * FFHQ_FOCAL, abs=0.08)
    assert draw(np.full((100, 100, 3), 90, np.uint8), beside, lens, 32).min() == 90


def test_a_camera_that_looks_away_has_no_cut():
    pose = camera()
    pose[:3, :3] = pose[:3, :3] @ np.diag([-1.0, 1, -1])
    assert cut_of(pose, CENTER) is None


def test_crops_of_eg3ds_are_whole_and_others_are_not():
    pose = scene(orbit([0.7])).cam2world[0]
    usual = scene(orbit([0.7])).lenses[0]
    assert is_whole(pose, usual)
    for changes in ({"width": 40}, {"fx": 200.0}, {"cx": 8.0}, {"distortion": (0.1,)}):
        assert not is_whole(pose, Lens(**{**vars(usual), **changes}))
    far = pose.copy()
    far[:3, 3] *= 1.2
    assert not is_whole(far, usual)


def test_distortion_without_opencv_is_refused_with_the_repair(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    cut = cut_of(camera(), CENTER)
    assert cut is not None
    pixels = np.zeros((480, 640, 3), np.uint8)
    assert draw(pixels, cut, PLAIN, 16).shape == (16, 16, 3)
    with pytest.raises(InputError, match=r"straightening .* needs OpenCV: pip .*\[footage\]"):
        draw(pixels, cut, BENT, 16)
