"""Flicker: what changes between close views beyond the motion of the head."""

from __future__ import annotations

import math

import numpy as np
from jax.typing import ArrayLike

from eg3d_jax.cameras import Cameras, yaw_pitch_camera
from eg3d_jax.generator import TriPlaneGenerator
from experiments.batches import BATCH, render_views
from inversion.latents import Latents

STEP_DEGREES = 0.2


def flicker(frames: ArrayLike) -> float:
    """Mean absolute second difference of consecutive frames over their mean absolute difference.

    With frames a, b, c in a row: mean |a - 2 b + c| / mean |b - a|, divided by sqrt(3), its value
    for independent normal noise. So 0 is a picture in which every pixel changes evenly, 1 one in
    which all that changes is new noise, and 2 / sqrt(3) one that jumps back and forth. It tells of
    flicker if the path is slow, at most about a pixel a frame.

    Args:
      frames: [T, ...] at least 3, any unit.

    Returns:
      The ratio; 0 if nothing changes.
    """
    frames = np.asarray(frames, np.float64)
    if len(frames) < 3:
        raise ValueError(f"flicker needs 3 frames or more, not {len(frames)}")
    bend = np.abs(frames[:-2] - 2 * frames[1:-1] + frames[2:]).mean()
    motion = np.abs(np.diff(frames, axis=0)).mean()
    return float(bend / (math.sqrt(3) * motion)) if motion else 0.0


def slow_swing(radius: float, focal: float) -> Cameras:
    """A batch of level cameras `STEP_DEGREES` apart, the middle of them frontal."""
    yaw = np.radians(STEP_DEGREES) * (np.arange(BATCH) - (BATCH - 1) / 2)
    return yaw_pitch_camera(yaw.astype(np.float32), 0.0, radius=radius, focal=focal)


def measure_flicker(generator: TriPlaneGenerator, latents: Latents) -> dict[str, float]:
    """Flicker of a head on `slow_swing`, the same whatever path is rendered; deterministic.

    Returns:
      `image`; `raw`, before super-resolution; `depth` of what is solid in all frames; and
      `image_motion`, the mean absolute change of the image from one frame to the next in grey
      levels of 255.
    """
    config = generator.config
    out = render_views(generator, latents, slow_swing(config.camera_radius, config.focal))
    motion = float(np.abs(np.diff(out.image, axis=0)).mean() * 127.5)
    # Elsewhere depth is hidden, and the quotient of two numbers near zero.
    solid = np.all(out.opacity > 0.5, axis=0)
    seen = {"image": out.image, "raw": out.raw, "depth": out.depth[:, solid]}
    return {**{name: flicker(frames) for name, frames in seen.items()}, "image_motion": motion}
