import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eg3d_jax.config import EG3D_AXES, RenderConfig
from eg3d_jax.rays import RayDraws, Rays, random_draws
from eg3d_jax.rendering import merge_orders, permute, render_rays
from eg3d_jax.tri_planes import sample_tri_planes

BASE = RenderConfig(coarse_samples=12, fine_samples=10)
CASES = {
    "ffhq": BASE,
    "coarse_only": dataclasses.replace(BASE, fine_samples=0),
    "white_back": dataclasses.replace(BASE, white_background=True),
    "disparity": dataclasses.replace(BASE, disparity_sampling=True),
    "auto_box1": dataclasses.replace(BASE, ray_start=None, ray_end=None),
    "auto_box1.6_white": dataclasses.replace(
        BASE, ray_start=None, ray_end=None, box_warp=1.6, white_background=True
    ),
}


@pytest.fixture(scope="module")
def golden(golden_rule):
    return golden_rule.load("rendering")


@pytest.fixture(scope="module")
def planes(golden):
    return jnp.asarray(golden["full/planes"]).transpose(0, 1, 3, 4, 2)


@pytest.fixture(scope="module")
def decoder(named_generator):
    return named_generator("small_2x").decoder


def rays_of(golden, prefix=""):
    return Rays(
        origins=jnp.asarray(golden[f"full/{prefix}ray_origins"]),
        directions=jnp.asarray(golden[f"full/{prefix}ray_dirs"]),
    )


def draws_of(golden, config):
    return RayDraws(
        jitter=jnp.asarray(golden["full/jitter"])[..., 0],
        u=jnp.asarray(golden["full/u"]).reshape(2, 36, 10)[..., : config.fine_samples],
    )


def merged(tree):
    return jax.tree.map(lambda x: x.reshape(72, *x.shape[2:]), tree)


@pytest.mark.compiled_in_full
@pytest.mark.parametrize("case", CASES)
def test_rendering_matches_pytorch(golden, planes, decoder, close, case):
    """Both examples in one call, as PyTorch couples the depths and box limits of its batch."""
    config = CASES[case]

    def field(points):
        points = points.reshape(2, -1, 3)
        out = jax.vmap(
            lambda p, x: decoder(sample_tri_planes(p, x, EG3D_AXES, box_warp=config.box_warp))
        )(planes, points)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out)

    rays = rays_of(golden, "wide_" if case.startswith("auto") else "")
    run = jax.jit(lambda rays, draws: render_rays(field, rays, config, draws=draws))
    out = run(merged(rays), merged(draws_of(golden, config)))
    close(
        "rendering: features", out.features, golden[f"full/{case}/features"].reshape(72, -1), 2e-5
    )
    close("rendering: depth", out.depth, golden[f"full/{case}/depth"].reshape(72), 2e-5)
    close("rendering: opacity", out.opacity, golden[f"full/{case}/weight_sum"].reshape(72), 2e-5)


@pytest.mark.compiled_in_full
def test_point_query_matches_pytorch(golden, planes, decoder, close):
    """Colours as they leave the sigmoid, raw densities."""
    run = jax.jit(jax.vmap(lambda p, x: decoder(sample_tri_planes(p, x, EG3D_AXES, box_warp=1.0))))
    rgb, sigma = run(planes, jnp.asarray(golden["query/xyz"]))
    close("rendering: query", rgb, golden["query/rgb"], 2e-5)
    close("rendering: query", sigma[..., None], golden["query/sigma"], 2e-5)


def fog(level, seen=None):
    """A field of constant density and colour, which can note the points it is asked for."""

    def field(points):
        if seen is not None:
            seen.append(points.shape[0])
        return jnp.full((points.shape[0], 3), 0.25), jnp.full(points.shape[:1], level)

    return field


def parallel_rays(count):
    origins = jnp.zeros((count, 3)).at[:, 2].set(2.7)
    return Rays(origins=origins, directions=jnp.broadcast_to(jnp.array([0, 0, -1.0]), (count, 3)))


@pytest.mark.parametrize("white", [False, True])
def test_uniform_fog_obeys_beer_and_lambert(white):
    """Coarse and fine samples together: opacity, colour over the background, in [-1, 1]."""
    config = dataclasses.replace(BASE, white_background=white)
    extinction = 0.7
    field = fog(1.0 + np.log(np.expm1(extinction)))
    out = jax.jit(lambda rays: render_rays(field, rays, config))(parallel_rays(4))
    length = 3.3 - 2.25  # midway draws shift both ends by half an interval
    opacity = 1.0 - np.exp(-extinction * length)
    np.testing.assert_allclose(out.opacity, opacity, atol=1e-5)
    colour = 2.0 * (0.25 * opacity + white * (1.0 - opacity)) - 1.0
    np.testing.assert_allclose(out.features, colour, atol=1e-5)


def test_an_empty_ray_reports_the_farthest_sample_of_its_view():
    """Views are rendered one by one, so that the limits are never those of another view."""
    config = dataclasses.replace(BASE, ray_start=None, ray_end=None)

    def field(points):  # a ball of radius 0.2
        inside = jnp.linalg.norm(points, axis=-1) < 0.2
        return jnp.ones((len(points), 3)), jnp.where(inside, 100.0, -200.0)

    def view(distance):
        x = jnp.array([0.001, 0.4])  # through the ball and past it
        origins = jnp.stack([x, jnp.full(2, 0.001), jnp.full(2, distance)], axis=-1)
        directions = jnp.broadcast_to(jnp.array([0, 1e-6, -1.0]), (2, 3))
        return Rays(origins=origins, directions=directions)

    views = jax.tree.map(lambda *x: jnp.stack(x), view(2.0), view(3.0))
    out = jax.jit(jax.vmap(lambda rays: render_rays(field, rays, config)))(views)
    last = (
        np.array([2.0, 3.0]) + 0.5 + 0.5 / (BASE.coarse_samples - 1)
    )  # half a step behind the box
    np.testing.assert_allclose(out.depth[:, 1], last, atol=1e-4)
    np.testing.assert_array_equal(out.opacity[:, 1], 0.0)
    np.testing.assert_allclose(out.depth[:, 0], [1.8, 2.8], atol=0.06)


def test_an_empty_ray_has_a_finite_gradient():
    def loss(shift):
        def field(points):
            return points + shift, -200.0 + shift * jnp.sum(points, axis=-1)

        out = render_rays(field, parallel_rays(3), BASE)
        return out.depth.sum() + out.features.sum() + out.opacity.sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(0.1)
    assert np.isfinite(value)
    assert np.isfinite(gradient)


def test_without_fine_samples_the_field_is_evaluated_once():
    for fine, wanted in ((0, [4 * 12]), (10, [4 * 12, 4 * 10])):
        seen, config = [], dataclasses.replace(BASE, fine_samples=fine)
        run = partial(render_rays, fog(0.0, seen), config=config)
        jax.eval_shape(run, parallel_rays(4))
        assert seen == wanted


def test_rendering_in_chunks_changes_neither_values_nor_gradients(golden, planes, decoder):
    """With limits from the box and a clamped depth, which couple the rays of a view."""
    config = CASES["auto_box1.6_white"]
    rays = jax.tree.map(lambda x: x[0], rays_of(golden, "wide_"))
    draws = jax.tree.map(lambda x: x[0], draws_of(golden, config))

    def loss(planes, rays, rays_at_once):
        def field(points):
            return decoder(sample_tri_planes(planes, points, EG3D_AXES, box_warp=1.6))

        out = render_rays(field, rays, config, draws=draws, rays_at_once=rays_at_once)
        return jnp.mean(jnp.sin(out.features)) + jnp.mean(out.depth) + jnp.var(out.opacity), out

    run = jax.jit(
        jax.value_and_grad(loss, argnums=(0, 1), has_aux=True), static_argnames="rays_at_once"
    )
    (_, whole), gradient = run(planes[0], rays, rays_at_once=None)
    (_, chunked), chunked_gradient = run(planes[0], rays, rays_at_once=9)
    chex.assert_trees_all_close(whole, chunked, atol=1e-6)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(chunked_gradient), strict=True):
        assert np.abs(a).max() > 0
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(a).max())


def test_chunks_must_divide_the_rays():
    with pytest.raises(ValueError, match="rays_at_once=5 must divide the number of rays, 12"):
        render_rays(fog(0.0), parallel_rays(12), BASE, rays_at_once=5)


def test_rendering_without_draws_is_repeatable_and_lies_among_the_random_ones(
    golden, planes, decoder
):
    rays = jax.tree.map(lambda x: x[0], rays_of(golden))

    def field(points):
        return decoder(sample_tri_planes(planes[0], points, EG3D_AXES, box_warp=1.0))

    run = jax.jit(lambda draws: render_rays(field, rays, BASE, draws=draws).depth)
    first, again = run(None), run(None)
    np.testing.assert_array_equal(first, again)
    many = np.asarray(jax.lax.map(
        lambda key: run(random_draws(key, 36, BASE)), jax.random.split(jax.random.key(0), 64)
    ))  # fmt: skip
    assert many.std(axis=0).max() > 1e-3
    np.testing.assert_array_less(np.abs(first - many.mean(0)), 4 * many.std(0) + 1e-3)


@pytest.mark.parametrize(("coarse", "fine"), [(48, 48), (12, 10), (5, 1), (2, 30)])
@pytest.mark.parametrize("values", [1000, 6, 1])  # few are many ties; 1, all are equal
def test_merging_is_a_stable_sort(coarse, fine, values):
    rng = np.random.default_rng(coarse + values)
    first, second = (
        np.sort(rng.integers(0, values, (40, count)) / 7, axis=-1).astype(np.float32)
        for count in (coarse, fine)
    )
    order, inverse = jax.jit(merge_orders)(first, second)
    both = np.concatenate([first, second], axis=-1)
    np.testing.assert_array_equal(order, np.argsort(both, axis=-1, kind="stable"))
    undone = np.take_along_axis(np.asarray(order), np.asarray(inverse), axis=-1)
    np.testing.assert_array_equal(undone, np.broadcast_to(np.arange(coarse + fine), both.shape))


def test_merging_takes_each_sample_once_if_coarse_ones_do_not_ascend():
    """Rounding can exchange neighbours that jitter moved together."""
    coarse = jnp.asarray([[1.0, 2.0, np.nextafter(np.float32(2), np.float32(0)), 3.0]])
    order, _ = merge_orders(coarse, jnp.asarray([[2.0, 2.0, 2.5]]))
    assert sorted(order[0].tolist()) == list(range(7))


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_the_order_of_random_numbers_does_not_matter(golden, planes, decoder, order):
    rays = jax.tree.map(lambda x: x[0], rays_of(golden))
    draws = jax.tree.map(lambda x: x[0], draws_of(golden, BASE))

    def field(points):
        return decoder(sample_tri_planes(planes[0], points, EG3D_AXES, box_warp=1.0))

    run = jax.jit(lambda draws: render_rays(field, rays, BASE, draws=draws))
    ascending = run(dataclasses.replace(draws, u=jnp.sort(draws.u, axis=-1)))
    given = run(dataclasses.replace(draws, u=draws.u[:, order]))
    chex.assert_trees_all_equal(given, ascending)


def test_a_view_that_misses_the_box_is_rendered_in_order():
    """Its limits are -1 and -2; fog of a known density between them, whose ends jitter shifts."""
    config = dataclasses.replace(BASE, ray_start=None, ray_end=None)
    away = Rays(
        origins=jnp.array([[0.0, 0.0, 2.7]] * 2), directions=jnp.array([[1e-3, 1e-3, 1.0]] * 2)
    )
    out = jax.jit(lambda rays: render_rays(fog(1.0 + np.log(np.expm1(0.7))), rays, config))(away)
    np.testing.assert_allclose(out.opacity, 1.0 - np.exp(-0.7), atol=1e-5)


def test_the_gradient_of_a_permutation_is_its_inverse():
    rng = np.random.default_rng(0)
    order = jnp.asarray(np.argsort(rng.random((5, 7)), axis=-1))
    inverse = jnp.argsort(order, axis=-1)
    x, cotangent = (jnp.asarray(rng.normal(size=(5, 7)), jnp.float32) for _ in range(2))
    ours = jax.grad(lambda x: jnp.sum(permute(x, order, inverse) * cotangent))(x)
    wanted = jax.grad(lambda x: jnp.sum(jnp.take_along_axis(x, order, -1) * cotangent))(x)
    np.testing.assert_array_equal(ours, wanted)
    np.testing.assert_array_equal(permute(permute(x, order, inverse), inverse, order), x)
