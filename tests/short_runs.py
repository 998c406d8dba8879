"""Settings of the inversions that tests make: what is compiled for one serves all others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from experiments.invert.args import Args

VIEWS = 3
STEPS = {"latent.num_steps": 3, "latents.num_steps": 2, "tuning.num_steps": 2}


def arguments(inputs: Path, run: Path, **changes) -> Args:
    """Of the command, to invert the frames below `inputs` with the generator there."""
    args = Args(
        frames=(inputs / "frames",),
        generator=inputs / "generator",
        run=run,
        views=VIEWS,
        preset="quick",
        views_per_step=2,
        latent_steps=STEPS["latent.num_steps"],
        latents_steps=STEPS["latents.num_steps"],
        tuning_steps=STEPS["tuning.num_steps"],
        baseline=False,
    )
    return dataclasses.replace(args, **changes)
