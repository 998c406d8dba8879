"""The stages as jitted chunks of Adam steps (spec inversion sections 3 to 6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

from eg3d_jax.generator import TriPlaneGenerator
from inversion import losses
from inversion.coherence import KnotTargets, Objective, objectives
from inversion.config import InversionConfig, StageConfig
from inversion.latents import Latents, WStatistics, in_space
from inversion.objectives import FeatureNetworks, Targets, Terms, reconstruct, weighted
from inversion.schedules import latent_noise_schedule, learning_rate_schedule
from inversion.state import ADAM, StageState, start_state, step_taken


def start_latent(w_statistics: WStatistics, num_ws: int, key: Array) -> StageState:
    """The first stage's beginning: the mean latent in every layer."""
    return start_state(jnp.tile(w_statistics.mean, (num_ws, 1)), key)


def start_latents(latents: Latents, key: Array) -> StageState:
    """The beginning of the stage of several latents, as `repeat_latents` makes them."""
    return start_state(jnp.copy(latents.w_plus), key)


def start_tuning(generator: TriPlaneGenerator, key: Array) -> StageState:
    """The last stage's beginning: the parameters as they are; noise maps are not among them."""
    # Copies: the steps donate their buffers, and the generator's must survive.
    return start_state(jax.tree.map(jnp.copy, nnx.state(generator, nnx.Param)), key)


def tuned_generator(generator: TriPlaneGenerator, state: StageState) -> TriPlaneGenerator:
    """The generator with a tuning stage's parameters in place of its own."""
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

    def objective(ws: Array, step: Array, key: Array) -> Terms:
        key_noise, key_rays = jax.random.split(key)
        ws = in_space(ws, config.latent_space)
        each = (targets.images.shape[0],) if config.noise_per_view else ()
        layers = 1 if config.latent_space == "w" else ws.shape[0]
        noise = deviation(step) * jax.random.normal(key_noise, (*each, layers, ws.shape[1]))
        terms = reconstruct(generator, ws + noise, networks, targets, config, key_rays)
        return terms | {"prior": losses.latent_prior(ws, w_statistics.mean)}

    return advance_stage((objective,), state, config.weights, config.latent, num_steps)


@partial(jax.jit, static_argnames=("config", "num_steps"), donate_argnames="state")
def advance_tuning(
    state: StageState,
    generator: TriPlaneGenerator,
    networks: FeatureNetworks,
    targets: Targets,
    ws: Array,
    *,
    config: InversionConfig,
    num_steps: int,
) -> tuple[StageState, Terms]:
    """Tune all parameters of the generator around the pivot ws (spec inversion section 4).

    Returns:
      The state, whose buffers replace the given one's, and every unweighted term as [num_steps].
    """
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
      start: where the latents began: the one of all views, repeated.
      config: schedule, weights, regularisers.
      num_steps: how many.

    Returns:
      The state, whose buffers replace the given one's, and every unweighted term as [num_steps].
    """

    def fitted(objective: Objective):
        def terms(w_plus: Array, step: Array, key: Array) -> Terms:
            del step
            w_plus = in_space(w_plus, config.latent_space)
            return objective(generator, dataclasses.replace(start, w_plus=w_plus), key)

        return terms

    parts = objectives(networks, targets, config, reference=start.w_plus[0])
    parts = tuple(map(fitted, parts))
    return advance_stage(parts, state, config.weights, config.latents, num_steps)


@partial(jax.jit, static_argnames=("config", "num_steps"), donate_argnames="state")
def advance_pivots(
    state: StageState,
    generator: TriPlaneGenerator,
    networks: FeatureNetworks,
    targets: KnotTargets,
    latents: Latents,
    *,
    config: InversionConfig,
    num_steps: int,
) -> tuple[StageState, Terms]:
    """Tune all parameters of the generator around several pivots (spec inversion section 6).

    As `advance_tuning`, with the regularisers of `advance_latents` but distance: latents stay.
    """
    graph, _, rest = nnx.split(generator, nnx.Param, ...)

    def tuned(objective: Objective):
        def terms(params: nnx.State, step: Array, key: Array) -> Terms:
            del step
            return objective(nnx.merge(graph, params, rest), latents, key)

        return terms

    parts = objectives(networks, targets, config)
    parts = tuple(map(tuned, parts))
    return advance_stage(parts, state, config.weights, config.tuning, num_steps)


def advance_stage(
    objectives: Sequence[Callable[[Any, Array, Array], Terms]],
    state: StageState,
    weights: Any,
    stage: StageConfig,
    num_steps: int,
) -> tuple[StageState, Terms]:
    """Minimise each objective in turn, with one Adam state and one rate, `num_steps` times.

    Args:
      objectives: (variables, step, key) -> unweighted terms.
      state: before.
      weights: of the terms, see `weighted`.
      stage: schedule.
      num_steps: of this call.

    Returns:
      The state after, and every unweighted term as [num_steps].
    """
    rate = learning_rate_schedule(
        stage.learning_rate,
        max(stage.num_steps, 1),
        ramp_up=stage.ramp_up,
        ramp_down=stage.ramp_down,
    )

    def iteration(state: StageState, _) -> tuple[StageState, Terms]:
        variables, adam, all_terms = state.variables, state.adam, {}
        factor = -jnp.asarray(rate(state.step))
        for i, objective in enumerate(objectives):  # unrolled in the trace: one to three
            key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), i)

            def loss(variables: Any, objective=objective, key=key) -> tuple[Array, Terms]:
                terms = objective(variables, state.step, key)
                return weighted(terms, weights), terms

            grads, terms = jax.grad(loss, has_aux=True)(variables)
            updates, adam = ADAM.update(grads, adam)
            updates = jax.tree.map(lambda u: factor * u, updates)
            variables = optax.apply_updates(variables, updates)
            all_terms |= terms
        total = weighted(all_terms, weights)
        return step_taken(state, variables, adam, total, stage.num_steps), all_terms

    if num_steps == 1:  # without a loop, in which XLA's CPU code is slower
        state, terms = iteration(state, None)
        return state, jax.tree.map(lambda x: x[None], terms)
    return jax.lax.scan(iteration, state, length=num_steps)
