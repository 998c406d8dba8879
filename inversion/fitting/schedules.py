"""Learning rate and latent noise over the steps of a stage (spec inversion section 3).

Both are functions of the step that work on numbers and inside jit, as optax schedules do. The time
of a step is step / num_steps, so the last step, num_steps - 1, is just short of the end.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike


def learning_rate_schedule(
    rate: float, num_steps: int, *, ramp_up: float = 0.05, ramp_down: float = 0.25
) -> optax.Schedule:
    """Make the learning rate: a linear rise from zero, a plateau, a cosine fall to zero.

    Args:
      rate: learning rate of the plateau.
      num_steps: steps S of the stage.
      ramp_up: fraction of the steps over which the rate rises; 0 for none.
      ramp_down: fraction of the steps over which it falls; 0 for none.

    Returns:
      step -> learning rate; 0 at step 0 if it rises, 0 from step S on if it falls.

    Raises:
      ValueError: if `num_steps` is not positive or a fraction is not in [0, 1].
    """
    _require(num_steps, ramp_up=ramp_up, ramp_down=ramp_down)

    def schedule(step: ArrayLike) -> Array:
        time = jnp.asarray(step, jnp.float32) / num_steps
        factor = jnp.ones_like(time)
        if ramp_down:
            left = jnp.clip((1.0 - time) / ramp_down, 0.0, 1.0)
            factor = 0.5 - 0.5 * jnp.cos(left * math.pi)
        if ramp_up:
            factor = factor * jnp.clip(time / ramp_up, 0.0, 1.0)
        return rate * factor

    return schedule


def latent_noise_schedule(
    w_std: ArrayLike, num_steps: int, *, strength: float = 0.05, ramp: float = 0.75
) -> optax.Schedule:
    """Make the standard deviation of the exploration noise on a latent.

    Args:
      w_std: scalar, spread of the mapped latents, from `w_statistics`.
      num_steps: steps of the stage.
      strength: standard deviation at the start, in units of `w_std`.
      ramp: fraction of the steps over which it falls to zero, as a parabola.

    Returns:
      step -> standard deviation.

    Raises:
      ValueError: if `num_steps` is not positive or `ramp` is not in (0, 1].
    """
    _require(num_steps, ramp=ramp)
    if not ramp:
        raise ValueError("ramp=0 would switch the noise off; pass strength=0.0 for that")

    def schedule(step: ArrayLike) -> Array:
        time = jnp.asarray(step, jnp.float32) / num_steps
        return jnp.asarray(w_std) * strength * jnp.square(jnp.maximum(0.0, 1.0 - time / ramp))

    return schedule


def _require(num_steps: int, **fractions: float) -> None:
    if num_steps < 1:
        raise ValueError(f"num_steps={num_steps} must be at least 1")
    for name, fraction in fractions.items():
        if not 0.0 <= fraction <= 1.0:
            raise ValueError(f"{name}={fraction} is a fraction of the steps; it must be in [0, 1]")
