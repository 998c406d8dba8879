"""Schedules to choose from: the paper's, and a short one for the small embedded generator."""

from __future__ import annotations

import dataclasses
from typing import Literal

from inversion.config import InversionConfig, LossWeights, StageConfig

Preset = Literal["paper", "quick"]


def inversion_config(
    preset: Preset,
    *,
    latent_steps: int | None = None,
    tuning_steps: int | None = None,
    views_at_once: int | None = None,
    rays_at_once: int | None = None,
) -> InversionConfig:
    """The preset with what the user changed.

    'paper' has the authors' published numbers (spec inversion 10). 'quick' is made for minutes on
    a laptop: few steps, each on one view drawn at random, larger tuning steps, and little prior and
    noise, since a small latent space needs none.
    """
    config = InversionConfig()
    config = dataclasses.replace(config, tuning=dataclasses.replace(config.tuning, num_steps=500))
    if preset == "quick":
        config = InversionConfig(
            latent=StageConfig(num_steps=160, learning_rate=0.1, ramp_up=0.05, ramp_down=0.4),
            tuning=StageConfig(num_steps=80, learning_rate=4e-3, ramp_up=0.1, ramp_down=0.5),
            weights=LossWeights(pixel=1.0, prior=0.1),
            w_noise=0.02,
            views_per_step=1,
        )
    latent, tuning = config.latent, config.tuning
    if latent_steps is not None:
        latent = dataclasses.replace(latent, num_steps=latent_steps)
    if tuning_steps is not None:
        tuning = dataclasses.replace(tuning, num_steps=tuning_steps)
    return dataclasses.replace(
        config,
        latent=latent,
        tuning=tuning,
        views_at_once=views_at_once,
        rays_at_once=rays_at_once,
    )
