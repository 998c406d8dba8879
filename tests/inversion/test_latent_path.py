"""Length and straightness of the path of latents."""

import numpy as np
import pytest
from golden_rule import normal

from inversion.latents import step_lengths, turning_angles

pytestmark = pytest.mark.compiled_in_full


def test_distances_and_angles_equal_the_stored_ones(golden):
    w = np.cumsum(normal("inv/path", (6, 14, 512)), axis=0)
    # Sums of 7,168 squares in float32 against float64.
    np.testing.assert_allclose(step_lengths(w), golden["path/neighbour_dist"], rtol=1e-6)
    np.testing.assert_allclose(np.radians(turning_angles(w)), golden["path/turn_angle"], atol=1e-5)


def test_straight_right_angled_and_backward_turns():
    points = np.array([[0, 0], [1, 0], [3, 0], [3, 2], [3, 1], [3, 1]], float)[:, None]
    np.testing.assert_allclose(step_lengths(points), [1, 2, 2, 1, 0])
    np.testing.assert_allclose(turning_angles(points)[:3], [180, 90, 0], atol=1e-12)
    assert np.isnan(turning_angles(points)[3])


def test_a_straight_line_is_straight_to_the_last_digit():
    steps = np.linspace(0, 1, 5)[:, None, None]
    line = steps * np.random.default_rng(0).standard_normal((1, 14, 64))
    np.testing.assert_allclose(turning_angles(line), 180, atol=1e-12)


def test_one_latent_has_no_path_and_other_shapes_are_refused():
    assert step_lengths(np.zeros((1, 2, 3))).shape == (0,)
    assert turning_angles(np.zeros((2, 2, 3))).shape == (0,)
    with pytest.raises(ValueError, match=r"\[K, L, D\]"):
        step_lengths(np.zeros((2, 3)))
