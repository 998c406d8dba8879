"""Videos with fewer views share what is compiled for more, and fit only the views they have."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_number import Brightness
from toy_inversion import Painter

from eg3d_jax.cameras import yaw_pitch_camera
from inversion.config import InversionConfig, StageConfig
from inversion.fitting.programs import Programs, video_mesh
from inversion.fitting.runner import StageRunner
from inversion.fitting.states import Store
from inversion.latents import WStatistics
from inversion.methods import choose_methods
from inversion.monitor import Monitor
from inversion.objectives import (
    FeatureNetworks,
    draw_first_views,
    prepare_targets,
    reconstruct,
)
from inversion.pipeline import Fitter, Job, Video
from inversion.views import Views

NETWORKS = FeatureNetworks(lpips=Brightness(jnp.asarray(1.0)))
CONFIG = InversionConfig(
    latent=StageConfig(num_steps=2, learning_rate=0.1),
    tuning=StageConfig(num_steps=1, learning_rate=0.1),
    views_per_step=2,
)


class Still(Painter):
    """Without noise of the rays."""

    def random_draws(self, key, side=None):
        return jnp.zeros(())


def views(brightness) -> Views:
    """Pictures of one number each."""
    shown = jnp.asarray(brightness)[:, None, None, None] * jnp.ones((1, 4, 4, 3))
    angles = np.linspace(-0.5, 0.5, len(brightness)) if len(brightness) > 1 else np.zeros(1)
    return Views(images=shown, cameras=yaw_pitch_camera(angles, np.zeros(len(brightness))))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_only_the_first_views_are_drawn_and_each_as_often(count):
    drawn, weights = jax.vmap(lambda key: draw_first_views(jnp.arange(7), count, 3, key))(
        jax.random.split(jax.random.key(0), 3000)
    )
    fewer = min(count, 3)
    assert np.all(weights.sum(axis=1) == fewer)
    counts = np.bincount(np.asarray(drawn)[np.asarray(weights) > 0], minlength=7)
    assert np.all(counts[count:] == 0)
    # Binomial of 3000 draws: five standard deviations.
    share = fewer / count
    spread = 5 * np.sqrt(3000 * share * (1 - share))
    assert np.all(np.abs(counts[:count] - 3000 * share) <= spread)
    assert all(len(set(row)) == 3 for row in np.asarray(drawn))  # without repetition


def test_padding_takes_no_part_in_the_losses():
    """Of three views in five places all three are drawn, and two weigh nothing."""
    three, config = views([0.1, 0.2, 0.6]), dataclasses.replace(CONFIG, views_per_step=5)
    ws, key = jnp.full((2, 3), 0.3), jax.random.key(1)
    filled = three[np.array([0, 1, 2, 2, 2, 2])]
    found = reconstruct(Still(), ws, NETWORKS, prepare_targets(NETWORKS, filled, 3), config, key)
    wanted = reconstruct(Still(), ws, NETWORKS, prepare_targets(NETWORKS, three), config, key)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6)
    np.testing.assert_allclose(found["pixel"], np.mean([0.04, 0.01, 0.09]), rtol=1e-5)


def fitter() -> Fitter:
    generator = Still()
    programs = Programs(generator, NETWORKS, CONFIG, video_mesh())
    return Fitter(
        generator=generator,
        networks=NETWORKS,
        w_statistics=WStatistics(mean=jnp.zeros(2), std=jnp.asarray(1.0)),
        runner=StageRunner(programs, Monitor()),
        key=jax.random.key(0),
    )


def fit(fitter: Fitter, count: int, most: int) -> None:
    given = views(np.full(count, 0.3))
    methods = choose_methods(np.linspace(-0.5, 0.5, count), views=count, latents=1)
    video = Video(name=str(count), frames=given, methods=methods, most_views=most)
    fitter.fit([Job(video=video, method=methods[0], start=None, store=Store())])


def test_thirty_view_counts_are_compiled_twice():
    """For those with the most views, and for all others."""
    compiled: list[str] = []

    def listen(event: str, _: float, **what) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(str(what.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        padded, each = fitter(), fitter()
        for count in (30, 29):
            fit(padded, count, 30)
        before = len(compiled)
        for count in range(2, 29):
            fit(padded, count, 30)
        steps = [name for name in compiled[before:] if "on_device" in name]
        assert steps == []
        assert len(padded.runner.programs._compiled) == 2 * 2  # of the latent and of tuning
        for count in (2, 3, 4):  # without, each is another
            fit(each, count, 0)
        assert len(each.runner.programs._compiled) == 3 + 3
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
