import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from eg3d_jax import tri_planes
from eg3d_jax.config import EG3D_AXES, FIXED_AXES
from eg3d_jax.tri_planes import project, sample_planes, sample_tri_planes, with_border


def each_plane(planes, where):
    """Lookups [N, M, C] in every one of planes [N, P, P, C], which are not averaged."""
    one = jax.vmap(lambda plane, at: sample_planes(with_border(plane[None]), at[None]))
    return one(planes, where)


@pytest.fixture(scope="module")
def golden(golden_rule):
    return golden_rule.load("rendering")


def test_the_axes_are_those_of_the_released_checkpoints(golden):
    np.testing.assert_array_equal(EG3D_AXES, golden["planes/axes"])


@pytest.mark.compiled_in_full
def test_projection_matches_pytorch(golden, close):
    points = jnp.asarray(golden["planes/points"])
    # Stored before the scale by the box: a box of side 2 spans -1 to 1.
    out = jax.vmap(lambda p: project(p, EG3D_AXES, box_warp=2.0))(points)
    close("rendering: planes", out.reshape(6, -1, 2), golden["planes/projected"], 2e-5)


def test_the_third_plane_is_addressed_by_z_and_x_unless_repaired():
    point = jnp.array([[0.1, 0.2, 0.3]])
    kept, repaired = (
        np.asarray(project(point, axes, box_warp=2.0))[:, 0] for axes in (EG3D_AXES, FIXED_AXES)
    )
    np.testing.assert_allclose(kept, [[0.1, 0.2], [0.1, 0.3], [0.3, 0.1]], rtol=1e-6)
    np.testing.assert_allclose(repaired, [[0.1, 0.2], [0.1, 0.3], [0.3, 0.2]], rtol=1e-6)


@pytest.mark.compiled_in_full
@pytest.mark.parametrize("box_warp", [1.0, 1.6])
def test_sampling_matches_pytorch(golden, close, box_warp):
    """Zero padding, no corner alignment; some of the points lie outside."""
    planes = jnp.asarray(golden["planes/features"]).transpose(0, 1, 3, 4, 2)

    @jax.jit
    @jax.vmap
    def run(planes, points):
        return each_plane(planes, project(points, EG3D_AXES, box_warp=box_warp))

    out = run(planes, jnp.asarray(golden["planes/points"]))
    close("rendering: planes", out, golden[f"planes/sampled_boxwarp{box_warp:g}"], 2e-5)


def test_planes_are_averaged(golden):
    planes = jnp.asarray(golden["planes/features"])[0].transpose(0, 2, 3, 1)
    points = jnp.asarray(golden["planes/points"][0])
    mean = golden["planes/sampled_boxwarp1"][0].mean(axis=0)
    out = sample_tri_planes(planes, points, EG3D_AXES, box_warp=1.0)
    np.testing.assert_allclose(out, mean, atol=1e-5)


def test_the_mean_over_planes_is_no_reduction_in_the_program():
    """XLA gives reductions to a library on CPU, and then the lookup is no longer one loop."""
    planes, points = jnp.ones((3, 8, 8, 32)), jnp.zeros((4096, 3))
    sample = jax.jit(partial(sample_tri_planes, axes=EG3D_AXES, box_warp=1))
    program = sample.lower(planes, points).compile().as_text()
    assert "gather(" in program
    assert not re.findall(r"= f32\S* reduce\(", program)


def test_no_scalar_is_left_outside_the_lookup():
    """It is read anew for each channel; indices follow, and XLA's CPU code is nine times slower."""
    planes, points = jnp.ones((3, 8, 8, 32)), jnp.zeros((4096, 3))
    sample = jax.jit(partial(sample_tri_planes, axes=EG3D_AXES, box_warp=1))
    program = sample.lower(planes, points).compile().as_text()
    loops = [body for body in program.split("\n}") if " gather(" in body]
    assert loops
    for body in loops:
        assert not re.findall(r"= [su]32\[\]\S* parameter\(", body)


@pytest.fixture(params=["on a CPU", "on a GPU"])
def form(request, monkeypatch):
    """The form of the lookup for CPUs, and that for all other devices."""
    monkeypatch.setattr(tri_planes, "for_cpu", lambda: request.param == "on a CPU")


def test_the_gradient_of_the_mean_over_planes_is_shared_out(form):
    rng = np.random.default_rng(0)
    planes = jnp.asarray(rng.normal(size=(3, 4, 4, 2)), jnp.float32)
    where = jnp.asarray(rng.uniform(-1.2, 1.2, (3, 5, 2)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(5, 2)), jnp.float32)
    together, alone = (
        jax.grad(lambda x, sample=sample: jnp.sum(weights * sample(x, where)))(planes)
        for sample in (
            lambda planes, at: sample_planes(with_border(planes), at),
            lambda planes, at: jnp.mean(each_plane(planes, at), axis=0),
        )
    )
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.compiled_in_full
def test_decoding_matches_pytorch(golden, named_generator, close):
    features = jnp.asarray(golden["decoder/in"]).mean(axis=1)
    colour, density = jax.jit(named_generator("small_2x").decoder)(features)
    close("rendering: decoder", colour, golden["decoder/rgb"], 2e-5)
    close("rendering: decoder", density[..., None], golden["decoder/sigma"], 2e-5)


def test_features_fade_over_the_last_texel_and_vanish_beyond(form):
    """Full at the centre of the last texel, half on the face, zero half a texel outside."""
    planes, side = jnp.ones((3, 8, 8, 1)), 8
    x = 0.5 * jnp.array([1 - 1 / side, 1.0, 1 + 1 / side, 1.5])
    points = jnp.stack([x, 0 * x, 0 * x], axis=-1)
    sampled = each_plane(planes, project(points, EG3D_AXES, box_warp=1.0))
    np.testing.assert_allclose(sampled[0, :, 0], [1.0, 0.5, 0.0, 0.0], atol=1e-6)


def test_gradients_reach_planes_and_points(form):
    """Against finite differences, away from the kinks between texels."""
    rng = np.random.default_rng(0)
    planes = jnp.asarray(rng.normal(size=(3, 4, 4, 2)), jnp.float32)
    points = jnp.asarray([[0.05, 0.1, -0.2], [0.3, -0.3, 0.07]], jnp.float32)
    check_grads(
        jax.jit(lambda planes, points: sample_tri_planes(planes, points, EG3D_AXES, box_warp=1.0)),
        (planes, points), order=1, modes=["rev"], eps=1e-2, atol=2e-3, rtol=2e-3,
    )  # fmt: skip


def looked_up(plane, x, y):
    """Slow bilinear lookup [C] at texel (x, y), zeros outside; float64."""
    left, top = int(np.floor(x)), int(np.floor(y))
    found = np.zeros(plane.shape[-1])
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < len(plane) and 0 <= column < len(plane):
                found += plane[row, column] * (1 - abs(x - column)) * (1 - abs(y - row))
    return found


def around_the_planes(rng, count):
    """Points inside, within the last texel, on texels' borders and centres, and far outside."""
    near_edges = rng.choice([-1.2, -1.125, -1, -0.875, 0, 0.25, 0.875, 1, 1.125, 30], (count, 2))
    return np.concatenate([rng.uniform(-1.4, 1.4, (count, 2)), near_edges])


def test_lookup_and_gradient_are_those_of_a_slow_loop_inside_and_outside(form):
    rng = np.random.default_rng(0)
    planes = rng.normal(size=(3, 8, 8, 5))
    where = np.stack([around_the_planes(rng, 40) for _ in planes])
    texel = ((where + 1) * 8 - 1) / 2
    wanted = [[looked_up(p, x, y) for x, y in at] for p, at in zip(planes, texel, strict=True)]
    planes, where = jnp.asarray(planes, jnp.float32), jnp.asarray(where, jnp.float32)
    sample = jax.jit(lambda planes: each_plane(planes, where))
    np.testing.assert_allclose(sample(planes), wanted, atol=3e-5)  # 30 is 1e-6 of a texel off

    # The lookup is linear in the planes: its gradient is the transpose, looked up one by one.
    cotangent = rng.normal(size=(3, 80, 5))
    ours = jax.jit(jax.vjp(sample, planes)[1])(jnp.asarray(cotangent, jnp.float32))[0]
    for row, column in ((0, 0), (0, 7), (3, 4), (7, 7)):
        one = np.zeros((8, 8, 1))
        one[row, column] = 1.0
        weights = np.array([[looked_up(one, x, y)[0] for x, y in at] for at in texel])
        by_hand = np.einsum("nm,nmc->nc", weights, cotangent)
        np.testing.assert_allclose(ours[:, row, column], by_hand, atol=5e-5)


def test_gradients_of_coordinates_are_finite_differences_at_the_border_too(form):
    rng = np.random.default_rng(1)
    planes = jnp.asarray(rng.normal(size=(3, 6, 6, 2)), jnp.float32)
    # Texels are 1/3 wide, their centres at odd sixths: none of these is near a kink.
    where = jnp.asarray(rng.choice([-1.1, -0.95, -0.4, 0.1, 0.6, 0.9, 1.07, 1.4], (3, 9, 2)))
    check_grads(
        jax.jit(lambda where: sample_planes(with_border(planes), where)),
        (where.astype(jnp.float32),), order=1, modes=["rev"], eps=1e-2, atol=2e-3, rtol=2e-3,
    )  # fmt: skip
