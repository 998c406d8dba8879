import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eg3d_jax.cameras import (
    azimuth,
    fov_to_intrinsics,
    from_label,
    look_at,
    orbit,
    orbit_position,
    to_label,
    yaw_pitch_camera,
)

pytestmark = pytest.mark.compiled_in_full

HALF_PI = math.pi / 2


@pytest.fixture(scope="module")
def golden(golden_rule):
    return golden_rule.load("cameras")


@pytest.mark.parametrize(
    ("key", "radius", "target"),
    [("lookat_2.7_0_0.05_0.2", 2.7, (0.0, 0.05, 0.2)), ("lookat_1.7_origin", 1.7, (0.0, 0.0, 0.0))],
)
def test_orbits_match_pytorch(golden, close, key, radius, target):
    """The look-at point turns the camera and does not move it."""
    h, v = golden["hv"].T
    out = np.asarray(orbit(h, v, radius=radius, target=target).cam2world)
    # At the poles the sideways direction is a difference of nearly equal numbers.
    polar = (v < 0.01) | (v > math.pi - 0.01)
    close("cameras", out[~polar], golden[key][~polar], 1e-5)
    close("cameras (poles)", out[polar], golden[key][polar], 1e-3)


@pytest.mark.parametrize(
    ("key", "kind", "spread", "radius", "target"),
    [
        ("gaussian_pi2_pi2_sd.3_.155_r2.7", "normal", (0.3, 0.155), 2.7, (0.0, 0.0, 0.0)),
        ("lookat_gauss_pi2_pi2_sd.3_.155_r2.7", "normal", (0.3, 0.155), 2.7, (0.0, 0.05, 0.2)),
        ("uniform_pi2_pi2_sd.6_.4_r1.7", "unit", (0.6, 0.4), 1.7, (0.0, 0.0, 0.0)),
    ],
)
def test_samplers_of_poses_match_pytorch(golden, close, key, kind, spread, radius, target):
    numbers = [golden[f"{kind}_{axis}"][:, 0] for axis in "hv"]
    if kind == "unit":
        numbers = [2 * n - 1 for n in numbers]
    h, v = (HALF_PI + s * n for s, n in zip(spread, numbers, strict=True))
    close("cameras", orbit(h, v, radius=radius, target=target).cam2world, golden[key], 1e-5)


def test_field_of_view_matches_pytorch(golden, close):
    """Its rounded constants 3.14159 and 1.414 are kept."""
    close("cameras", fov_to_intrinsics(golden["fov_degrees"]), golden["fov_intrinsics"], 1e-5)


def test_a_label_survives_the_round_trip(golden_rule):
    labels = golden_rule.load("rendering")["rays/c"]  # one has skew and a shifted centre
    np.testing.assert_array_equal(to_label(from_label(labels)), labels)


@pytest.mark.parametrize("shape", [(24,), (2, 16), ()])
def test_a_label_of_another_length_is_refused(shape):
    with pytest.raises(ValueError, match="25"):
        from_label(np.zeros(shape))


def test_an_orbit_position_has_azimuth_pi_minus_h_and_a_warped_pitch():
    """The polar angle is arccos(1 - 2 v / pi): small pitches shrink to 2 / pi."""
    h, v = 1.1, HALF_PI - 0.01
    position = np.asarray(orbit_position(h, v, 2.7))
    assert np.linalg.norm(position) == pytest.approx(2.7, rel=1e-6)
    assert math.atan2(position[2], position[0]) == pytest.approx(math.pi - h, abs=1e-6)
    assert float(azimuth(orbit(h, v))) == pytest.approx(math.pi - h, abs=1e-6)
    assert math.asin(position[1] / 2.7) == pytest.approx(0.01 * 2 / math.pi, rel=1e-3)


def test_yaw_and_pitch_are_true_angles():
    camera = yaw_pitch_camera(0.3, 0.2)
    assert float(azimuth(camera)) == pytest.approx(HALF_PI - 0.3, abs=1e-6)
    assert math.asin(float(camera.position[1]) / 2.7) == pytest.approx(0.2, abs=1e-6)


def test_the_frontal_camera_looks_along_minus_z_with_y_down():
    camera = orbit(HALF_PI, HALF_PI)
    np.testing.assert_allclose(camera.cam2world[:3, :3], np.diag([1.0, -1.0, -1.0]), atol=1e-6)
    np.testing.assert_allclose(camera.position, [0.0, 0.0, 2.7], atol=1e-6)


def test_looking_at_a_point_is_a_rotation_towards_it():
    position = jax.random.normal(jax.random.key(0), (5, 3))
    pose = np.asarray(look_at(position, jnp.array([0.1, 0.2, 0.3])))
    rotation = pose[:, :3, :3]
    np.testing.assert_allclose(
        rotation @ rotation.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (5, 3, 3)), atol=1e-6
    )
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0, atol=1e-6)
    forward = np.array([0.1, 0.2, 0.3]) - pose[:, :3, 3]
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    np.testing.assert_allclose(rotation[:, :, 2], forward, atol=1e-6)
