"""The rasteriser: against a slow loop in float64, and its gradient against finite differences."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eg3d_jax.cameras import yaw_pitch_camera
from inversion.splats.gaussians import Gaussians, harmonic_basis
from inversion.splats.rasteriser import PIXEL_VARIANCE, blend, overlaps, project, rotation_matrices

SIDE = 20
CAMERA = yaw_pitch_camera(0.4, -0.2)
NAMES = [field.name for field in dataclasses.fields(Gaussians)]


def scene(count=30, degree=1, seed=0, opacity=0.0) -> dict[str, np.ndarray]:
    """Fields in float64 of Gaussians about the origin, some pixels large."""
    rng = np.random.default_rng(seed)
    return {
        "centres": rng.normal(size=(count, 3)) * 0.1,
        "log_scales": rng.normal(size=(count, 3)) * 0.4 + math.log(0.04),
        "rotations": rng.normal(size=(count, 4)),
        "opacity_logits": rng.normal(size=count) + opacity,
        "harmonics": rng.normal(size=(count, (degree + 1) ** 2, 3)) * 0.3,
    }


def gaussians(fields) -> Gaussians:
    return Gaussians(**{name: jnp.asarray(x, jnp.float32) for name, x in fields.items()})


def turned(q):
    w, x, y, z = q / np.linalg.norm(q)
    about = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * about + 2 * about @ about  # Rodrigues


def slow_basis(direction, degree):
    """The harmonics of degree 0 and 1 in the axes of a file, y down and z forward."""
    x, y, z = direction * [1, -1, -1]
    first, second = math.sqrt(1 / (4 * math.pi)), math.sqrt(3 / (4 * math.pi))
    return np.array([first, -second * y, second * z, -second * x])[: (degree + 1) ** 2]


def slow_picture(fields, camera=CAMERA, side=SIDE):
    """[side, side, 5]: colours and depth times opacity, and opacity; a loop over pixels."""
    pose, lens = (np.asarray(m, np.float64) for m in (camera.cam2world, camera.intrinsics))
    turn, origin = pose[:3, :3], pose[:3, 3]
    seen = []
    degree = math.isqrt(fields["harmonics"].shape[1]) - 1
    for i in range(len(fields["centres"])):
        offset = fields["centres"][i] - origin
        x, y, z = turn.T @ offset
        mean = side * (lens @ [x / z, y / z, 1])[:2]
        slope = side * lens[:2, :2] @ np.array([[1 / z, 0, -x / z**2], [0, 1 / z, -y / z**2]])
        axes = turned(fields["rotations"][i]) * np.exp(fields["log_scales"][i])
        shape = slope @ turn.T @ axes
        precision = np.linalg.inv(shape @ shape.T + PIXEL_VARIANCE * np.eye(2))
        opacity = 1 / (1 + np.exp(-fields["opacity_logits"][i]))
        distance = np.linalg.norm(offset)
        colour = slow_basis(offset / distance, degree) @ fields["harmonics"][i] + 0.5
        seen.append((z, mean, precision, opacity, [*np.maximum(colour, 0), distance]))
    seen.sort(key=lambda one: one[0])
    picture = np.zeros((side, side, 5))
    for row in range(side):
        for column in range(side):
            left, shown = 1.0, np.zeros(4)
            for _, mean, precision, opacity, values in seen:
                off = np.array([column + 0.5, row + 0.5]) - mean
                alpha = min(opacity * np.exp(-0.5 * off @ precision @ off), 0.99)
                if alpha > 1 / 255:
                    shown += left * alpha * np.array(values)
                    left *= 1 - alpha
            picture[row, column] = [*shown, 1 - left]
    return picture


_project, _blend = jax.jit(project, static_argnums=2), jax.jit(blend, static_argnums=2)


def picture(fields, *, length=64, num_pixels=None):
    footprints = _project(gaussians(fields), CAMERA, SIDE)
    lists = overlaps(footprints, SIDE, length=length, num_pixels=num_pixels)
    out = _blend(footprints, lists, SIDE)
    return np.concatenate([out.colours, out.depth[:, None], out.opacity[:, None]], -1), lists


@pytest.mark.parametrize("degree", [0, 1])
def test_a_picture_is_that_of_a_slow_loop(degree):
    fields = scene(degree=degree)
    expected = slow_picture(fields).reshape(-1, 5)
    assert expected[:, 4].max() > 0.9
    assert (expected[:, 4] == 0).any()
    # A thousandth of the light may be left out behind what is nearly opaque, and a Gaussian whose
    # alpha is 1/255 to the last digit on one side only.
    np.testing.assert_allclose(picture(fields)[0], expected, atol=5e-3)
    assert np.abs(picture(fields)[0] - expected).mean() < 1e-5


def test_gradients_are_those_of_finite_differences():
    """Of the slow loop, in float64, along random directions through each field.

    The step is small enough that hardly an alpha crosses 1/255, where a picture jumps.
    """
    fields = scene(count=12, opacity=0.5)
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(SIDE * SIDE, 5))
    lists = overlaps(_project(gaussians(fields), CAMERA, SIDE), SIDE, length=64)

    def value(one):
        out = blend(project(one, CAMERA, SIDE), lists, SIDE)
        shown = jnp.concatenate([out.colours, out.depth[:, None], out.opacity[:, None]], -1)
        return jnp.sum(shown * weights)

    slope = jax.jit(jax.grad(value))(gaussians(fields))
    for name in NAMES:
        direction = rng.normal(size=fields[name].shape)
        ends = [
            np.sum(
                slow_picture(fields | {name: fields[name] + sign * 1e-6 * direction}).reshape(-1, 5)
                * weights
            )
            for sign in (1, -1)
        ]
        expected = (ends[0] - ends[1]) / 2e-6
        found = np.sum(np.asarray(getattr(slope, name), np.float64) * direction)
        scale = np.linalg.norm(np.asarray(getattr(slope, name)))
        assert abs(found - expected) < 2e-3 * scale, name


def test_fewer_pixels_are_those_that_show_something():
    fields = scene(count=3)
    whole, _ = picture(fields)
    shown = np.flatnonzero(whole[:, 4])
    some, lists = picture(fields, num_pixels=len(shown) + 5)
    assert sorted(np.asarray(lists.pixels))[: len(shown) + 5] == sorted(lists.pixels)
    assert set(shown) <= set(np.asarray(lists.pixels).tolist())
    np.testing.assert_array_equal(some, whole[np.asarray(lists.pixels)])


def test_short_lists_keep_the_nearest():
    fields = scene(count=20, opacity=-1.5)
    _, long = picture(fields)
    _, short = picture(fields, length=3)
    np.testing.assert_array_equal(short.entries, np.asarray(long.entries)[:3])
    depths = np.asarray(_project(gaussians(fields), CAMERA, SIDE).depths)
    depths = np.append(depths, np.inf)[np.asarray(long.entries)]
    assert (depths[1:] >= depths[:-1]).all()


def test_what_lies_behind_opaque_things_or_the_camera_is_not_listed():
    wall = scene(count=40, opacity=9.0)
    wall["centres"][:] = 0.0
    wall["log_scales"][:] = 0.0  # larger than the picture
    _, lists = picture(wall)
    # Alpha is 0.99 at most: the second lets a ten-thousandth through, of which nothing is left.
    middle = SIDE * (SIDE // 2) + SIDE // 2
    assert (np.asarray(lists.entries)[:, middle] < 40).sum() == 2
    behind = scene(count=5)
    behind["centres"] += 3 * np.asarray(CAMERA.position)
    assert picture(behind)[0].max() == 0


def test_nothing_at_all_can_be_drawn():
    fields = scene(count=4, opacity=-20.0)
    assert picture(fields)[0].max() == 0


def test_harmonics_are_orthonormal():
    """Integrals over the sphere by Gauss and Legendre, exact for products of these degrees."""
    cosines, weights = np.polynomial.legendre.leggauss(8)
    angles = np.arange(16) * np.pi / 8
    sines = np.sqrt(1 - cosines**2)
    points = np.stack(
        [sines[:, None] * np.cos(angles), sines[:, None] * np.sin(angles),
         np.broadcast_to(cosines[:, None], (8, 16))], -1,
    )  # fmt: skip
    basis = np.asarray(harmonic_basis(jnp.asarray(points, jnp.float32), 3))
    area = np.broadcast_to(weights[:, None] * np.pi / 8, (8, 16))
    products = np.einsum("ij,ijb,ijc->bc", area, basis, basis)
    np.testing.assert_allclose(products, np.eye(16), atol=1e-5)
    for degree in range(3):
        lower = harmonic_basis(jnp.asarray(points, jnp.float32), degree)
        np.testing.assert_array_equal(lower, basis[..., : (degree + 1) ** 2])


def test_rotations_are_those_of_quaternions_of_any_length():
    q = np.random.default_rng(0).normal(size=(5, 4))
    expected = np.stack([turned(one) for one in q])
    np.testing.assert_allclose(rotation_matrices(jnp.asarray(3 * q)), expected, atol=1e-6)
