"""How different neighbouring views look, by which latents may be spread over them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from experiments.frames_io import Frames, read_image
from inversion import losses
from inversion.features.lpips import Lpips


def change_along(lpips: Lpips, frames: Frames, chosen: np.ndarray) -> np.ndarray:
    """What has changed since the first of some frames, [V], a sum over neighbours.

    Args:
      lpips: its distance is the change from a frame to the next.
      frames: of a video.
      chosen: V indices of frames, by ascending azimuth.
    """
    describe = jax.jit(lambda image: lpips.features(image))
    features = [describe(jnp.asarray(read_image(frames, int(i)))) for i in chosen]
    steps = [float(losses.perceptual(a, b)) for a, b in zip(features, features[1:], strict=False)]
    return np.concatenate([[0.0], np.cumsum(steps)])
