import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inversion.features.face_crop import area_resize, shrink_to

pytestmark = pytest.mark.compiled_in_full


def pooled_slowly(image, height, width):
    """Adaptive average pooling as it is defined, cell by cell."""
    rows, columns = image.shape[:2]
    out = np.empty((height, width, image.shape[2]))
    for i in range(height):
        for j in range(width):
            top, bottom = i * rows // height, -(-(i + 1) * rows // height)
            left, right = j * columns // width, -(-(j + 1) * columns // width)
            out[i, j] = image[top:bottom, left:right].mean(axis=(0, 1))
    return out


@given(st.tuples(*[st.integers(1, 6)] * 4))
@settings(deadline=None, max_examples=20)
def test_every_factor_averages_the_cells_of_adaptive_pooling(sizes):
    rows, columns, height, width = sizes
    image = np.random.default_rng(0).uniform(-1, 1, (rows, columns, 2)).astype(np.float32)
    actual = area_resize(image, (height, width))
    np.testing.assert_allclose(actual, pooled_slowly(image, height, width), atol=1e-6)


def test_halving_equals_the_stored_area_interpolation(golden):
    image = golden["area/x12"][0].transpose(1, 2, 0)
    actual = jax.jit(area_resize, static_argnums=1)(image, 6)
    np.testing.assert_allclose(actual, golden["area/to6"][0].transpose(1, 2, 0), atol=1e-6)


def test_only_larger_images_shrink():
    image = np.linspace(-1, 1, 8 * 8 * 3, dtype=np.float32).reshape(8, 8, 3)
    assert shrink_to(image, 8) is image
    assert shrink_to(image, None) is image
    np.testing.assert_allclose(
        shrink_to(image, 4), image.reshape(4, 2, 4, 2, 3).mean((1, 3)), atol=1e-6
    )


@pytest.mark.parametrize(
    ("shape", "message"),
    [((8, 8), "wanted"), ((2, 8, 8, 3), "vmap"), ((8, 8, 4), "wanted"), ((8, 6, 3), "square")],
)
def test_images_of_other_shapes_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        shrink_to(np.zeros(shape, np.float32), 4)


def test_a_size_of_zero_is_refused():
    with pytest.raises(ValueError, match="positive"):
        area_resize(np.zeros((8, 8, 3), np.float32), 0)
