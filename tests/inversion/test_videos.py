"""Several videos in one step: each as if it were alone, whatever becomes of the others."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from one_number import Brightness, Painter

from eg3d_jax.cameras import orbit
from inversion import pipeline
from inversion.config import InversionConfig, LossWeights, StageConfig
from inversion.fitting.programs import over_videos, replicate, stack_videos, video, video_mesh
from inversion.fitting.steps import advance_latent, start_latent
from inversion.latents import WStatistics
from inversion.objectives import FeatureNetworks, Targets

SHARED = {
    "generator": Painter(jnp.asarray(1.0)),
    "networks": FeatureNetworks(lpips=Brightness(jnp.asarray(1.0))),
}
STATISTICS = WStatistics(mean=jnp.zeros(2), std=jnp.asarray(1.0))
STEPS = 4


def config_of(rate=0.03):
    return InversionConfig(
        latent=StageConfig(num_steps=STEPS, learning_rate=rate),
        weights=LossWeights(prior=0.0),
        w_noise=0.5,
        random_rays=False,
    )


def own(value):
    """What a video whose two views have this brightness gives to its steps."""
    targets = Targets(
        images=jnp.zeros((2, 4, 4, 3)),
        cameras=orbit(np.linspace(1.2, 1.8, 2), np.full(2, 1.5)),
        features=jnp.full((2, 1), value, jnp.float32),
        embeddings=None,
    )
    return {"targets": targets, "w_statistics": STATISTICS}


def fit(values, *, steps=STEPS, rate=0.03):
    mesh = video_mesh(jax.devices()[:1])
    states = [start_latent(STATISTICS, 3, jax.random.key(0)) for _ in values]
    advance = over_videos(advance_latent, mesh, config_of(rate), steps)
    return advance(
        stack_videos(states, mesh),
        stack_videos([own(value) for value in values], mesh),
        replicate(SHARED, mesh),
    )


def test_each_video_of_a_batch_is_as_if_alone():
    values = (1.0, -2.0, 0.5)
    together, terms = fit(values)
    for i, value in enumerate(values):
        alone, alone_terms = fit([value])
        np.testing.assert_allclose(
            video(together, i).variables.ws, video(alone, 0).variables.ws, atol=1e-6
        )
        np.testing.assert_allclose(terms["perceptual"][i], alone_terms["perceptual"][0], rtol=1e-5)


def test_a_loss_that_is_no_number_ends_that_video_only():
    state, terms = fit([1.0, np.nan])
    np.testing.assert_array_equal(state.step, [STEPS, 0])
    assert np.isnan(terms["perceptual"][1]).all()
    np.testing.assert_array_equal(video(state, 1).variables.ws, np.zeros((3, 2)))
    np.testing.assert_array_equal(
        video(state, 0).variables.ws, video(fit([1.0])[0], 0).variables.ws
    )


def test_an_exploding_loss_ends_at_the_last_state_before():
    """The first step of Adam is the rate long: from 0 to 100, where the loss is its square."""
    state, terms = fit([1.0], rate=100.0)
    assert int(state.step[0]) == 1
    assert float(terms["perceptual"][0, 1]) > 100 * float(terms["perceptual"][0, 0])
    np.testing.assert_allclose(np.abs(video(state, 0).variables.ws).max(), 100.0, rtol=1e-3)
    assert np.isfinite(np.asarray(video(state, 0).variables.ws)).all()


def test_steps_past_the_end_change_nothing():
    state, _ = fit([1.0])
    more, _ = fit([1.0], steps=3 * STEPS)
    assert int(more.step[0]) == STEPS
    np.testing.assert_allclose(more.variables.ws, state.variables.ws, atol=1e-6)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_videos_must_fill_the_devices(count):
    two = AbstractMesh((2,), ("videos",))  # there may be but one device to test on
    with pytest.raises(ValueError, match=f"{count} videos must be a multiple of the 2 devices"):
        stack_videos([own(1.0)] * count, two)


def test_a_precision_chosen_by_with_is_that_of_all_steps(monkeypatch):
    """They are compiled in threads, which do not inherit it."""
    seen = []
    monkeypatch.setattr(pipeline, "planned_stages", lambda *_: [("latent", None), ("tuning", None)])
    monkeypatch.setattr(
        pipeline, "_compile", lambda *_: seen.append(jax.config.jax_default_matmul_precision) or 0
    )
    fitter, video = SimpleNamespace(generator={}), SimpleNamespace(methods=[])
    for precision in ("highest", None):
        with jax.default_matmul_precision(precision):
            pipeline.planned_bytes(fitter, video, 1, {"latent"})
            pipeline.planned_bytes(fitter, video, 1, ())
    assert seen == ["highest"] * 3 + [None] * 3
