"""A call of `inversion.invert_videos` with and without a cluster, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from drawn_weights import VISIBLE, drawn_generator

from eg3d_jax.cameras import yaw_pitch_camera
from inversion.config import StageConfig, quick
from inversion.pipeline import invert_videos
from inversion.views import Views


def compare(address: str, folder: str) -> None:
    """Make `folder`/same if both give the same numbers, and an error for what is no picture."""
    generator = drawn_generator(VISIBLE)
    config = quick(
        latent=StageConfig(num_steps=2, learning_rate=0.01),
        tuning=StageConfig(num_steps=1, learning_rate=0.001),
    )
    cameras = yaw_pitch_camera(np.linspace(-0.5, 0.5, 3), np.zeros(3))
    pictures = jax.random.uniform(jax.random.key(0), (2, 3, 32, 32, 3), minval=-1.0)
    pictures = [*pictures, jnp.full((3, 32, 32, 3), jnp.nan)]
    videos = [Views(images=images, cameras=cameras) for images in pictures]
    here = invert_videos(generator, videos, config, key=jax.random.key(1))
    there = invert_videos(generator, videos, config, key=jax.random.key(1), cluster=address)
    assert isinstance(there[2], Exception) and str(there[2]) == str(here[2])  # noqa: PT018
    for one, other in zip(here[:2], there[:2], strict=True):
        assert not isinstance(one, Exception) and not isinstance(other, Exception)  # noqa: PT018
        for part in ("latents", "generator"):
            leaves = zip(
                *map(jax.tree.leaves, (getattr(one, part), getattr(other, part))), strict=True
            )
            assert all(np.array_equal(a, b) for a, b in leaves), part
    Path(folder, "same").touch()
