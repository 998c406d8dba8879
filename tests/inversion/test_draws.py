"""What steps draw at random: views, exploration noise and ray samples, each step anew."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_number import Brightness, Painter

from eg3d_jax.cameras import orbit
from inversion.config import InversionConfig, LossWeights, StageConfig
from inversion.fitting.steps import advance_latent, start_latent
from inversion.latents import WStatistics
from inversion.objectives import FeatureNetworks, Targets, reconstruct

STEPS = 8
NETWORKS = FeatureNetworks(lpips=Brightness(jnp.asarray(1.0)))
STATISTICS = WStatistics(mean=jnp.zeros(2), std=jnp.asarray(1.0))
STILL = InversionConfig(  # terms differ between steps by what is drawn alone
    latent=StageConfig(num_steps=STEPS, learning_rate=1e-9),
    weights=LossWeights(prior=0.0),
    w_noise=0.0,
    random_rays=False,
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Grainy(Painter):
    """Adds the draw of the rays to every pixel."""

    def random_draws(self, key, side=None):
        return jax.random.uniform(key)

    def render(self, planes, camera, *, draws, rays_at_once, side=None):
        return super().render(planes + draws, camera, draws=None, rays_at_once=rays_at_once)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Contrast(Painter):
    """Shows how far the first two layers are apart."""

    def tri_planes(self, ws):
        return ws[0, 0] - ws[1, 0]


def targets_of(values):
    count = len(values)
    return Targets(
        images=jnp.zeros((count, 4, 4, 3)),
        cameras=orbit(np.linspace(1.2, 1.8, count), np.full(count, 1.5)),
        features=jnp.asarray(values, jnp.float32)[:, None],
        embeddings=None,
    )


def terms_of_steps(painter, values, **changes):
    _, terms = advance_latent(
        start_latent(STATISTICS, 3, jax.random.key(0)),
        painter(jnp.asarray(1.0)), NETWORKS, targets_of(values), STATISTICS,
        config=dataclasses.replace(STILL, **changes), num_steps=STEPS,
    )  # fmt: skip
    return terms


def test_any_view_with_a_latent_of_its_own_may_be_drawn():
    config = dataclasses.replace(STILL, views_per_step=1)
    painter, ws = Painter(jnp.asarray(1.0)), jnp.zeros((3, 3, 2))

    def loss(key):
        targets = targets_of([1.0, 2.0, 4.0])
        return reconstruct(painter, ws, NETWORKS, targets, config, key)["perceptual"]

    found = jax.jit(jax.vmap(loss))(jax.random.split(jax.random.key(0), 20))
    np.testing.assert_array_equal(np.unique(found), [1.0, 4.0, 16.0])


def test_each_step_draws_views_anew():
    terms = terms_of_steps(Painter, [1.0, 2.0, 4.0], views_per_step=1)
    np.testing.assert_allclose(np.unique(terms["perceptual"].round(3)), [1.0, 4.0, 16.0])


def test_each_step_and_view_has_ray_samples_of_its_own():
    """With targets +-1 samples common to both views cancel in the mixed term of the squares."""
    terms = terms_of_steps(Grainy, [1.0, -1.0], random_rays=True)
    assert len(np.unique(terms["pixel"])) == STEPS
    assert np.all(np.abs(terms["perceptual"] - terms["pixel"] - 1.0) > 1e-3)


def test_each_step_draws_noise_anew_which_ends_with_its_ramp():
    """The picture is the noise: its deviation falls as a parabola to zero at half the steps."""
    found = np.sqrt(terms_of_steps(Painter, [0.0], w_noise=0.5, w_noise_ramp=0.5)["pixel"])
    half = STEPS // 2
    np.testing.assert_allclose(found[half:], 0.0, atol=1e-7)  # the latent's own steps of 1e-9
    normals = found[:half] / (0.5 * (1 - np.arange(half) / half) ** 2)
    assert np.all(np.abs(np.diff(normals)) > 1e-2)


@pytest.mark.parametrize("space", ["w+", "w"])
def test_layers_have_noise_of_their_own_in_w_plus_and_share_it_in_w(space):
    found = terms_of_steps(Contrast, [0.0], w_noise=0.5, w_noise_ramp=1.0, latent_space=space)
    if space == "w":
        np.testing.assert_allclose(found["pixel"], 0.0, atol=1e-12)
    else:
        assert np.all(found["pixel"] > 1e-6)
