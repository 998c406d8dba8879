"""Inputs of both sides: latents, cameras, and the random numbers of the renderer."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from eg3d_jax.cameras import to_label, yaw_pitch_camera
from eg3d_jax.generator import TriPlaneGenerator

_YAW, _PITCH = 0.5, 0.2  # of the first and last camera, radians

Arrays = dict[str, np.ndarray]


def make_inputs(
    generator: TriPlaneGenerator, *, latents: int, cameras: int, side: int, seed: int
) -> Arrays:
    """Draw the inputs of a comparison.

    Args:
      generator: fixes the sizes and the orbit of the cameras.
      latents: number L of random z.
      cameras: number C of cameras, from one side of the head to the other.
      side: of the volume rendering, pixels; R = side * side.
      seed: of all draws.

    Returns:
      float32 z [L, z_dim], condition [25], labels [C, 25], jitter [C, R, D] and u [C, R, K].
    """
    config, random = generator.config, np.random.default_rng(seed)
    render = config.render
    swing = jnp.linspace(-1.0, 1.0, cameras)
    views = yaw_pitch_camera(
        _YAW * swing, _PITCH * swing, radius=config.camera_radius, focal=config.focal
    )
    return {
        "z": random.standard_normal((latents, config.z_dim), np.float32),
        "condition": np.asarray(to_label(generator.frontal_camera())),
        "labels": np.asarray(to_label(views)),
        "jitter": random.random((cameras, side * side, render.coarse_samples), np.float32),
        "u": random.random((cameras, side * side, render.fine_samples), np.float32),
    }
