"""What changes in a stage of optimisation, and when a step is not taken."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

ADAM = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)
# A loss so many times its first value, or 1, is no longer minimised.
_EXPLOSION = 100.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class StageState:
    """All that changes in a stage; saved and loaded whole.

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


def start_state(variables: Any, key: Array) -> StageState:
    """The state before the first step."""
    return StageState(
        variables=variables,
        adam=ADAM.init(variables),
        step=jnp.zeros((), jnp.int32),
        key=jnp.copy(key),  # steps donate their state, and the caller may use the key again
        limit=jnp.full((), jnp.inf),
    )


def step_taken(
    state: StageState, variables: Any, adam: optax.OptState, total: Array, num_steps: int
) -> StageState:
    """The state after a step, or the same one if the step must not be taken.

    That is past the stage's end, or if the loss is not finite or has exploded, or the variables
    would not be finite. Whoever sees `step` stay knows which.

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
