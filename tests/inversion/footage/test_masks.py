"""Masks of the person in a crop; the net is a stub that takes white for a person."""

from types import SimpleNamespace

import numpy as np

from inversion.footage.masks import outside_picture, person_mask
from inversion.footage.windows import Window, cut


class White:
    graph = SimpleNamespace(side=32)

    def __call__(self, images):
        return (images[..., :1],)


def picture(*boxes, side=64):
    """A black picture with white boxes: left, top, right, bottom."""
    pixels = np.zeros((side, side, 3), np.uint8)
    for left, top, right, bottom in boxes:
        pixels[top:bottom, left:right] = 255
    return pixels


FACE = np.array([[16.0, 20.0], [20.0, 24.0], [np.nan, np.nan], [-3.0, 70.0]])


def masked(pixels, face=FACE, outside=None):
    return person_mask(White(), pixels, face, outside)


def test_the_mask_has_the_crops_size_and_is_soft_along_the_outline():
    mask = masked(picture((8, 8, 40, 56)))
    assert (mask.shape, mask.dtype) == ((64, 64), np.uint8)
    assert (mask[12:52, 12:36] == 255).all()
    assert (mask[:, 44:] == 0).all()
    assert (mask[:4] == 0).all()
    # The outline lies where the picture's does, to half a pixel of the net's.
    assert np.flatnonzero(mask[30] >= 128).tolist() == list(range(8, 40))
    assert len(np.unique(mask)) > 2


def test_other_people_are_left_out():
    both = picture((8, 8, 30, 40), (40, 8, 60, 40))
    one = masked(picture((8, 8, 30, 40)))
    np.testing.assert_array_equal(masked(both), one)
    other = masked(both, FACE + [30, 0])
    assert other[:, :34].max() == 0
    assert other[20, 50] == 255


def test_who_has_no_point_of_the_face_is_kept_where_nobody_has_one():
    both = picture((8, 8, 30, 40), (40, 8, 60, 40))
    mask = masked(both, np.full((4, 2), np.nan))
    assert mask[20, 20] == mask[20, 50] == 255


def test_an_empty_mask_stays_empty():
    assert masked(picture()).max() == 0


def test_what_lies_outside_the_picture_is_what_the_crop_continues():
    """Pixels of the crop whose middles lie off the picture, on the sides where it ends."""
    window = Window(np.array([30.0, 80.0]), 80.0)
    outside = outside_picture(window, 100, 200, 40)  # two pixels of the picture each
    assert outside.sum(axis=0).tolist() == [40] * 5 + [10] * 35
    assert outside[:, 10].tolist() == [False] * 30 + [True] * 10
    white = np.full((100, 200, 3), 255, np.uint8)
    mask = masked(cut(white, window, 40), outside=outside)
    np.testing.assert_array_equal(mask, np.where(outside, 0, 255))
