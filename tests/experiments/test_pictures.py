"""Pictures show what the arrays hold."""

import numpy as np
import pytest
from PIL import Image

from experiments.media.pictures import colour_depth, encode_jpeg, grid, resized, save_png, to_uint8


def test_reading_and_showing_undo_each_other():
    values = np.arange(256, dtype=np.uint8)
    read = values.astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1)
    np.testing.assert_array_equal(to_uint8(read), values)


def test_values_outside_the_range_are_clamped_and_none_wraps():
    shown = to_uint8(np.array([-3.0, -1.0, 0.999, 1.0, 1.01, 5.0, np.nan, np.inf, -np.inf]))
    np.testing.assert_array_equal(shown, [0, 0, 255, 255, 255, 255, 0, 255, 0])


def test_depth_colours_keep_one_range_and_white_means_nothing_there():
    depth = np.array([[2.3, 3.1, 1.0, 9.0], [2.7, 0.0, np.nan, 2.7]])
    opacity = np.ones((2, 4))
    opacity[1, 3] = 0.3
    colours = colour_depth(depth, near=2.3, far=3.1, opacity=opacity)
    assert colours.shape == (2, 4, 3)
    assert colours.dtype == np.uint8
    np.testing.assert_array_equal(colours[0, 0], colours[0, 2])  # nearer than the range
    np.testing.assert_array_equal(colours[0, 1], colours[0, 3])  # further
    assert colours[0, 0].sum() > colours[1, 0].sum() > colours[0, 1].sum()
    assert (colours[1, 1:] == 255).all()
    with pytest.raises(ValueError, match="near"):
        colour_depth(depth, near=3.1, far=2.3)


def test_pictures_of_a_grid_are_kept_pixel_by_pixel(tmp_path):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (2, 3, 32, 32, 3), dtype=np.uint8)
    plain = grid(pictures)
    np.testing.assert_array_equal(plain[:32, :32], pictures[0, 0])
    np.testing.assert_array_equal(plain[-32:, -32:], pictures[1, 2])
    named = grid(pictures, columns=["target", "inversion", "depth"], labels=["left", "right"])
    np.testing.assert_array_equal(named[-32:, -32:], pictures[1, 2])
    assert named.shape[0] > plain.shape[0]
    assert named.shape[1] > plain.shape[1]
    save_png(tmp_path / "grid.png", named)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "grid.png")), named)


def test_pictures_of_other_sizes_are_brought_to_one():
    small, large = np.zeros((16, 16, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    assert grid([[small, large]]).shape == (32, 66, 3)
    small[3, 5] = 200
    assert (resized(small, 32)[6:8, 10:12] == 200).all()
    assert resized(small, 24).shape == (24, 24, 3)


@pytest.mark.parametrize(
    "texts", [{"columns": ["a"]}, {"labels": ["a", "b"]}, {"columns": ["a"] * 3}]
)
def test_texts_must_fit_the_grid(texts):
    pictures = np.zeros((1, 2, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="headings"):
        grid(pictures, **texts)


@pytest.mark.parametrize("rows", [[], [[]]])
def test_an_empty_grid_is_refused(rows):
    with pytest.raises(ValueError, match="lengths"):
        grid(rows)


def test_jpeg_stays_close():
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8)[:, None, None], (1, 64, 3))
    assert encode_jpeg(ramp)[:2] == b"\xff\xd8"
