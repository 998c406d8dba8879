"""Steps that must not be taken leave the state as it was."""

import jax
import jax.numpy as jnp

from inversion.config import LossWeights, StageConfig
from inversion.fitting.adam import advance_stage, start_state

STAGE = StageConfig(num_steps=4, learning_rate=0.1)
WEIGHTS = LossWeights(pixel=1.0)


def end_of_stage(objective):
    state = start_state(jnp.zeros(()), jax.random.key(0))
    state, _ = advance_stage((objective,), state, WEIGHTS, STAGE, STAGE.num_steps)
    return state


def test_a_finite_loss_without_a_finite_gradient_moves_nothing():
    state = end_of_stage(lambda x, step, key: {"pixel": jnp.sqrt(x)})  # infinitely steep at 0
    assert int(state.step) == 0
    assert float(state.variables) == 0.0


def test_a_loss_that_begins_near_zero_may_rise_to_a_hundred():
    """Many times its first value is no explosion where that is next to nothing."""
    losses = jnp.array([1e-3, 1.0, 99.0, 101.0])
    state = end_of_stage(lambda x, step, key: {"pixel": losses[step] + 0 * x})
    assert int(state.step) == 3
    assert float(state.limit) == 100.0


def test_the_first_step_is_the_program_of_all_others():
    """A state has the same types before and after it, weak ones too: nothing is compiled twice."""

    @jax.jit
    def step(state):
        return advance_stage([square], state, WEIGHTS, STAGE, 1)[0]

    def square(x, step, key):
        return {"pixel": jnp.square(x)}

    before = start_state(jnp.zeros(()), jax.random.key(0))
    assert types(step(before)) == types(before)


def types(state):
    return [jax.typeof(leaf) for leaf in jax.tree.leaves(state)]
