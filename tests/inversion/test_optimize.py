"""What both stages do with several views; the generator is one number a view."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_weights import drawn_generator
from flax import nnx
from one_number import Brightness, Painter

from eg3d_jax.cameras import orbit
from eg3d_jax.config import tiny
from inversion.config import InversionConfig, LossWeights, StageConfig
from inversion.fitting.steps import (
    advance_latent,
    advance_latents,
    start_latent,
    start_latents,
    start_tuning,
    tuned_generator,
)
from inversion.latents import WStatistics, repeat_latents
from inversion.objectives import FeatureNetworks, Targets, prepare_targets, reconstruct
from inversion.regularizers import KnotTargets
from inversion.views import Views

PAINTER, NETWORKS = Painter(jnp.asarray(1.0)), FeatureNetworks(lpips=Brightness(jnp.asarray(1.0)))
STATISTICS = WStatistics(mean=jnp.zeros(2), std=jnp.asarray(1.0))
CONFIG = InversionConfig(
    latent=StageConfig(num_steps=8, learning_rate=0.03),
    weights=LossWeights(prior=0.0),
    w_noise=0.0,
    random_rays=False,
)


def targets_of(values):
    values = jnp.asarray(values, jnp.float32)
    count = len(values)
    return Targets(
        images=jnp.zeros((count, 4, 4, 3)),
        cameras=orbit(np.linspace(1.2, 1.8, count), np.full(count, 1.5)),
        features=values[:, None],
        embeddings=None,
    )


def fit(config, targets, steps=4):
    state = start_latent(STATISTICS, 3, jax.random.key(0))
    return advance_latent(
        state, PAINTER, NETWORKS, targets, STATISTICS, config=config, num_steps=steps
    )


@pytest.mark.parametrize("views_at_once", [None, 2])
def test_terms_are_means_over_the_views(views_at_once):
    config = dataclasses.replace(CONFIG, views_at_once=views_at_once)
    values, w = np.array([1.0, 2.0, -1.0]), 0.5
    terms = reconstruct(
        PAINTER, jnp.full((3, 2), w), NETWORKS, targets_of(values), config, jax.random.key(0)
    )
    assert float(terms["perceptual"]) == pytest.approx(np.mean((w - values) ** 2), rel=1e-6)
    assert float(terms["pixel"]) == pytest.approx(w**2, rel=1e-6)


def test_target_features_are_those_of_the_given_views():
    """Of no other frames of the video, and before the first step."""
    images = jnp.arange(2.0)[:, None, None, None] * jnp.ones((2, 4, 4, 3))
    views = Views(images=images, cameras=targets_of([0.0, 0.0]).cameras)
    targets = prepare_targets(NETWORKS, views)
    np.testing.assert_array_equal(targets.features, [[0.0], [1.0]])
    assert targets.embeddings is None


def test_sum_or_mean_over_the_views_gives_the_same_steps():
    """Adam divides a constant factor out, so the mean takes the steps of the authors' sum."""
    weights = LossWeights(pixel=0.3, perceptual=3.0, prior=3.0)
    targets = targets_of([1.0, 2.0, 4.0])
    mean, _ = fit(dataclasses.replace(CONFIG, weights=LossWeights(prior=1.0)), targets)
    total, _ = fit(dataclasses.replace(CONFIG, weights=weights), targets)
    assert np.abs(mean.variables.ws).max() > 0.1
    np.testing.assert_allclose(mean.variables.ws, total.variables.ws, atol=1e-6)


@pytest.mark.parametrize("per_view", [False, True])
def test_exploration_noise_is_drawn_once_a_step_unless_told_otherwise(per_view):
    """With targets +-c a noise common to both views cancels in the mixed term of the squares."""
    config = dataclasses.replace(
        CONFIG,
        w_noise=0.5,
        noise_per_view=per_view,
        latent=StageConfig(num_steps=8, learning_rate=1e-9),
    )
    _, terms = fit(config, targets_of([1.0, -1.0]))
    assert np.all(terms["pixel"] > 0)
    mixed = np.asarray(terms["perceptual"] - terms["pixel"] - 1.0)
    if per_view:
        assert np.all(np.abs(mixed) > 1e-3)
    else:
        np.testing.assert_allclose(mixed, 0.0, atol=1e-5)


def test_the_prior_sees_the_latent_without_its_noise():
    config = dataclasses.replace(
        CONFIG, w_noise=0.5, latent=StageConfig(num_steps=8, learning_rate=1e-9)
    )
    _, terms = fit(config, targets_of([1.0]))
    np.testing.assert_allclose(terms["prior"], 0.0, atol=1e-12)


def test_in_w_all_layers_follow_the_gradient_of_the_sum():
    """The painter looks at the first layer only; in W+ the others stay, in W they go along."""
    targets = targets_of([1.0, 3.0])
    free, _ = fit(dataclasses.replace(CONFIG, w_noise=0.5), targets)
    assert np.all(np.asarray(free.variables.ws)[1:] == 0)
    tied, _ = fit(dataclasses.replace(CONFIG, w_noise=0.5, latent_space="w"), targets)
    ws = np.asarray(tied.variables.ws)
    np.testing.assert_array_equal(ws, np.broadcast_to(ws[:1], ws.shape))
    assert ws[0, 0] > 0.05
    start = repeat_latents(jnp.ones((3, 2)), jnp.arange(2.0))
    state, _ = advance_latents(
        start_latents(start, jax.random.key(0)), PAINTER, NETWORKS,
        KnotTargets(knots=targets, between=None), start,
        config=dataclasses.replace(CONFIG, latent_space="w", regularizers=("distance",)),
        num_steps=4,
    )  # fmt: skip
    each = np.asarray(state.variables)
    np.testing.assert_array_equal(each, np.broadcast_to(each[:, :1], each.shape))
    assert each[1, 0, 0] > 1 > each[0, 0, 0] - 1e-6


def test_chunks_of_a_stage_equal_one_run():
    """The draws of a step depend on the step alone."""
    config, targets = dataclasses.replace(CONFIG, w_noise=0.5), targets_of([1.0, 3.0])
    whole, _ = fit(config, targets, steps=4)
    state, _ = fit(config, targets, steps=2)
    parts, _ = advance_latent(
        state, PAINTER, NETWORKS, targets, STATISTICS, config=config, num_steps=2
    )
    np.testing.assert_allclose(whole.variables.ws, parts.variables.ws, atol=1e-6)


def test_tuning_holds_one_copy_of_the_parameters_and_leaves_noise_maps_alone():
    """However many views there are; the authors store a copy for each of them."""
    generator = drawn_generator(tiny())
    state = start_tuning(generator, jax.random.key(0))
    params = nnx.state(generator, nnx.Param)
    assert jax.tree.map(jnp.shape, state.variables) == jax.tree.map(jnp.shape, params)
    shifted = dataclasses.replace(state, variables=jax.tree.map(lambda x: x + 1, state.variables))
    tuned = tuned_generator(generator, shifted)
    block, before = tuned.backbone.blocks[1].conv0, generator.backbone.blocks[1].conv0
    np.testing.assert_array_equal(block.noise_map[...], before.noise_map[...])
    np.testing.assert_array_equal(block.noise_strength[...], before.noise_strength[...] + 1)
