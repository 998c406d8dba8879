import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eg3d_jax.cameras import azimuth, from_label, yaw_pitch_camera
from inversion.views import (
    Views,
    ascending_azimuths,
    continuous_azimuths,
    select_along,
    select_evenly,
)

pytestmark = pytest.mark.compiled_in_full

FRONT = st.lists(st.floats(0.1, 3.0), min_size=1, max_size=9)
ANYWHERE = st.lists(st.floats(-np.pi, np.pi), min_size=1, max_size=9)


@pytest.fixture(scope="module")
def azimuths(golden):
    actual = np.asarray(azimuth(from_label(golden["select/c"])))
    np.testing.assert_allclose(actual, golden["select/xz_angle"], atol=1e-6)
    return actual


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_selection_equals_the_stored_one(golden, azimuths, count):
    np.testing.assert_array_equal(select_evenly(azimuths, count), golden[f"select/evenly_{count}"])


@pytest.mark.parametrize("knots", [3, 5])
def test_split_equals_the_stored_one(golden, azimuths, knots):
    """Every second of the chosen frames, as `inversion.methods` takes for knots."""
    chosen = select_evenly(azimuths, 2 * knots - 1)
    np.testing.assert_array_equal(chosen[::2], golden[f"select/split_{knots}_targets"])
    np.testing.assert_array_equal(chosen[1::2], golden[f"select/split_{knots}_between"])


@given(ANYWHERE, st.data())
@settings(deadline=None)
def test_every_frame_is_chosen_once_in_order_of_azimuth(angles, data):
    count = data.draw(st.integers(1, len(angles)))
    chosen = select_evenly(angles, count)
    assert chosen.shape == (count,)
    assert len(set(chosen.tolist())) == count
    assert np.all(np.diff(continuous_azimuths(angles)[chosen]) >= 0)


@pytest.mark.parametrize("arc", [170, 190, 240, 359, 360])
@pytest.mark.parametrize("count", [2, 3, 5, 9])
@pytest.mark.parametrize("middle", [0, 90, 180])
def test_any_views_of_a_selection_ascend(arc, count, middle):
    yaw = np.radians(middle + arc * np.linspace(-0.5, 0.5, 37)[: 36 if arc == 360 else 37])
    angles = np.asarray(azimuth(yaw_pitch_camera(yaw, 0.0)))
    chosen = angles[select_evenly(angles, 9)]
    knots = np.linspace(0, 8, count).round().astype(int)
    ascending = ascending_azimuths(chosen)[knots]
    assert np.all(np.diff(ascending) > 0)
    assert ascending[-1] - ascending[0] < 2 * np.pi
    np.testing.assert_allclose(np.exp(1j * ascending), np.exp(1j * chosen[knots]), atol=1e-6)


@given(FRONT, st.data())
@settings(deadline=None)
def test_no_other_distinct_frames_are_nearer_to_the_angles(angles, data):
    count = data.draw(st.integers(1, min(len(angles), 5)))
    angles = np.asarray(angles)
    targets = np.linspace(angles.min(), angles.max(), count) if count > 1 else [np.pi / 2]

    def total(frames):
        return np.abs(np.sort(angles[list(frames)]) - targets).sum()

    least = min(total(frames) for frames in itertools.combinations(range(len(angles)), count))
    assert total(select_evenly(angles, count)) == pytest.approx(least, abs=1e-9)


@given(st.lists(st.floats(0, 9), min_size=2, max_size=9), st.data())
def test_along_any_value_the_ends_are_chosen_and_none_twice(values, data):
    count = data.draw(st.integers(2, len(values)))
    chosen = select_along(values, count)
    assert len(set(chosen)) == count
    found = np.asarray(values)[chosen]
    assert np.all(np.diff(found) >= 0)
    assert (found[0], found[-1]) == (min(values), max(values))


def test_along_a_value_entries_crowd_where_it_rises():
    assert list(select_along([0.0, 1.0, 1.1, 1.2, 2.0, 3.0], 4)) == [0, 1, 4, 5]


def test_a_frame_is_not_repeated_where_the_reference_repeats_it():
    angles = [1.0, 2.0, 2.1, 2.2]
    # The nearest to 1.0, 1.4, 1.8, 2.2 would be frames 0, 0, 1, 3.
    np.testing.assert_array_equal(select_evenly(angles, 4), [0, 1, 2, 3])
    np.testing.assert_array_equal(select_evenly([1.0, 1.0, 1.0], 2).shape, 2)


@given(FRONT)
@settings(deadline=None)
def test_azimuths_in_front_of_the_head_stay_as_they_are(angles):
    np.testing.assert_array_equal(continuous_azimuths(angles), angles)


@given(ANYWHERE)
@settings(deadline=None)
def test_continuous_azimuths_are_the_same_angles_within_one_turn(angles):
    out = continuous_azimuths(angles)
    assert np.ptp(out) < 2 * np.pi + 1e-9
    np.testing.assert_allclose(np.exp(1j * out), np.exp(1j * np.asarray(angles)), atol=1e-9)


def test_a_video_that_passes_behind_the_head_is_selected_in_order():
    path = np.linspace(2.0, 4.5, 11)
    wrapped = (path + np.pi) % (2 * np.pi) - np.pi
    assert np.any(np.diff(wrapped) < 0)
    np.testing.assert_allclose(continuous_azimuths(wrapped), path)
    np.testing.assert_array_equal(select_evenly(wrapped, 3), [0, 5, 10])
    order = np.random.default_rng(0).permutation(11)
    np.testing.assert_array_equal(order[select_evenly(wrapped[order], 3)], [0, 5, 10])


def test_a_full_orbit_is_cut_at_pi():
    orbit = np.linspace(-np.pi, np.pi, 12, endpoint=False) + 0.1
    np.testing.assert_allclose(continuous_azimuths(orbit), orbit)


def test_one_view_is_the_frontal_one_seen_around_the_circle():
    assert select_evenly([0.3, 1.5, 3.0], 1) == [1]
    # -3.1 is 1.6 from the front around the back of the circle, 0.1 is 1.47.
    assert select_evenly([-3.1, 0.1], 1) == [1]
    assert select_evenly([-3.1, -0.2], 1) == [0]


@pytest.mark.parametrize(
    ("angles", "count", "message"),
    [
        ([1.0, 2.0], 3, "3 views wanted from 2"),
        ([1.0], 0, "at least one"),
        ([], 1, "at least one finite"),
        ([1.0, np.nan], 1, "finite"),
        ([[1.0]], 1, "finite"),
    ],
)
def test_frames_that_cannot_be_chosen_from_are_refused(angles, count, message):
    with pytest.raises(ValueError, match=message):
        select_evenly(angles, count)


def test_views_are_a_pytree_that_can_be_indexed_and_mapped():
    views = Views(
        images=jnp.arange(3.0)[:, None, None, None] * jnp.ones((3, 2, 2, 3)),
        cameras=yaw_pitch_camera(jnp.array([-0.3, 0.0, 0.3]), jnp.zeros(3)),
    )
    assert len(views) == 3
    last = views[np.array([2, 0])]
    assert last.images[0, 0, 0, 0] == 2.0
    np.testing.assert_allclose(azimuth(last.cameras), np.pi / 2 - np.array([0.3, -0.3]), atol=1e-6)
    means = jax.jit(jax.vmap(lambda view: view.images.mean()))(views)
    np.testing.assert_allclose(means, [0.0, 1.0, 2.0])
