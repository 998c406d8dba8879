"""A fitted method with all that was measured of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eg3d_jax.generator import Renders
from experiments.batches import render_views
from experiments.fitting import Fit, Fitter, Job
from experiments.frame_scores import FrameScores, score
from experiments.frames_io import Frames
from experiments.methods import Method
from experiments.progress import Progress
from inversion.noise_maps import with_noise_maps


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


def measure(fitter: Fitter, frames: Frames, job: Job, fit: Fit, progress: Progress) -> Finished:
    """Measure a fitted method on all frames, its latents alone and tuned."""
    method = job.method
    untuned = with_noise_maps(fitter.generator, fit.noise_maps)
    generators = {"latent": untuned, "tuning": fit.generator}
    if not fitter.config.tuning.num_steps:
        del generators["tuning"]
    scores, renders = {}, None
    with progress.task(f"{job.prefix}{method.name}: measuring on all frames"):
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
        losses={stage: job.log.history(name) for stage, name in stages.items()},
        seconds={k: progress.seconds.get(job.prefix + name, 0.0) for k, name in stages.items()},
        renders=renders,
    )
