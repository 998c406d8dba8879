"""Steps of each stage as jitted chunks of Adam (spec inversion sections 3 to 6)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from eg3d_jax.generator import TriPlaneGenerator
from inversion import losses
from inversion.config import InversionConfig
from inversion.fitting.adam import StageState, advance_stage, start_state
from inversion.fitting.schedules import latent_noise_schedule
from inversion.latents import Latents, WStatistics, in_space
from inversion.noise_maps import NoiseMaps, standardize, with_noise_maps
from inversion.objectives import FeatureNetworks, Targets, Terms, reconstruct
from inversion.regularizers import KnotTargets, Objective, objectives


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class FittedLatent:
    """Variables of the first stage.

    Attributes:
      ws: [L, D], one latent for all views.
      noise_maps: of the backbone; empty unless they are fitted, too.
    """

    ws: Array
    noise_maps: NoiseMaps


def start_latent(
    w_statistics: WStatistics,
    num_ws: int,
    key: Array,
    noise_maps: NoiseMaps | None = None,
    ws: Array | None = None,
) -> StageState:
    """Make the first stage's variables: a latent and noise maps to be fitted.

    The latent is `ws` [L, D], or the mean in every layer.
    """
    if ws is None:
        ws = jnp.tile(w_statistics.mean, (num_ws, 1))
    return start_state(FittedLatent(ws=ws, noise_maps=noise_maps or {}), key)


def start_latents(latents: Latents, key: Array) -> StageState:
    """Make the variables of the stage of several latents, from where they begin."""
    return start_state(latents.w_plus, key)


def start_tuning(generator: TriPlaneGenerator, key: Array) -> StageState:
    """Make the variables of the tuning stage: the parameters, without noise maps."""
    return start_state(nnx.state(generator, nnx.Param), key)


def tuned_generator(generator: TriPlaneGenerator, state: StageState) -> TriPlaneGenerator:
    """Replace the generator's parameters by those of a tuning stage."""
    graph, _, rest = nnx.split(generator, nnx.Param, ...)
    return nnx.merge(graph, state.variables, rest)


@partial(jax.jit, static_argnames=("config", "num_steps"), donate_argnames="state")
def advance_latent(
    state: StageState,
    generator: TriPlaneGenerator,
    networks: FeatureNetworks,
    targets: Targets,
    w_statistics: WStatistics,
    *,
    config: InversionConfig,
    num_steps: int,
) -> tuple[StageState, Terms]:
    """Fit one W+ latent to all views for `num_steps` more steps (spec inversion section 3).

    Returns:
      The state, whose buffers replace the given one's, and every unweighted term as [num_steps].
    """
    deviation = latent_noise_schedule(
        w_statistics.std,
        max(config.latent.num_steps, 1),
        strength=config.w_noise,
        ramp=config.w_noise_ramp,
    )

    def objective(fitted: FittedLatent, step: Array, key: Array) -> Terms:
        key_noise, key_rays = jax.random.split(key)
        ws = in_space(fitted.ws, config.latent_space)
        each = (targets.images.shape[0],) if config.noise_per_view else ()
        layers = 1 if config.latent_space == "w" else ws.shape[0]
        noise = deviation(step) * jax.random.normal(key_noise, (*each, layers, ws.shape[1]))
        shown = with_noise_maps(generator, fitted.noise_maps)
        terms = reconstruct(shown, ws + noise, networks, targets, config, key_rays)
        if fitted.noise_maps:
            maps = jax.tree.leaves(fitted.noise_maps)
            terms |= {"noise": losses.noise_regularizer(maps)}
        return terms | {"prior": losses.latent_prior(ws, w_statistics.mean)}

    def keep_standard(fitted: FittedLatent) -> FittedLatent:
        return dataclasses.replace(fitted, noise_maps=standardize(fitted.noise_maps))

    return advance_stage(
        (objective,), state, config.weights, config.latent, num_steps, project=keep_standard
    )


@partial(jax.jit, static_argnames=("config", "num_steps"), donate_argnames="state")
def advance_tuning(
    state: StageState,
    generator: TriPlaneGenerator,
    networks: FeatureNetworks,
    targets: Targets,
    ws: Array,
    noise_maps: NoiseMaps | None = None,
    *,
    config: InversionConfig,
    num_steps: int,
) -> tuple[StageState, Terms]:
    """Tune all parameters of the generator around the pivot ws (spec inversion section 4).

    The noise maps, the generator's or those that the first stage fitted, stay.

    Returns:
      The state, whose buffers replace the given one's, and every unweighted term as [num_steps].
    """
    generator = with_noise_maps(generator, noise_maps)
    graph, _, rest = nnx.split(generator, nnx.Param, ...)

    def objective(params: nnx.State, step: Array, key: Array) -> Terms:
        del step
        tuned = nnx.merge(graph, params, rest)
        return reconstruct(tuned, ws, networks, targets, config, key)

    return advance_stage((objective,), state, config.weights, config.tuning, num_steps)


@partial(jax.jit, static_argnames=("config", "num_steps"), donate_argnames="state")
def advance_latents(
    state: StageState,
    generator: TriPlaneGenerator,
    networks: FeatureNetworks,
    targets: KnotTargets,
    start: Latents,
    noise_maps: NoiseMaps | None = None,
    *,
    config: InversionConfig,
    num_steps: int,
) -> tuple[StageState, Terms]:
    """Fit a latent to each knot for `num_steps` more steps (spec inversion section 5).

    Args:
      state: latents [K, L, D] on their way.
      generator: stays as it is.
      networks: of the image losses.
      targets: all fitted views.
      start: where the latents began: the one of all views, repeated, or those of another inversion.
      noise_maps: instead of the generator's, if the first stage fitted some.
      config: schedule, weights, regularisers.
      num_steps: how many.

    Returns:
      The state, whose buffers replace the given one's, and every unweighted term as [num_steps].
    """
    generator = with_noise_maps(generator, noise_maps)

    def fitted(objective: Objective):
        def terms(w_plus: Array, step: Array, key: Array) -> Terms:
            del step
            w_plus = in_space(w_plus, config.latent_space)
            return objective(generator, dataclasses.replace(start, w_plus=w_plus), key)

        return terms

    # The first one to the last bit where all are equal.
    first = start.w_plus[0]
    middle = first + jnp.mean(start.w_plus - first, axis=0)
    parts = objectives(networks, targets, config, reference=middle)
    parts = tuple(map(fitted, parts))
    return advance_stage(parts, state, config.weights, config.latents, num_steps)


@partial(jax.jit, static_argnames=("config", "num_steps"), donate_argnames="state")
def advance_pivots(
    state: StageState,
    generator: TriPlaneGenerator,
    networks: FeatureNetworks,
    targets: KnotTargets,
    latents: Latents,
    noise_maps: NoiseMaps | None = None,
    *,
    config: InversionConfig,
    num_steps: int,
) -> tuple[StageState, Terms]:
    """Tune all parameters of the generator around several pivots (spec inversion section 6).

    As `advance_tuning`, with the regularisers of `advance_latents` but distance: latents stay.
    """
    generator = with_noise_maps(generator, noise_maps)
    graph, _, rest = nnx.split(generator, nnx.Param, ...)

    def tuned(objective: Objective):
        def terms(params: nnx.State, step: Array, key: Array) -> Terms:
            del step
            return objective(nnx.merge(graph, params, rest), latents, key)

        return terms

    parts = objectives(networks, targets, config)
    parts = tuple(map(tuned, parts))
    return advance_stage(parts, state, config.weights, config.tuning, num_steps)
