import zlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eg3d_jax.cameras import azimuth, from_label, orbit, to_label
from inversion.latents import Latents, latents_at, repeat_latents, w_statistics

pytestmark = pytest.mark.compiled_in_full

AT = jax.jit(latents_at)


def golden_case(golden, case):
    """Keys in ascending order, query azimuths and the two stored rules, without batch axes."""
    arrays = {
        name: golden[f"latent_interp/{case}/{name}"]
        for name in ("key_c", "ws", "target_c", "two_nearest", "bracketing")
    }
    keys = np.asarray(azimuth(from_label(arrays["key_c"])))
    order = np.argsort(keys)
    latents = Latents(w_plus=jnp.asarray(arrays["ws"][order, 0]), azimuth=jnp.asarray(keys[order]))
    queries = azimuth(from_label(arrays["target_c"]))
    return latents, queries, arrays["two_nearest"][:, 0], arrays["bracketing"][:, 0]


@pytest.mark.parametrize("case", ["regular", "irregular"])
def test_interpolation_equals_the_stored_bracketing_rule(golden, case):
    latents, queries, _, bracketing = golden_case(golden, case)
    actual = jax.jit(jax.vmap(latents_at, in_axes=(None, 0)))(latents, queries)
    # Azimuths are exact to 2e-7; keys lie 0.1 and more apart, latents about 3.
    np.testing.assert_allclose(actual, bracketing, atol=2e-5)


def test_the_reference_rule_agrees_for_regular_keys_only(golden):
    for case, agrees in (("regular", True), ("irregular", False)):
        latents, queries, two_nearest, _ = golden_case(golden, case)
        actual = jax.vmap(latents_at, in_axes=(None, 0))(latents, queries)
        assert np.allclose(actual, two_nearest, atol=2e-5) == agrees


# XLA takes subnormal numbers for zero, so that keys NumPy tells apart would be one.
ANGLES = partial(st.floats, width=32, allow_subnormal=False)
KEYS = st.lists(ANGLES(0.0, 3.0), min_size=4, max_size=4).map(sorted)


@given(KEYS, ANGLES(-1.0, 4.0))
@example([0.0, 0.5, 0.75, 1.0], 4.0)
@settings(deadline=None, max_examples=60)
def test_each_entry_is_interpolated_as_numpy_does(keys, query):
    values = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)
    actual = AT(Latents(w_plus=jnp.asarray(values), azimuth=jnp.asarray(keys)), query)
    assert np.all(np.isfinite(actual))
    assert np.all(actual <= values.max(0) + 1e-6)
    assert np.all(actual >= values.min(0) - 1e-6)
    widths = np.diff(keys)
    if np.all(widths > 1e-3):
        flat = values.reshape(4, -1).T
        # Angles are periodic: 4.0 lies before keys from 0 to 1, not behind them.
        turns = np.round((query - (keys[0] + keys[-1]) / 2) / (2 * np.pi))
        wanted = [np.interp(query - 2 * np.pi * turns, keys, entry) for entry in flat]
        np.testing.assert_allclose(actual.ravel(), wanted, atol=2e-3)
    if query in keys:
        last = max(i for i, key in enumerate(keys) if key == query)
        np.testing.assert_allclose(actual, values[last], atol=1e-6)


def test_equal_keys_are_safe_at_both_ends():
    w = jnp.arange(3.0)[:, None, None]
    for keys, query, wanted in (
        ([0.0, 1.0, 1.0], 1.5, 2.0),
        ([0.0, 1.0, 1.0], 1.0, 2.0),
        ([0.0, 0.0, 1.0], -0.5, 0.0),
        ([0.5, 0.5, 0.5], 0.4, 0.0),
        ([0.5, 0.5, 0.5], 0.6, 2.0),
    ):
        latents = Latents(w_plus=w, azimuth=jnp.array(keys))
        assert float(AT(latents, query)[0, 0]) == wanted
        gradient = jax.grad(
            lambda w, keys=keys, query=query: latents_at(
                Latents(w_plus=w, azimuth=jnp.array(keys)), query
            ).sum()
        )(w)
        assert np.all(np.isfinite(gradient))
        assert float(gradient.sum()) == pytest.approx(1.0)


def test_gradient_reaches_the_two_neighbours_but_no_angle():
    latents = Latents(w_plus=jnp.ones((3, 1, 1)), azimuth=jnp.array([0.0, 1.0, 2.0]))
    gradient, angle = jax.grad(lambda x, a: latents_at(x, a).sum(), argnums=(0, 1))(latents, 1.25)
    np.testing.assert_allclose(gradient.w_plus.ravel(), [0.0, 0.75, 0.25])
    np.testing.assert_array_equal(gradient.azimuth, 0.0)
    assert angle == 0.0


def test_queries_are_periodic_for_keys_behind_the_head():
    keys = jnp.array([2.8, 3.3, 3.8])
    latents = Latents(w_plus=jnp.arange(3.0)[:, None, None], azimuth=keys)
    assert float(AT(latents, 3.55 - 2 * np.pi)[0, 0]) == pytest.approx(1.5, abs=1e-5)
    assert float(AT(latents, 0.5)[0, 0]) == 0.0
    assert float(AT(latents, -0.5)[0, 0]) == 2.0


def test_one_latent_serves_every_view():
    latents = Latents(w_plus=jnp.ones((1, 2, 3)), azimuth=jnp.array([1.5]))
    np.testing.assert_array_equal(AT(latents, -2.0), 1.0)


def test_repeated_latents_are_equal_at_every_azimuth():
    w = jax.random.normal(jax.random.key(0), (2, 3))
    latents = repeat_latents(w, [1.0, 1.5, 2.5])
    assert len(latents) == 3
    assert latents.w_plus.shape == (3, 2, 3)
    np.testing.assert_allclose(AT(latents, 1.7), w, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "angles", "message"),
    [
        ((2, 3), [2.0, 1.0], "do not ascend"),
        ((3,), [1.0], "must be"),
        ((2, 3), 1.0, "must be"),
        ((2, 3), [], "at least 1"),
    ],
)
def test_keys_that_cannot_be_interpolated_are_refused(shape, angles, message):
    with pytest.raises(ValueError, match=message):
        repeat_latents(jnp.ones(shape), angles)


def test_a_batch_of_queries_is_refused():
    with pytest.raises(ValueError, match="vmap"):
        latents_at(repeat_latents(jnp.ones((2, 3)), [1.0, 2.0]), jnp.ones(2))


def rule_weight(name, shape, factor):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return factor * rng.standard_normal(shape).astype(np.float32)


def small_mapping(z):
    """EG3D's mapping (spec eg3d 3) of the fixture small_2x, conditioned on the frontal camera."""

    def normalized(x):
        return x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-8)

    prefix, label = "backbone.mapping.", to_label(orbit(3.14 / 2, 3.14 / 2))
    embed = rule_weight(f"{prefix}embed.weight", (512, 25), 1.0)
    embedded = embed @ label / 5.0 + rule_weight(f"{prefix}embed.bias", (512,), 0.1)
    x = jnp.concatenate(
        [normalized(z), jnp.broadcast_to(normalized(embedded), (len(z), 512))], axis=-1
    )
    for i, width in enumerate((1024, 512)):
        weight = rule_weight(f"{prefix}fc{i}.weight", (512, width), 100.0)
        bias = rule_weight(f"{prefix}fc{i}.bias", (512,), 10.0)
        x = jax.nn.leaky_relu(x @ (weight.T * (0.01 / np.sqrt(width))) + 0.01 * bias, 0.2)
        x = x * np.sqrt(2)
    return x


def test_statistics_equal_the_stored_ones(golden):
    statistics = w_statistics(small_mapping, 512)
    np.testing.assert_allclose(statistics.mean, golden["wstats/w_avg"][0, 0], atol=2e-5)
    np.testing.assert_allclose(statistics.std, golden["wstats/w_std"][0], rtol=1e-5)


def test_spread_of_normal_latents_is_the_root_of_their_length():
    statistics = w_statistics(lambda z: 3.0 + 2.0 * z, 25, num_samples=4000, batch=700)
    # Standard errors of 0.03 of an entry of the mean and of about 0.02 of the spread.
    np.testing.assert_allclose(statistics.mean, 3.0, atol=0.15)
    np.testing.assert_allclose(statistics.std, 2.0 * np.sqrt(25), atol=0.1)


def test_statistics_need_a_batched_mapping():
    with pytest.raises(ValueError, match="vmap"):
        w_statistics(lambda z: z.sum(0), 4, num_samples=10)
    with pytest.raises(ValueError, match="num_samples=0"):
        w_statistics(lambda z: z, 4, num_samples=0)
