"""Kinds of stages: the start, the arguments of the steps and the result of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
from jax import Array

from eg3d_jax.generator import TriPlaneGenerator
from inversion.config import InversionConfig, StageConfig
from inversion.fitting.adam import StageState
from inversion.fitting.steps import (
    advance_latent,
    advance_latents,
    advance_pivots,
    advance_tuning,
    start_latent,
    start_latents,
    start_tuning,
)
from inversion.latents import Latents, WStatistics, repeat_latents
from inversion.methods import Method
from inversion.noise_maps import NoiseMaps, own_noise_maps
from inversion.objectives import Targets
from inversion.regularizers import KnotTargets, split_targets

# Stages are pytrees, so that `jax.eval_shape` plans those not begun. `own` are the arguments of
# `advance` that belong to a video, by name; those of videos fitted together are stacked, while
# generator and networks are shared.


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class LatentStage:
    """Stage that fits one latent to all views (spec inversion section 3).

    Attributes:
      state: before the first step.
      targets: of all views.
      w_statistics: of the generator's mapping.
      schedule: of the stage.
    """

    state: StageState
    targets: Targets
    w_statistics: WStatistics
    schedule: StageConfig = field(metadata={"static": True})

    advance = staticmethod(advance_latent)
    tune = staticmethod(advance_tuning)  # the generator around the latent (spec inversion 4)
    # Videos whose generator is the same can be batched on a device.
    shares_generator = True

    @classmethod
    def start(
        cls,
        generator: TriPlaneGenerator,
        w_statistics: WStatistics,
        config: InversionConfig,
        targets: Targets,
        key: Array,
        begun: tuple[Array, NoiseMaps] | None = None,
    ) -> LatentStage:
        """Start from the mean latent, and the generator's noise maps if they are fitted.

        Args:
          generator: stays as it is.
          w_statistics: of its mapping.
          config: schedules.
          targets: of all views.
          key: of the draws.
          begun: a latent [L, D] to start from instead, with its noise maps, if it has any.
        """
        ws, found = (None, {}) if begun is None else begun
        maps = maps_to_fit(generator, config)
        maps = found if maps and found else maps
        return cls(
            state=start_latent(w_statistics, generator.config.num_ws, key, maps, ws),
            targets=targets,
            w_statistics=w_statistics,
            schedule=config.latent,
        )

    @property
    def own(self) -> dict[str, Any]:
        """Arguments of `advance` that belong to this video alone."""
        return {"targets": self.targets, "w_statistics": self.w_statistics}

    def latents(self, end: StageState, frontal: Array) -> Latents:
        """Fitted latent, at the azimuth `frontal` []."""
        return repeat_latents(end.variables.ws, frontal[None])

    def noise_maps(self, end: StageState) -> NoiseMaps:
        """Noise maps fitted with the latent; empty if the generator's own stay."""
        return end.variables.noise_maps

    def pivot(self, end: StageState) -> dict[str, Any]:
        """What `tune` keeps fixed, by its argument's name."""
        return {"ws": end.variables.ws}


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class KnotStage:
    """Stage that fits a latent to each knot, from the one of all views (spec inversion section 5).

    Attributes:
      state: before the first step.
      targets: of the knots and of the views between them.
      start: the latent of all views, once for each knot; or of another inversion, one for each.
      start_maps: noise maps fitted with it.
      schedule: of the stage.
    """

    state: StageState
    targets: KnotTargets
    start: Latents
    start_maps: NoiseMaps
    schedule: StageConfig = field(metadata={"static": True})

    advance = staticmethod(advance_latents)
    tune = staticmethod(advance_pivots)  # the generator around the latents (spec inversion 6)
    shares_generator = True

    @classmethod
    def begin(
        cls,
        method: Method,
        config: InversionConfig,
        targets: Targets,
        latents: Latents,
        noise_maps: NoiseMaps,
        key: Array,
    ) -> KnotStage:
        """Make the stage from the latent of all views.

        Args:
          method: which views are knots.
          config: schedules.
          targets: of all views.
          latents: at the knots' azimuths, from which they start.
          noise_maps: fitted with it; empty if the generator's own stay.
          key: of the draws.
        """
        assert method.knots is not None
        return cls(
            state=start_latents(latents, key),
            targets=split_targets(targets, method.knots, method.between),
            start=latents,
            start_maps=noise_maps,
            schedule=config.latents,
        )

    @property
    def own(self) -> dict[str, Any]:
        """Arguments of `advance` that belong to this video alone."""
        return {"targets": self.targets, "start": self.start, "noise_maps": self.start_maps}

    def latents(self, end: StageState, frontal: Array) -> Latents:
        """Fitted latents, each at the azimuth of its view."""
        del frontal
        return dataclasses.replace(self.start, w_plus=end.variables)

    def noise_maps(self, end: StageState) -> NoiseMaps:
        """Noise maps of the latent from which this stage started."""
        del end
        return self.start_maps

    def pivot(self, end: StageState) -> dict[str, Any]:
        """What `tune` keeps fixed, by its argument's name."""
        return {"latents": dataclasses.replace(self.start, w_plus=end.variables)}


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TuningStage:
    """Stage that tunes the generator around fixed latents; made by the other stages' `tuning`.

    Attributes:
      state: before the first step.
      own: arguments of `advance` that are this video's, by name.
      advance: of `inversion.fitting.steps`.
      schedule: of the stage.
    """

    state: StageState
    own: dict[str, Any]
    advance: Callable = field(metadata={"static": True})
    schedule: StageConfig = field(metadata={"static": True})

    # Each video has kernels of its own.
    shares_generator = False


FirstStage = LatentStage | KnotStage
Stage = LatentStage | KnotStage | TuningStage


def tuning_stage(
    found: FirstStage,
    generator: TriPlaneGenerator,
    config: InversionConfig,
    end: StageState,
    key: Array,
) -> TuningStage:
    """Make the stage that tunes the generator around what another stage has found.

    Args:
      found: that stage, as it began.
      generator: before.
      config: schedules.
      end: how that stage ended.
      key: of the draws.
    """
    return TuningStage(
        state=start_tuning(generator, key),
        own={
            "targets": found.targets,
            "noise_maps": found.noise_maps(end),
            **found.pivot(end),
        },
        advance=found.tune,
        schedule=config.tuning,
    )


def maps_to_fit(generator: TriPlaneGenerator, config: InversionConfig) -> NoiseMaps:
    """Noise maps that the first stage fits, as they are before; none unless asked for."""
    return own_noise_maps(generator) if config.fit_noise_maps else {}
