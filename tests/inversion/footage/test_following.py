"""One face is followed through a video, and cuts are seen; nets are stubs that see squares."""

import itertools

import numpy as np
import pytest
import stub_faces
from PIL import Image
from stub_faces import scene, with_face

from inversion.footage.following import (
    difference,
    find_dissolves,
    find_parts,
    follow,
    look_at_photo,
    sharpness,
    turned_point,
    upright_turns,
)
from inversion.footage.pictures import Picture


@pytest.fixture(autouse=True)
def stubs(monkeypatch):
    stub_faces.put_in_place(monkeypatch)


def video(*pictures):
    return [Picture("head.mp4", i / 30, pixels) for i, pixels in enumerate(pictures)]


def looks(*pictures, **options):
    return [look for look, _ in follow(None, video(*pictures), **options)]


def lefts(found):
    """Left edge of the face in each picture; None where there is none."""
    return [None if s.landmarks is None else round(s.landmarks.points[:, 0].min()) for s in found]


def test_the_largest_face_is_followed_though_another_grows():
    room = scene()
    pictures = [
        with_face(with_face(room, 20 + 5 * i, 60, 80), 220, 60, 40 + 6 * i) for i in range(8)
    ]
    assert lefts(looks(*pictures)) == [20 + 5 * i for i in range(8)]
    assert looks(*pictures)[0].faces == 2


def test_a_person_is_chosen_by_a_pixel():
    pictures = [with_face(with_face(scene(), 20, 60, 80), 220, 60, 40)] * 3
    assert lefts(looks(*pictures, person=(230, 70))) == [220] * 3


def test_a_face_that_was_lost_is_found_again_where_it_was_expected():
    room = scene()
    both = with_face(with_face(room, 30, 60, 60), 200, 60, 90)
    alone = with_face(room, 30, 60, 60)
    found = looks(alone, alone, room, room, both)
    assert lefts(found) == [30, 30, None, None, 30]
    assert not any(look.jumped for look in found)


def test_a_video_without_cuts_is_one_part():
    pictures = [with_face(np.roll(scene(), 3 * i, 1), 40 + 10 * i, 60) for i in range(10)]
    assert find_parts(looks(*pictures)) == [range(10)]


def test_another_scene_is_a_cut_and_so_is_a_face_elsewhere():
    first, second = scene(seed=1), scene(seed=2)
    shots = [with_face(first, 40, 60)] * 4 + [with_face(second, 60, 60)] * 6
    shots += [with_face(second, 220, 100)] * 3
    assert find_parts(looks(*shots)) == [range(4), range(4, 10), range(10, 13)]


def test_a_flash_of_light_is_no_cut():
    usual, flash = with_face(scene(), 40, 60), np.full((240, 320, 3), 255, np.uint8)
    assert find_parts(looks(*[usual] * 4, flash, *[usual] * 4)) == [range(9)]


@pytest.mark.parametrize("length", [5, 15, 40])
def test_a_dissolve_is_a_part_of_its_own(length):
    """The head stands where it stood; nothing jumps, and no two neighbours are unlike."""
    first, second = (with_face(scene(seed=seed), 100, 60).astype(float) for seed in (1, 2))
    parts = np.linspace(0, 1, length + 2)[1:-1]
    mixed = [np.rint((1 - p) * first + p * second).astype(np.uint8) for p in parts]
    shots = [first.astype(np.uint8)] * 30, mixed, [second.astype(np.uint8)] * 40
    before, slow, after = find_parts(looks(*itertools.chain(*shots)))
    assert (before.start, after.stop) == (0, 70 + length)
    # The first and last twentieth of the way can hardly be seen.
    assert abs(slow.start - 30) <= 1 + length // 20
    assert abs(slow.stop - 30 - length) <= 1 + length // 20


def test_moving_cameras_and_changing_light_are_no_dissolves():
    room = np.tile(scene(), (1, 3, 1))
    small = [np.asarray(Image.fromarray(room[:, x : x + 320]).convert("L").resize((32, 18)))
             for x in range(0, 640, 8)]  # fmt: skip
    assert find_dissolves(small) == []
    dimmed = [np.rint(light * small[0]).astype(np.uint8) for light in np.linspace(1, 0.2, 40)]
    assert find_dissolves(dimmed) == []
    assert find_dissolves(small[:3]) == find_dissolves([]) == []


def test_pictures_differ_by_their_own_contrast():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 18, 32), dtype=np.uint8)
    # Of even values up to 255: a third of that between two, and a standard deviation of 74.
    assert difference(first, second) == pytest.approx(85 / (74 + 4), abs=0.1)
    assert difference(first // 8, second // 8) > 0.6
    assert difference(first, first) == 0
    dark = np.full((18, 32), 3, np.uint8)
    assert difference(dark, dark + 1) < 0.3


@pytest.mark.parametrize("turns", range(4))
def test_a_point_turns_with_its_picture(turns):
    pixels = np.zeros((30, 50), np.uint8)
    pixels[10, 40] = 1
    x, y = turned_point((40.5, 10.5), turns, 30, 50)
    assert np.rot90(pixels, turns)[int(y), int(x)] == 1


def test_a_video_that_lies_on_its_side_is_turned():
    upright = with_face(scene(), 100, 40)
    assert upright_turns(None, video(scene(), *[upright] * 3)) == 0
    lying = np.rot90(upright, -1)
    assert upright_turns(None, video(scene(), *[lying] * 3)) == 1
    assert upright_turns(None, video(scene())) == 0
    found, pixels = next(iter(follow(None, video(lying), turns=1)))
    assert (pixels == upright).all()
    assert lefts([found]) == [100]


def test_each_photo_is_turned_by_itself_and_points_with_it():
    upright = with_face(with_face(scene(), 20, 60, 80), 220, 60, 60)
    for pixels, turns, point in (
        (upright, 0, (230, 70)),
        (np.ascontiguousarray(np.rot90(upright, -1)), 1, (240 - 70, 230)),
    ):
        look, shown = look_at_photo(None, Picture("a.jpg", None, pixels), person=point)
        assert look.turns == turns
        assert (shown == upright).all()
        assert lefts([look]) == [220]


def test_sharpness_falls_with_blur_and_does_not_see_size_or_light():
    rng = np.random.default_rng(0)
    fine = rng.integers(0, 256, (64, 64), dtype=np.uint8).repeat(2, 0).repeat(2, 1)
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[30:158, 30:158] = fine[..., None]
    points = np.array([[30, 30], [158, 158]])
    sharp = sharpness(picture, points)
    large = sharpness(picture.repeat(2, 0).repeat(2, 1), 2 * points)
    assert large == pytest.approx(sharp, rel=0.01)
    assert sharpness(picture // 2, points) == pytest.approx(sharp, rel=0.1)
    blurred = picture.astype(float)
    blurred = sum(np.roll(blurred, (i, j), (0, 1)) for i in range(4) for j in range(4)) / 16
    assert sharpness(blurred.astype(np.uint8), points) < 0.4 * sharp
    assert np.isnan(sharpness(picture, points + 500))
