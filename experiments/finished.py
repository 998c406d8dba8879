"""A fitted method with all that was measured of it."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from eg3d_jax.generator import Renders
from experiments.batches import render_views
from experiments.fitting import Fit, Fitter
from experiments.frame_scores import FrameScores, score
from experiments.frames_io import Frames, read_images
from experiments.methods import Method
from inversion.views import Views


@dataclass(frozen=True, kw_only=True)
class Finished:
    """One fitted method with all that was measured.

    Attributes:
      method: what was fitted.
      fit: latents and tuned generator.
      scores: of the tuned generator and of the latent alone, by "tuned" and "latent".
      losses: of both stages, by the same names.
      seconds: of both stages.
      renders: of the tuned generator on all frames.
    """

    method: Method
    fit: Fit
    scores: dict[str, FrameScores]
    losses: dict[str, dict[str, np.ndarray]]
    seconds: dict[str, float]
    renders: Renders


def finish(fitter: Fitter, frames: Frames, method: Method, start: Fit | None) -> Finished:
    """Fit one method and measure it on all frames, its latents alone and tuned."""
    images = jnp.asarray(read_images(frames, method.frames))
    views = Views(images=images, cameras=frames.cameras[method.frames])
    fit = fitter.fit(method, views, start)
    generators = {"latent": fitter.generator, "tuning": fit.generator}
    if not fitter.config.tuning.num_steps:
        del generators["tuning"]
    scores, renders = {}, None
    with fitter.progress.task(f"{method.name}: measuring on all frames"):
        for stage, generator in generators.items():
            renders = render_views(generator, fit.latents, frames.cameras)
            scores[stage] = score(fitter.networks.lpips, frames, renders)
    assert renders is not None
    names = {"latent": method.latent_stage, "tuning": method.tuning_stage}
    stages = {stage: names[stage] for stage in generators}
    return Finished(
        method=method,
        fit=fit,
        scores=scores,
        losses={stage: fitter.log.history(name) for stage, name in stages.items()},
        seconds={k: fitter.progress.seconds.get(name, 0.0) for k, name in stages.items()},
        renders=renders,
    )
