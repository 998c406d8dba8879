"""One stage of Adam steps, and the rule by which a step is rejected."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from inversion.config import StageConfig
from inversion.fitting.schedules import learning_rate_schedule
from inversion.objectives import Terms, weighted

ADAM = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)
# A loss has exploded at so many times its first value, or 1.
_EXPLOSION = 100.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class StageState:
    """State of a stage, all that changes in it; saved and loaded whole.

    Attributes:
      variables: what is fitted: ws [L, D], or the parameters of a generator.
      adam: moments.
      step: [] int32, steps done.
      key: random key of the stage; a step's draws depend on it and the step alone.
      limit: [] loss beyond which the stage has exploded; infinite before the first step.
    """

    variables: Any
    adam: optax.OptState
    step: Array
    key: Array
    limit: Array


@jax.jit  # one program, not one for each shape
def start_state(variables: Any, key: Array) -> StageState:
    """Make the state before the first step, of copies: the steps donate their buffers."""
    return StageState(
        variables=jax.tree.map(jnp.copy, variables),
        adam=ADAM.init(variables),
        step=jnp.zeros((), jnp.int32),
        key=jnp.copy(key),
        limit=jnp.full((), jnp.inf, jnp.float32),  # of the steps' type: they are compiled once
    )


def step_taken(
    state: StageState, variables: Any, adam: optax.OptState, total: Array, num_steps: int
) -> StageState:
    """Take a step, or return the same state if it must be rejected.

    A step is rejected past the stage's end, if the loss is not finite or has exploded, or if the
    variables would not be finite. An unchanged `step` means that the update was rejected.

    Args:
      state: before.
      variables: after.
      adam: moments after.
      total: [] loss of the step.
      num_steps: of the stage.
    """
    limit = jnp.where(state.step == 0, _EXPLOSION * jnp.maximum(total, 1.0), state.limit)
    new = dataclasses.replace(
        state, variables=variables, adam=adam, step=state.step + 1, limit=limit
    )
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(variables)]
    within = total <= limit  # false for a total that is no number
    # All of them, by sorting: XLA would repeat a chain of `and` in the update of every leaf, which
    # takes three quarters of the time in which a tuning step is compiled.
    keep = jnp.sort(jnp.stack([within, state.step < num_steps, *finite]))[0]
    return jax.tree.map(lambda new, old: jnp.where(keep, new, old), new, state)


def advance_stage(
    objectives: Sequence[Callable[[Any, Array, Array], Terms]],
    state: StageState,
    weights: Any,
    stage: StageConfig,
    num_steps: int,
    *,
    project: Callable[[Any], Any] = lambda variables: variables,
) -> tuple[StageState, Terms]:
    """Minimise each objective in turn, with one Adam state and one rate, `num_steps` times.

    Args:
      objectives: (variables, step, key) -> unweighted terms.
      state: before.
      weights: of the terms, see `weighted`.
      stage: schedule.
      num_steps: of this call.
      project: variables after a step -> the nearest ones that are allowed.

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
            variables = project(optax.apply_updates(variables, updates))
            all_terms |= terms
        total = weighted(all_terms, weights)
        return step_taken(state, variables, adam, total, stage.num_steps), all_terms

    if num_steps == 1:  # without a loop, in which XLA's CPU code is slower
        state, terms = iteration(state, None)
        return state, jax.tree.map(lambda x: x[None], terms)
    return jax.lax.scan(iteration, state, length=num_steps)
