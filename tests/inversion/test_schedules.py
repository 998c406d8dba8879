import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from inversion.fitting.schedules import latent_noise_schedule, learning_rate_schedule

pytestmark = pytest.mark.compiled_in_full


@pytest.mark.parametrize(("num_steps", "rate"), [(500, 0.1), (500, 0.01), (40, 0.1)])
def test_learning_rates_equal_the_stored_ones(golden, num_steps, rate):
    schedule = jax.jit(learning_rate_schedule(rate, num_steps))
    # A cosine near 1 in float32: absolute errors of a few 1e-8 times the rate.
    np.testing.assert_allclose(
        schedule(jnp.arange(num_steps)),
        golden[f"schedule/lr_n{num_steps}_lr{rate}"],
        atol=2e-7 * rate,
        rtol=2e-6,
    )


@pytest.mark.parametrize("num_steps", [500, 40])
def test_latent_noise_equals_the_stored_one(golden, num_steps):
    schedule = jax.jit(jax.vmap(latent_noise_schedule(14.0, num_steps)))
    wanted = 14.0 * golden[f"schedule/wnoise_over_wstd_n{num_steps}"]
    np.testing.assert_allclose(schedule(jnp.arange(num_steps)), wanted, atol=1e-6)


def test_rate_starts_and_ends_at_zero_and_stays_at_zero():
    schedule = learning_rate_schedule(0.1, 100)
    assert [float(schedule(step)) for step in (0, 100, 150)] == pytest.approx([0, 0, 0], abs=1e-9)
    np.testing.assert_allclose(schedule(jnp.arange(5, 75)), 0.1, rtol=1e-6)
    assert float(latent_noise_schedule(2.0, 100)(75)) == 0.0
    assert float(latent_noise_schedule(2.0, 100)(0)) == pytest.approx(0.1)


def test_without_ramps_the_rate_is_constant():
    schedule = learning_rate_schedule(3e-4, 10, ramp_up=0.0, ramp_down=0.0)
    np.testing.assert_allclose(schedule(jnp.arange(12)), 3e-4, rtol=1e-6)


def test_optax_takes_the_rate_as_a_schedule():
    optimizer = optax.sgd(learning_rate_schedule(1.0, 10, ramp_up=0.5, ramp_down=0.0))
    state, x = optimizer.init(jnp.zeros(())), jnp.zeros(())
    for _ in range(3):
        updates, state = jax.jit(optimizer.update)(jnp.ones(()), state)
        x = optax.apply_updates(x, updates)
    assert float(jnp.asarray(x)) == pytest.approx(-(0.0 + 0.2 + 0.4), abs=1e-6)


def test_impossible_fractions_are_refused():
    with pytest.raises(ValueError, match="num_steps=0"):
        learning_rate_schedule(0.1, 0)
    with pytest.raises(ValueError, match="ramp_up=2"):
        learning_rate_schedule(0.1, 10, ramp_up=2)
    with pytest.raises(ValueError, match="strength=0"):
        latent_noise_schedule(1.0, 10, ramp=0.0)
