"""A finished run, measured on frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from eg3d_jax.cameras import from_label, to_label
from experiments.evaluate.files import Evaluated
from inversion.evaluation import measure_frames, measure_latents
from inversion.frames.folder import Frames
from inversion.objectives import FeatureNetworks
from inversion.result import Inversion, render_views

_EQUAL_LABELS = 1e-4  # labels pass through float32 and text


def measure_run(
    run: Path,
    result: Inversion,
    frames: Frames,
    networks: FeatureNetworks,
    identity_network: str | None,
) -> Evaluated:
    """Render every frame's view and measure it, and the latents.

    Args:
      run: its folder, for its name.
      result: what it found.
      frames: to measure on.
      networks: to look through.
      identity_network: name of the file of the network of faces, or None.
    """
    generator, latents = result.generator, result.latents
    renders = render_views(generator, latents, frames.cameras)
    return Evaluated(
        name=run.resolve().name,
        names=frames.names,
        yaw_degrees=frames.yaw_degrees,
        fitted=fitted_frames(frames, result.labels),
        columns=measure_frames(networks, frames, renders),
        latents=measure_latents(generator, latents, from_label(result.labels)),
        count=len(latents),
        identity_network=identity_network,
        provenance={key: result.metadata.get(key) for key in ("source", "license")},
    )


def fitted_frames(frames: Frames, labels: np.ndarray) -> np.ndarray:
    """[T] which frames have the camera of a fitted view."""
    ours = np.asarray(to_label(frames.cameras))
    distance = np.abs(ours[:, None] - np.asarray(labels)[None]).max(axis=-1)
    return distance.min(axis=1, initial=np.inf) < _EQUAL_LABELS
