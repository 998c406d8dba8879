import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from inversion import losses

pytestmark = pytest.mark.compiled_in_full

VECTORS = npst.arrays(np.float32, 6, elements=st.floats(-2, 2, width=32))


def test_noise_regularizer_equals_the_stored_value_and_gradients(golden, rng_of):
    sides = (4, 8, 16, 32)
    maps = [rng_of(f"inv/noise{r}").standard_normal((r, r)).astype(np.float32) for r in sides]
    value, gradients = jax.jit(jax.value_and_grad(losses.noise_regularizer))(maps)
    np.testing.assert_allclose(value, golden["noise_reg/value"][0], rtol=1e-5)
    for side, gradient in zip(sides, gradients, strict=True):
        wanted = golden[f"noise_reg/grad_{side}"]
        np.testing.assert_allclose(gradient, wanted, atol=1e-5 * np.abs(wanted).max())


def test_constant_noise_is_fully_correlated_at_every_scale():
    # Four scales from 64 to 8, two directions, each (c c)^2.
    value = losses.noise_regularizer([jnp.full((64, 64), 1.5)])
    np.testing.assert_allclose(value, 4 * 2 * 1.5**4, rtol=1e-6)
    assert float(losses.noise_regularizer([])) == 0.0


def opaque_depth(depth, reference):
    return losses.depth_consistency(depth, reference, jnp.ones_like(depth))


@given(VECTORS, VECTORS)
@settings(deadline=None, max_examples=25)
def test_squared_terms_are_their_closed_forms_and_symmetric(a, b):
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    squares = np.square(a64 - b64)
    np.testing.assert_allclose(losses.perceptual(a, b), squares.sum(), rtol=1e-5, atol=1e-12)
    for loss in (losses.pixel, losses.latent_prior, opaque_depth):
        shape = (1, 2, 3) if loss is losses.pixel else (2, 3)
        x, y = jnp.asarray(a).reshape(shape), jnp.asarray(b).reshape(shape)
        np.testing.assert_allclose(loss(x, y), squares.mean(), rtol=1e-5, atol=1e-12)
        np.testing.assert_allclose(loss(y, x), loss(x, y), rtol=1e-6)
        assert float(loss(x, x)) == 0.0


@given(VECTORS, VECTORS)
@settings(deadline=None, max_examples=25)
def test_identity_is_one_minus_the_cosine(a, b):
    a, b = (x + np.float32([3, 0, 0, 0, 0, 0]) for x in (a, b))
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    loss = float(losses.identity(jnp.asarray(a), jnp.asarray(b)))
    assert loss == pytest.approx(1 - np.dot(a, b), abs=1e-6)
    # |a - b|^2 = 2 (1 - a . b) for unit vectors.
    assert 2 * loss == pytest.approx(np.sum((a - b) ** 2), abs=1e-5)
    assert -1e-6 <= loss <= 2 + 1e-6


def test_prior_takes_one_reference_for_all_layers():
    w = jax.random.normal(jax.random.key(0), (3, 4))
    mean = jnp.arange(4.0)
    np.testing.assert_allclose(
        losses.latent_prior(w, mean), losses.latent_prior(w, jnp.tile(mean, (3, 1)))
    )


def test_depth_reference_carries_no_gradient():
    depth, reference = jnp.full((2, 2), 3.0), jnp.full((2, 2), 2.0)
    gradient = jax.grad(losses.depth_consistency, argnums=(0, 1, 2))
    d_depth, d_reference, d_solid = gradient(depth, reference, jnp.ones((2, 2)))
    np.testing.assert_allclose(d_depth, 2 * 1.0 / 4)
    np.testing.assert_array_equal(d_reference, 0.0)
    np.testing.assert_array_equal(d_solid, 0.0)


def test_depth_counts_where_there_is_something():
    depth, reference = jnp.array([[1.0, 2.0, 9.0]]), jnp.array([[1.0, 1.0, 1.0]])
    solid = jnp.array([[1.0, 0.5, 0.0]])
    found = losses.depth_consistency(depth, reference, solid)
    assert float(found) == pytest.approx(0.5 / 1.5)
    assert float(losses.depth_consistency(depth, reference, jnp.zeros((1, 3)))) == 0.0


def test_views_may_be_mapped():
    images = jax.random.normal(jax.random.key(0), (3, 4, 4, 3))
    mapped = jax.jit(jax.vmap(losses.pixel, in_axes=(0, None)))(images, images[0])
    np.testing.assert_allclose(mapped[2], losses.pixel(images[2], images[0]), rtol=1e-6)
    assert mapped[0] == 0.0


@pytest.mark.parametrize(
    "loss",
    [
        losses.pixel,
        losses.perceptual,
        losses.identity,
        losses.latent_prior,
        opaque_depth,
        lambda depth, solid: losses.depth_consistency(depth, depth, solid),
    ],
)
def test_different_shapes_are_refused_rather_than_broadcast(loss):
    with pytest.raises(ValueError, match="equal in shape"):
        loss(jnp.ones((4, 4, 3)), jnp.ones((1, 4, 3)))


@pytest.mark.parametrize(("shape", "message"), [((4, 8), "square"), ((18, 18), "halved")])
def test_noise_maps_that_cannot_be_halved_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        losses.noise_regularizer([jnp.ones(shape)])
