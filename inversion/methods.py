"""Methods of an inversion: which views are fitted, and which of them have a latent of their own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import jax
import numpy as np

from eg3d_jax.errors import InputError
from inversion import losses
from inversion.features.lpips import Lpips
from inversion.objectives import FeatureNetworks, prepare_targets
from inversion.views import Views, select_along, select_evenly


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method of inversion: fitted views and knots.

    Attributes:
      name: in tables, logs and folders.
      frames: [V] indices of the fitted frames, by ascending azimuth.
      knots: [K] positions within `frames` that have a latent of their own; None for one latent.
      start: the method whose latent the latents start from; None for one latent, which starts from
        the mean.
    """

    name: str
    frames: np.ndarray
    knots: np.ndarray | None = None
    start: Method | None = field(default=None, repr=False)

    @property
    def latent_stage(self) -> str:
        """Name of the stage that fits the latent, or the latents."""
        return self.stage("latent" if self.knots is None else "latents")

    @property
    def tuning_stage(self) -> str:
        """Name of the stage that tunes the generator."""
        return self.stage("tuning")

    @property
    def between(self) -> np.ndarray:
        """Positions within `frames` without a latent of their own."""
        everything = np.arange(len(self.frames))
        return everything[:0] if self.knots is None else np.setdiff1d(everything, self.knots)

    def stage(self, stage: str) -> str:
        """Name of one of the method's stages in logs and folders."""
        return f"{self.name}, {stage}"


def choose_methods(
    azimuths: np.ndarray, *, views: int, latents: int = 1, baseline: bool = False
) -> list[Method]:
    """Choose the methods of a run: a single view if wanted, all views, several latents if wanted.

    Args:
      azimuths: [T] of all frames, radians.
      views: number of frames to fit, evenly spaced.
      latents: number K of latents; knots are spread evenly over the views.
      baseline: also invert the most frontal frame alone.

    Raises:
      InputError: if there cannot be so many views or latents.
    """
    if views < 1:
        raise InputError(f"--views {views} must be at least 1")
    if not 1 <= latents <= views:
        raise InputError(
            f"--latents {latents} must be at least 1 and at most the number of views, {views}"
        )
    counts = [1, views] if baseline and views > 1 else [views]
    methods = [
        Method(name=_counted(count, "view"), frames=select_evenly(azimuths, count))
        for count in counts
    ]
    if latents > 1:
        single = methods[-1]
        knots = np.linspace(0, views - 1, latents).round().astype(int)
        name = f"{single.name}, {latents} latents"
        methods.append(Method(name=name, frames=single.frames, knots=knots, start=single))
    return methods


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def place_knots(method: Method, networks: FeatureNetworks, views: Views) -> Method:
    """Place a method's knots by how much neighbouring views look different.

    Args:
      method: of several latents.
      networks: LPIPS is the difference.
      views: those of the method, by ascending azimuth.
    """
    assert method.knots is not None
    knots = select_along(change_along(networks.lpips, views), len(method.knots))
    return replace(method, knots=knots)


def change_along(lpips: Lpips, views: Views) -> np.ndarray:
    """Change of appearance since the first view, [V]: a sum of LPIPS over neighbours."""
    features = prepare_targets(FeatureNetworks(lpips=lpips), views).features
    steps = jax.vmap(losses.perceptual)(features[1:], features[:-1])
    return np.concatenate([[0.0], np.cumsum(steps)])
