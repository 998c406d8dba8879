"""Faces and landmarks in a public-domain photograph, and the steps to them by closed forms."""

import dataclasses
import math
from typing import cast

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

import inversion
from inversion.footage import landmarks
from inversion.footage.landmarks import (
    Face,
    Landmarks,
    best_turn,
    cut_turned,
    find_faces,
    find_landmarks,
)
from inversion.footage.nets import FaceNets, load_face_nets


@pytest.fixture(scope="module")
def nets():
    return load_face_nets()


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    """Her head and shoulders: 300 x 260 pixels of the picture that scikit-image ships."""
    data = pytest.importorskip("skimage.data", reason="the photograph comes with scikit-image")
    return data.astronaut()[:300, 100:360]


@pytest.fixture(scope="module")
def found(nets, astronaut):
    return find_landmarks(nets, astronaut, find_faces(nets, astronaut)[0])


# Read off the enlarged picture by eye, to two pixels.
SEEN = {"right eye": (105, 101.5), "left eye": (146.5, 105), "nose": (124, 130), "chin": (123, 178)}
POINTS = {"right eye": [33, 133], "left eye": [362, 263], "nose": [1], "chin": [152]}


def test_a_face_is_found_where_it_is(nets, astronaut):
    (face,) = find_faces(nets, astronaut)
    assert face.score > 0.8
    assert 150 < face.side < 170  # 1.5 times the face, 106 pixels from hairline to chin
    # Her head leans to her left by 4 degrees, by both eyes; six points are one box's, to 4 pixels.
    assert abs(math.degrees(face.roll) - 4) < 3
    np.testing.assert_allclose(face.keypoints[0], SEEN["right eye"], atol=4)
    np.testing.assert_allclose(face.keypoints[1], SEEN["left eye"], atol=4)
    np.testing.assert_allclose(face.keypoints[2], SEEN["nose"], atol=4)


def test_landmarks_lie_where_they_are_seen(found):
    assert found.points.shape == (468, 3)
    assert found.points.dtype == np.float32
    assert found.presence > 0.99
    assert found.mirror_gap < 0.01
    for name, indices in POINTS.items():
        np.testing.assert_allclose(
            found.points[indices, :2].mean(axis=0), SEEN[name], atol=3, err_msg=name
        )
    # The tip of the nose is nearer to the camera than the ears, by about half of the face's width.
    width = np.ptp(found.points[:, 0])
    depth = found.points[[234, 454], 2].mean() - found.points[1, 2]
    assert 0.4 < depth / width < 0.8


def test_the_window_is_around_the_points(found):
    face = found.face
    level = (found.points[:, :2] - face.center) @ landmarks._rotation(face.roll)
    # Rounding to float32 of numbers up to 200.
    np.testing.assert_allclose(level.max(axis=0), -level.min(axis=0), atol=1e-4)
    assert abs(1.5 * np.ptp(level, axis=0).max() - face.side) < 1e-3
    np.testing.assert_allclose(face.keypoints[2], found.points[1, :2], atol=1e-4)


def test_the_mirror_image_has_mirrored_landmarks(nets, astronaut, found):
    width = astronaut.shape[1]
    mirrored = np.ascontiguousarray(astronaut[:, ::-1])
    face = find_landmarks(nets, mirrored, find_faces(nets, mirrored)[0])
    points = face.points[landmarks._mirror()] * (-1, 1, 1) + (width, 0, 0)
    # The windows begin from other detections; three passes bring them within this.
    assert np.abs(points - found.points).max() < 0.01 * found.face.side
    assert abs(face.mirror_gap - found.mirror_gap) < 0.001


@pytest.mark.parametrize("degrees", [200])
def test_a_turned_picture_has_the_same_landmarks(nets, astronaut, found, degrees):
    turned = np.asarray(
        Image.fromarray(astronaut).rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    )
    face = best_turn(nets, turned)
    assert face is not None
    back = math.radians(degrees)
    assert abs(landmarks._principal(face.roll + back - found.face.roll)) < math.radians(1)
    points = find_landmarks(nets, turned, face).points[:, :2]
    rotation = landmarks._rotation(-back)
    wanted = (found.points[:, :2] - np.array(astronaut.shape[1::-1]) / 2) @ rotation.T
    wanted += np.array(turned.shape[1::-1]) / 2
    # Over 24 turns .1 % of the window was measured; a pixel of this picture is .6 %.
    assert np.linalg.norm(points - wanted, axis=1).mean() < 0.004 * found.face.side


@pytest.mark.parametrize("degrees", [45, 165, 285])
def test_a_turned_photo_has_the_same_camera(astronaut, tmp_path, degrees):
    photo = Image.fromarray(astronaut)
    turned = photo.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    poses = []
    for name, image in ("upright.png", photo), ("turned.png", turned):
        image.save(tmp_path / name)
        (frame,) = inversion.prepare_footage(tmp_path / name).kept
        left = 90 * frame.turns + (degrees if image is turned else 0)
        pose = frame.cam2world[:3, :3].copy()
        pose[:, :2] @= landmarks._rotation(-math.radians(left))  # undo it about the camera's axis
        poses.append(pose)
    # The bar of the specification; .3 over all multiples of 15 of four photos.
    between = Rotation.from_matrix(poses[0].T @ poses[1]).magnitude()
    assert math.degrees(between) < 1


def test_quarter_turns_give_faces_of_the_picture_as_it_is(nets, astronaut):
    (upright,) = find_faces(nets, astronaut)
    # Lying on its side: upright again after three more counterclockwise turns.
    lying = np.ascontiguousarray(np.rot90(astronaut))
    (face,) = find_faces(nets, lying, quarter_turns=3)
    height, width = lying.shape[:2]
    assert (width, height) == astronaut.shape[:2]
    np.testing.assert_allclose(face.center, (upright.center[1], height - upright.center[0]))
    np.testing.assert_allclose(face.roll, upright.roll - math.pi / 2)
    assert face.side == upright.side


def test_a_small_face_is_found_in_a_tile(nets, astronaut):
    large = np.full((1000, 1000, 3), 100, np.uint8)
    small = Image.fromarray(astronaut).resize((130, 150), Image.Resampling.BOX)
    large[620:770, 700:830] = np.asarray(small)
    (face,) = find_faces(nets, large)
    np.testing.assert_allclose(face.center, (700 + 62, 620 + 61), atol=6)
    assert find_landmarks(nets, large, face).presence > 0.9


@pytest.mark.parametrize("shape", [(120, 200), (2, 1500), (1, 1)])
def test_no_face_is_found_in_a_picture_without_one(nets, shape):
    ramp = np.linspace(0, 255, shape[1]).astype(np.uint8)
    picture = np.stack([np.broadcast_to(ramp, shape)] * 3, axis=-1)
    assert find_faces(nets, picture) == []


@pytest.mark.parametrize(
    ("scores", "rolls", "wanted"),
    [
        # Upside down, the nets are surer, by less than the half turn weighs.
        ((0.6, 0.0, 0.95, 0.0), (0, 0, 180, 0), 0),
        ((0.95, 0.0, 0.6, 0.0), (180, 0, 0, 0), 2),
        # 20 degrees to either side weigh a ninth of the score.
        ((0.8, 0.0, 0.0, 0.9), (-10, 0, 0, 30), 0),
        ((0.8, 0.0, 0.0, 0.93), (10, 0, 0, -30), 3),
        ((0.0, 0.9, 0.8, 0.0), (0, -30, 10, 0), 2),
    ],
)
def test_of_two_turns_the_one_is_taken_in_which_the_head_stands_upright(
    monkeypatch, scores, rolls, wanted
):
    def look(nets, pixels, turns):
        roll = landmarks._principal(math.radians(rolls[turns] + 90 * turns))
        center = np.array([float(turns), 0.0])
        return [Face(center, 9.0, roll, scores[turns], np.zeros((6, 2)))] if scores[turns] else []

    def seen(nets, pixels, face):
        return Landmarks(np.zeros((468, 3), np.float32), 1.0, 0.0, face)

    monkeypatch.setattr(landmarks, "_at_a_glance", look)
    monkeypatch.setattr(landmarks, "find_landmarks", seen)
    face = best_turn(cast(FaceNets, None), np.zeros((8, 8, 3), np.uint8))
    assert face is not None
    assert face.center[0] == wanted


def test_no_turn_of_a_picture_without_a_face_has_one(nets):
    picture = np.zeros((50, 70, 3), np.uint8)
    assert best_turn(nets, picture) is None


def test_a_window_at_the_border_without_a_face_has_low_presence(nets, astronaut):
    for center in ((-20.0, -20.0), (259.0, 299.0)):
        face = Face(np.array(center), 60.0, 1.0, 1.0, np.zeros((6, 2)))
        assert find_landmarks(nets, astronaut, face).presence < 0.1


@pytest.mark.parametrize("picture", [np.zeros((9, 9)), np.zeros((9, 9, 4), np.uint8)])
def test_what_is_no_picture_is_refused(nets, picture):
    face = Face(np.array([4.0, 4.0]), 5.0, 0.0, 1.0, np.zeros((6, 2)))
    for refuse in (find_faces, best_turn, lambda n, p: find_landmarks(n, p, face)):
        with pytest.raises(ValueError, match=r"wanted uint8 \[height, width, 3\]"):
            refuse(nets, picture)


def window(center, side, degrees) -> Face:
    return Face(np.array(center, float), side, math.radians(degrees), 1.0, np.zeros((6, 2)))


@pytest.mark.parametrize("side", [40.0, 70.0, 150.0, 333.0])
@pytest.mark.parametrize("degrees", [0, 30, 90, -160])
def test_a_window_shows_the_picture_at_its_own_points(side, degrees):
    """Pictures that rise evenly along x or y: interpolation and averages keep straight lines.

    Pillow rounds interpolated colours down. The second colour falls, so that this cancels out.
    """
    middles = np.mgrid[:500, :500] + 0.5
    steps = (np.arange(64) + 0.5) / 64 - 0.5
    v, u = np.meshgrid(steps, steps, indexing="ij")
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    for rising, wanted in (
        (middles[1] / 2, 260.3 + side * (cosine * u - sine * v)),
        (middles[0] / 2, 243.8 + side * (sine * u + cosine * v)),
    ):
        picture = np.stack([rising, 255 - rising, rising], axis=-1).round().astype(np.uint8)
        shown = cut_turned(picture, window((260.3, 243.8), side, degrees), 64).astype(float)
        place = shown[..., 0] - shown[..., 1] + 255
        # The picture and its averages are rounded by a half at most, the window by one, and the
        # difference counts each twice.
        np.testing.assert_allclose(place, wanted, rtol=0, atol=4)
        # All in all the window is where it should be to a tenth of a pixel.
        assert abs(np.mean(place - wanted)) < 0.1


@pytest.mark.parametrize("size", [16, 50])
def test_the_border_is_repeated_outside_the_picture(size):
    picture = np.zeros((60, 50, 3), np.uint8)
    picture[:, :25], picture[:, 25:] = (10, 20, 30), (200, 210, 220)
    shown = cut_turned(picture, window((25, 10), 100, 0), size)
    assert shown.shape == (size, size, 3)
    # But for the columns at the edge, which are between both colours.
    assert np.all(shown[:, : size // 2 - 1] == (10, 20, 30))
    assert np.all(shown[:, size // 2 + 1 :] == (200, 210, 220))


@pytest.mark.parametrize("change", [{"side": 0.0}, {"side": math.nan}, {"center": (900.0, 5.0)}])
def test_a_window_outside_the_picture_is_refused(change):
    face = window((30, 30), 20.0, 10)
    face = dataclasses.replace(
        face, **{k: np.array(v) if k == "center" else v for k, v in change.items()}
    )
    with pytest.raises(ValueError, match="outside the picture of 50 x 60 pixels"):
        cut_turned(np.zeros((60, 50, 3), np.uint8), face, 32)


def test_anchors_are_the_middles_of_cells():
    short, full = landmarks._anchors("short_range", 128), landmarks._anchors("full_range", 192)
    assert (short.shape, full.shape) == ((896, 2), (2304, 2))
    # Two in each cell of 8 pixels, row by row; then six in each of 16.
    np.testing.assert_array_equal(
        short[[0, 1, 2, 32, 511]], [[4, 4], [4, 4], [12, 4], [4, 12], [124, 124]]
    )
    np.testing.assert_array_equal(
        short[[512, 517, 518, 895]], [[8, 8], [8, 8], [24, 8], [120, 120]]
    )
    np.testing.assert_array_equal(full[[0, 1, 48, 2303]], [[2, 2], [6, 2], [2, 6], [190, 190]])


def test_boxes_are_measured_from_their_anchors():
    values, scores = np.zeros((896, 16), np.float32), np.full(896, -200.0, np.float32)
    scores[2], scores[3] = 2.0, -0.1  # the latter below one half
    values[2] = [3, -1, 20, 10, *range(12)]
    found = landmarks._decode("short_range", 128, values, scores)
    np.testing.assert_allclose(found.scores, [1 / (1 + math.exp(-2))])
    np.testing.assert_allclose(found.boxes, [[5, -2, 25, 8]])
    np.testing.assert_allclose(found.keypoints[0, [0, 5]], [[12, 5], [22, 15]])


def test_boxes_of_one_face_are_joined_by_their_scores():
    boxes = np.array([[0, 0, 10, 10], [2, 0, 12, 10], [30, 0, 40, 10]], float)
    keypoints = np.repeat(boxes[:, None, :2], 6, axis=1)
    found = landmarks._suppress(landmarks._Boxes(boxes, keypoints, np.array([0.6, 0.9, 0.7])))
    np.testing.assert_allclose(found.scores, [0.9, 0.7])
    x = 2 * 0.9 / 1.5
    np.testing.assert_allclose(found.boxes, [[x, 0, 10 + x, 10], [30, 0, 40, 10]])
    np.testing.assert_allclose(found.keypoints[0, 0], [x, 0])


def test_a_face_that_two_nets_see_is_one():
    boxes = np.array([[0, 0, 10, 10], [30, 0, 40, 10]], float)
    one = landmarks._Boxes(boxes, np.zeros((2, 6, 2)), np.array([0.6, 0.9]))
    other = landmarks._Boxes(boxes[:1] + 1, np.ones((1, 6, 2)), np.array([0.8]))
    found = landmarks._merge([one, other])
    np.testing.assert_array_equal(found.boxes, [[30, 0, 40, 10], [1, 1, 11, 11]])
    nothing = landmarks._Boxes(boxes[:0], np.zeros((0, 6, 2)), np.zeros(0))
    assert len(landmarks._merge([landmarks._suppress(nothing)])) == 0


@pytest.mark.parametrize(
    ("width", "height", "side"), [(1280, 720, 640), (1000, 1000, 500), (900, 300, 450)]
)
def test_tiles_cover_the_picture_and_overlap_by_half(width, height, side):
    tiles = landmarks._tiles(width, height, side)
    covered = np.zeros((height, width), int)
    for left, top, right, bottom in tiles:
        assert (right - left, bottom - top) == (min(side, width), min(side, height))
        covered[top:bottom, left:right] += 1
    assert covered.min() >= 1
    lefts = sorted({tile[0] for tile in tiles})
    assert np.diff(lefts).max() <= side / 2
