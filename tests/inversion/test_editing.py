"""Principal directions against the stored ones and closed forms; edits of several latents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden_rule import generator_config, normal
from golden_rule import weight as rule

from eg3d_jax.stylegan2 import MappingNetwork
from inversion.editing import parameter_directions, principal_directions, sample_w, shift
from inversion.latents import Latents, latents_at

pytestmark = pytest.mark.compiled_in_full


def golden_mapping():
    """The small_2x mapping network with the weights of the rule."""
    mapping = MappingNetwork(generator_config("small_2x"), rngs=nnx.Rngs(0))
    layers = {"embed": mapping.embed, **{f"fc{i}": x for i, x in enumerate(mapping.layers)}}
    for name, layer in layers.items():
        shape = layer.kernel[...].T.shape
        layer.kernel[...] = jnp.asarray(rule(f"backbone.mapping.{name}.weight", shape).T)
        layer.bias[...] = jnp.asarray(rule(f"backbone.mapping.{name}.bias", shape[:1]))
    return mapping


def test_directions_equal_the_stored_ones(golden):
    mapping, label = golden_mapping(), golden["pca/c"][0]
    z = normal("inv/pca/z", (3000, 512))
    mapped = jax.jit(lambda z: mapping(z, label))
    found = principal_directions((mapped(z[i : i + 700]) for i in range(0, 3000, 700)), 10)
    # Latents are exact to 2e-5; along a component, whose deviation is 1.7, that changes variances
    # by at most 2 * 2e-5 / 1.7 = 2.4e-5 of themselves. The first six lie 2.4 % or more apart, so
    # that a component may turn by a thousandth.
    np.testing.assert_allclose(found.mean, golden["pca/mean"], atol=2e-5)
    np.testing.assert_allclose(found.std**2, golden["pca/explained_variance10"], rtol=1e-4)
    np.testing.assert_allclose(found.components[:5], golden["pca/components5"], atol=1e-3)


def test_directions_of_known_axes_are_found_whatever_the_batches_and_the_mean():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    scales = np.array([8.0, 4.0, 2.0, 1.0, 0.5, 0.25])
    # Columns that are exactly uncorrelated, so that the axes are exact.
    drawn = rng.standard_normal((1000, 6))
    drawn = np.linalg.qr(drawn - drawn.mean(0))[0] * np.sqrt(999)
    samples = 1e4 + (drawn * scales) @ axes.T
    found = principal_directions(np.split(samples, [10, 400, 401]), 6)
    np.testing.assert_allclose(found.std, scales, rtol=1e-5)
    np.testing.assert_allclose(np.abs(np.sum(found.components * axes.T, -1)), 1.0, atol=1e-6)
    assert np.all(np.take_along_axis(
        found.components, np.abs(found.components).argmax(1, keepdims=True), 1) > 0)  # fmt: skip


def test_samples_are_the_same_for_a_seed_and_the_last_batch_is_cut():
    batches = [list(sample_w(jnp.tanh, 3, num_samples=25, batch=10, seed=s)) for s in (1, 1, 2)]
    assert [len(batch) for batch in batches[0]] == [10, 10, 5]
    first, again, other = (np.concatenate(batch) for batch in batches)
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_samples_are_refused(count):
    with pytest.raises(ValueError, match="2 or more"):
        principal_directions([np.zeros((1, 4))] * count, 1)


def test_more_components_than_dimensions_are_refused():
    with pytest.raises(ValueError, match="from 1 to 4"):
        principal_directions([np.eye(4)], 5)


def test_directions_of_parameters_are_the_slopes_whatever_the_batches_and_their_correlation():
    rng = np.random.default_rng(0)
    slopes = rng.standard_normal((3, 5))
    # Parameters of other spreads that depend on each other, and noise without correlation to them.
    mixed = rng.standard_normal((1000, 3)) @ [[2.0, 1.0, 0.0], [0.0, 0.1, 0.0], [0.5, 0.0, 30.0]]
    drawn = np.linalg.qr(np.column_stack([np.ones(1000), mixed, rng.standard_normal((1000, 5))]))[0]
    parameters, w = mixed + 7, 1e3 + mixed @ slopes + 20 * drawn[:, 4:]
    cuts = [1, 400]
    found = parameter_directions(
        zip(np.split(parameters, cuts), np.split(w, cuts), strict=True), ["a", "b", "c"]
    )
    # Strength 1 is one standard deviation of the parameter. Values near 1e3 are held in float64.
    want = slopes * parameters.std(0, ddof=1)[:, None]
    np.testing.assert_allclose(found.steps, want, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found.components, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found.mean, w.mean(0), rtol=1e-6)
    assert found.names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("parameters", "w", "message"),
    [
        (np.eye(4)[:, :1], np.eye(4), "one column a name"),
        (np.eye(4)[:, :3], np.eye(4), "one column a name"),
        (np.eye(3)[:, :2], np.eye(4), "one column a name"),
        (np.zeros(4), np.eye(4), "one column a name"),
        (np.eye(4)[:, [0, 0]], np.eye(4), "follows from the others"),
        (np.eye(4)[:, :2] * [1, 0], np.eye(4), "still is the same"),
        (np.eye(4)[:1, :2], np.eye(4)[:1], "2 or more"),
    ],
)
def test_parameters_that_fix_no_direction_are_refused(parameters, w, message):
    with pytest.raises(ValueError, match=message):
        parameter_directions([(parameters, w)], ["moves", "still"])


def test_a_shift_moves_the_chosen_layers_at_every_angle_by_the_same():
    rng = np.random.default_rng(0)
    w_plus, offset = rng.standard_normal((3, 4, 5)), rng.standard_normal(5)
    latents = Latents(w_plus=jnp.asarray(w_plus, jnp.float32), azimuth=jnp.array([0.0, 1.0, 3.0]))
    moved = shift(latents, offset, layers=(1, 3))
    for azimuth in (-1.0, 0.3, 1.0, 2.9, 4.0):
        change = latents_at(moved, azimuth) - latents_at(latents, azimuth)
        np.testing.assert_allclose(change[jnp.array([1, 3])], [offset] * 2, atol=2e-6)
        np.testing.assert_array_equal(change[jnp.array([0, 2])], 0)
    everywhere = shift(latents, offset)
    np.testing.assert_allclose(everywhere.w_plus - latents.w_plus, offset + 0 * w_plus, atol=2e-6)
    np.testing.assert_array_equal(everywhere.azimuth, latents.azimuth)


def test_an_offset_a_layer_moves_each_by_its_own():
    w_plus, offset = np.ones((3, 4, 5)), np.arange(20.0).reshape(4, 5)
    latents = Latents(w_plus=jnp.asarray(w_plus, jnp.float32), azimuth=jnp.array([0.0, 1.0, 3.0]))
    np.testing.assert_array_equal(shift(latents, offset).w_plus, w_plus + offset)
    moved = shift(latents, offset, layers=(1, 3)).w_plus - w_plus
    np.testing.assert_array_equal(moved, offset * [[0], [1], [0], [1]] + 0 * w_plus)


def test_offsets_and_layers_that_do_not_fit_are_refused():
    latents = Latents(w_plus=jnp.zeros((1, 4, 5)), azimuth=jnp.zeros(1))
    with pytest.raises(ValueError, match="length 5"):
        shift(latents, np.zeros(4))
    with pytest.raises(ValueError, match="4 layers of length 5"):
        shift(latents, np.zeros((3, 5)))
    with pytest.raises(ValueError, match="layer 4"):
        shift(latents, np.zeros(5), layers=(0, 4))
