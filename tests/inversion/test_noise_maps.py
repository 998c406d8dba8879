"""Noise maps that are fitted with a latent: which, in what bounds, and who sees them."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_weights import drawn_generator
from hypothesis import given, settings
from hypothesis import strategies as st

from eg3d_jax.cameras import yaw_pitch_camera
from eg3d_jax.config import tiny
from inversion import losses
from inversion.config import InversionConfig, LossWeights, StageConfig
from inversion.fitting.steps import advance_latent, start_latent, start_tuning, tuned_generator
from inversion.latents import WStatistics
from inversion.noise_maps import own_noise_maps, standardize, with_noise_maps
from inversion.objectives import FeatureNetworks, Targets

STEPS = 40
KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Nothing:
    """A feature network that sees nothing."""

    def features(self, image):
        return jnp.zeros(1)


jax.tree_util.register_dataclass(Nothing)


@pytest.fixture(scope="module")
def generator():
    generator = drawn_generator(tiny())
    for block in generator.backbone.blocks:
        for layer in filter(None, (block.conv0, block.conv1)):
            layer.noise_strength[...] = jnp.asarray(0.5)
    return generator


def test_the_backbones_maps_are_those_of_its_layers(generator):
    maps = own_noise_maps(generator)
    layers = {
        f"backbone.blocks.{i}.{name}": getattr(block, name)
        for i, block in enumerate(generator.backbone.blocks)
        for name in ("conv0", "conv1")
        if getattr(block, name) is not None
    }
    assert set(maps) == set(layers)
    for name, layer in layers.items():
        np.testing.assert_array_equal(maps[name], layer.noise_map[...])


def test_other_maps_show_in_the_planes_and_leave_the_generator_alone(generator):
    maps = own_noise_maps(generator)
    other = with_noise_maps(generator, jax.tree.map(lambda x: -x, maps))
    ws = generator.map_to_ws(jnp.ones(generator.config.z_dim))
    assert np.abs(other.tri_planes(ws) - generator.tri_planes(ws)).max() > 1e-2
    back = with_noise_maps(other, maps)
    np.testing.assert_array_equal(back.tri_planes(ws), generator.tri_planes(ws))
    assert with_noise_maps(generator, {}) is generator
    with pytest.raises(ValueError, match=r"backbone\.blocks\.9\.conv0"):
        with_noise_maps(generator, {"backbone.blocks.9.conv0": jnp.ones((4, 4))})


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.floats(-3, 3), st.floats(0.01, 100))
def test_standard_maps_have_mean_0_and_mean_square_1(seed, mean, deviation):
    noise = mean + deviation * np.random.default_rng(seed).normal(size=(8, 8)).astype(np.float32)
    out = np.asarray(standardize({"a": jnp.asarray(noise)})["a"], np.float64)
    # Float32's eps times the size of what is subtracted, which is up to 300 deviations.
    bound = 64 * float(np.finfo(np.float32).eps) * (1 + abs(mean) / deviation)
    assert abs(np.mean(out)) < bound
    assert np.mean(np.square(out)) == pytest.approx(1.0, abs=bound)


@pytest.fixture(scope="module")
def fitted(generator):
    """States and terms where something is asked of the pictures alone, or of the maps."""
    targets = Targets(
        images=jnp.zeros((1, *(generator.config.image_side,) * 2, 3)),
        cameras=yaw_pitch_camera(np.zeros(1, np.float32), 0.0),
        features=jnp.zeros((1, 1)),
        embeddings=None,
    )
    statistics = WStatistics(mean=jnp.zeros(generator.config.w_dim), std=jnp.asarray(1.0))

    def fit(weights):
        config = InversionConfig(
            latent=StageConfig(num_steps=STEPS, learning_rate=0.02, ramp_down=0.5),
            weights=weights,
            w_noise=0.0,
        )
        maps = own_noise_maps(generator)
        state = start_latent(statistics, generator.config.num_ws, KEY, maps)
        networks = FeatureNetworks(lpips=Nothing())
        return advance_latent(
            state, generator, networks, targets, statistics, config=config, num_steps=STEPS
        )

    return {
        "pictures": fit(LossWeights(pixel=1.0, prior=0.0, noise=0.0)),
        "maps": fit(LossWeights(pixel=0.0, prior=0.0)),
    }


@pytest.mark.slow
def test_fitted_maps_follow_the_pictures_and_stay_standard(generator, fitted):
    state, terms = fitted["pictures"]
    assert terms["pixel"][-1] < terms["pixel"][0]
    before = own_noise_maps(generator)
    for name, noise in state.variables.noise_maps.items():
        assert np.abs(noise - before[name]).max() > 0.01, name
        assert float(jnp.mean(noise)) == pytest.approx(0.0, abs=1e-5)
        assert float(jnp.mean(jnp.square(noise))) == pytest.approx(1.0, abs=1e-5)


def test_the_regulariser_draws_correlation_out_of_the_maps(generator, fitted):
    state, terms = fitted["maps"]
    start = losses.noise_regularizer(list(own_noise_maps(generator).values()))
    assert float(terms["noise"][0]) == pytest.approx(float(start), rel=1e-5)
    end = losses.noise_regularizer(list(state.variables.noise_maps.values()))
    assert float(end) < 0.5 * float(start)


def test_without_them_no_maps_are_fitted_and_no_term_is_added():
    state = start_latent(WStatistics(mean=jnp.zeros(2), std=jnp.asarray(1.0)), 3, KEY)
    assert [leaf.shape for leaf in jax.tree.leaves(state.variables)] == [(3, 2)]


def test_a_tuned_generator_keeps_fitted_maps(generator, fitted):
    maps = fitted["pictures"][0].variables.noise_maps
    tuned = tuned_generator(with_noise_maps(generator, maps), start_tuning(generator, KEY))
    chex.assert_trees_all_equal(own_noise_maps(tuned), maps)
