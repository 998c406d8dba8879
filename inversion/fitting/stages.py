"""The stages of an inversion: from what each starts, and what its steps take."""

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
from inversion.regularizers import split_targets


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of one video; a pytree, so that `jax.eval_shape` tells of one not begun.

    Attributes:
      state: before the first step.
      own: arguments of `advance` that are this video's, by name; generator and networks are shared.
      advance: of `inversion.fitting.steps`.
      schedule: of the stage.
      shares_generator: whether videos can be batched on a device: they see one generator.
    """

    state: StageState
    own: dict[str, Any]
    advance: Callable = field(metadata={"static": True})
    schedule: StageConfig = field(metadata={"static": True})
    shares_generator: bool = field(metadata={"static": True})


def latent_stage(
    generator: TriPlaneGenerator,
    w_statistics: WStatistics,
    config: InversionConfig,
    targets: Targets,
    key: Array,
) -> Stage:
    """One latent for all views, from the mean."""
    maps = maps_to_fit(generator, config)
    return Stage(
        state=start_latent(w_statistics, generator.config.num_ws, key, maps),
        own={"targets": targets, "w_statistics": w_statistics},
        advance=advance_latent,
        schedule=config.latent,
        shares_generator=True,
    )


def maps_to_fit(generator: TriPlaneGenerator, config: InversionConfig) -> NoiseMaps:
    """The noise maps that the first stage fits, as they are before; none unless asked for."""
    return own_noise_maps(generator) if config.fit_noise_maps else {}


def latents_stage(
    method: Method,
    config: InversionConfig,
    targets: Targets,
    start: Array,
    noise_maps: NoiseMaps,
    angles: Array,
    key: Array,
) -> Stage:
    """A latent for each knot, from the one of all views.

    Args:
      method: which views are knots.
      config: schedules.
      targets: of all views.
      start: [L, D] the latent of all views.
      noise_maps: fitted with it.
      angles: [K] of the knots, see `Latents`.
      key: of the draws.
    """
    assert method.knots is not None
    before = repeat_latents(start, angles)
    return Stage(
        state=start_latents(before, key),
        own={
            "targets": split_targets(targets, method.knots, method.between),
            "start": before,
            "noise_maps": noise_maps,
        },
        advance=advance_latents,
        schedule=config.latents,
        shares_generator=True,
    )


def tuning_stage(
    generator: TriPlaneGenerator, config: InversionConfig, found: Stage, end: StageState, key: Array
) -> Stage:
    """The generator tuned around what a stage before found.

    Args:
      generator: before.
      config: schedules.
      found: the stage before, as it began.
      end: how it ended.
      key: of the draws.
    """
    if found.advance is advance_latent:
        advance, pivot = advance_tuning, {"ws": end.variables.ws}
    else:
        latents = dataclasses.replace(found.own["start"], w_plus=end.variables)
        advance, pivot = advance_pivots, {"latents": latents}
    return Stage(
        state=start_tuning(generator, key),
        own={"targets": found.own["targets"], "noise_maps": found_noise_maps(found, end), **pivot},
        advance=advance,
        schedule=config.tuning,
        shares_generator=False,
    )


def found_latents(stage: Stage, end: StageState, frontal: Array) -> Latents:
    """The latents at the end of a stage that finds them; a single one is put at `frontal` []."""
    if stage.advance is advance_latent:
        return repeat_latents(end.variables.ws, frontal[None])
    return dataclasses.replace(stage.own["start"], w_plus=end.variables)


def found_noise_maps(stage: Stage, end: StageState) -> NoiseMaps:
    """The noise maps that belong to them; none if the generator's own do."""
    if stage.advance is advance_latent:
        return end.variables.noise_maps
    return stage.own["noise_maps"]
