import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eg3d_jax.compositing import (
    expected_depth,
    interval_weights,
    midpoints,
    sample_weights,
    softplus,
)

pytestmark = pytest.mark.compiled_in_full


@pytest.fixture(scope="module")
def golden(golden_rule):
    return golden_rule.load("rendering")


@pytest.mark.parametrize("num_samples", [2, 48, 96])
def test_uniform_fog_obeys_beer_and_lambert(num_samples):
    """Fog of extinction s and length l has opacity 1 - exp(-s l), however finely it is sampled."""
    extinction, near, far = 0.7, 2.25, 3.3
    depth = jnp.linspace(near, far, num_samples)
    density = jnp.full_like(depth, 1.0 + np.log(np.expm1(extinction)))  # undoes softplus(x - 1)
    weights = jax.jit(interval_weights)(density, depth)
    assert float(weights.sum()) == pytest.approx(1.0 - np.exp(-extinction * (far - near)), abs=1e-6)


@pytest.mark.parametrize("white", [False, True])
def test_marching_matches_pytorch(golden, close, white):
    """Densities are averaged before their activation; depth is clamped to that of all samples."""
    colours = jnp.asarray(golden["marcher/colors"])
    density, depths = (
        jnp.asarray(golden[f"marcher/{name}"])[..., 0] for name in ("densities", "depths")
    )

    @jax.jit
    def march(colours, density, depths):
        weights = interval_weights(density, depths)
        colour = jnp.einsum("...s,...sc->...c", weights, midpoints(colours, axis=-2))
        colour = colour + white * (1.0 - weights.sum(-1, keepdims=True))
        depth = jnp.clip(expected_depth(weights, depths), depths.min(), depths.max())
        return 2.0 * colour - 1.0, depth, weights

    rgb, depth, weights = march(colours, density, depths)
    close("rendering: marching", rgb, golden[f"marcher/wb{white:d}/rgb"], 2e-5)
    close("rendering: marching", depth, golden[f"marcher/wb{white:d}/depth"][..., 0], 2e-5)
    close("rendering: marching", weights, golden[f"marcher/wb{white:d}/weights"][..., 0], 2e-5)


def test_weights_of_samples_equal_means_of_intervals(golden):
    """What lets the renderer leave its features unsorted."""
    colours = jnp.asarray(golden["marcher/colors"])
    weights = jnp.asarray(golden["marcher/wb0/weights"])[..., 0]
    by_interval = jnp.einsum("...s,...sc->...c", weights, midpoints(colours, axis=-2))
    by_sample = jnp.einsum("...s,...sc->...c", sample_weights(weights), colours)
    np.testing.assert_allclose(by_sample, by_interval, atol=1e-6)


def test_an_opaque_wall_is_seen_at_its_distance():
    depth = jnp.linspace(2.0, 3.0, 101)
    density = jnp.where(depth > 2.499, 1e4, -1e4)
    weights = interval_weights(density, depth)
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-5)
    # The mid-point rule already finds the interval before the wall half dense.
    assert float(expected_depth(weights, depth)) == pytest.approx(2.5, abs=0.01)


def test_an_empty_ray_is_infinitely_far_and_has_a_finite_gradient():
    depth = jnp.linspace(2.0, 3.0, 8)

    def far(density):
        weights = interval_weights(density, depth)
        return jnp.minimum(expected_depth(weights, depth), 9.0) + weights.sum()

    density = jnp.full(8, -200.0)
    assert float(expected_depth(interval_weights(density, depth), depth)) == np.inf
    value, gradient = jax.jit(jax.value_and_grad(far))(density)
    assert float(value) == 9.0
    assert np.all(np.isfinite(gradient))


def test_density_and_depth_must_have_one_shape():
    with pytest.raises(ValueError, match="must be equal"):
        interval_weights(jnp.zeros(4), jnp.zeros(5))


def test_softplus_and_its_gradient_are_those_in_float64():
    """Everywhere: about 0, where the halves meet, and where exp would overflow or vanish."""
    rng = np.random.default_rng(0)
    edges = [
        0.0,
        -0.0,
        1e-8,
        -1e-8,
        15.9,
        -15.9,
        17.0,
        -17.0,
        88.0,
        -88.0,
        200.0,
        -200.0,
        1e30,
        -1e30,
    ]
    x = np.concatenate([edges, rng.uniform(-20, 20, 2000), rng.normal(size=2000)]).astype(
        np.float32
    )
    exact = np.logaddexp(x.astype(np.float64), 0.0)
    value, gradient = jax.jit(jax.vmap(jax.value_and_grad(softplus)))(x)
    # Half a unit in the last place of 1 + exp, of its logarithm (at most 0.7), and of the sum.
    np.testing.assert_allclose(value, exact, rtol=1.2e-7, atol=1.2e-7)
    with np.errstate(over="ignore"):
        slope = 1.0 / (1.0 + np.exp(-x.astype(np.float64)))
    np.testing.assert_allclose(gradient, slope, rtol=3e-7, atol=1e-37)
    assert softplus(jnp.inf) == jnp.inf
    assert softplus(-jnp.inf) == 0.0
    assert np.isnan(softplus(jnp.nan))
