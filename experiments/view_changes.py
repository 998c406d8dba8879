"""How different neighbouring views look, by which latents may be spread over them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from experiments.frames_io import Frames, read_images
from inversion import losses
from inversion.features.lpips import Lpips
from inversion.objectives import FeatureNetworks, prepare_targets
from inversion.views import Views


def change_along(lpips: Lpips, frames: Frames, chosen: np.ndarray) -> np.ndarray:
    """What has changed since the first of some frames, [V], a sum over neighbours.

    Args:
      lpips: its distance is the change from a frame to the next.
      frames: of a video.
      chosen: V indices of frames, by ascending azimuth.
    """
    views = Views(images=jnp.asarray(read_images(frames, chosen)), cameras=frames.cameras[chosen])
    features = prepare_targets(FeatureNetworks(lpips=lpips), views).features
    steps = jax.vmap(losses.perceptual)(features[1:], features[:-1])
    return np.concatenate([[0.0], np.cumsum(steps)])
