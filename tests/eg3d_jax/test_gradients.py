"""Derivatives of mean(image^2) + mean(depth) for latents, camera and weights, against PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convert_weights.generator import to_torch_state
from eg3d_jax.cameras import from_label
from eg3d_jax.rays import RayDraws

pytestmark = pytest.mark.compiled_in_full


@pytest.fixture(scope="module")
def golden(golden_rule):
    return golden_rule.load("gradients")


def relative_error(actual, wanted):
    """Relative L2 distance."""
    assert actual.shape == wanted.shape
    return np.linalg.norm(actual - wanted) / np.linalg.norm(wanted)


def _loss(generator, ws, c, draws, side, rays_at_once):
    out = generator.synthesize(ws, from_label(c), side=side, draws=draws, rays_at_once=rays_at_once)
    return jnp.mean(jnp.square(out.image)) + jnp.mean(out.depth)


value_and_grad = jax.jit(
    jax.value_and_grad(_loss, argnums=(0, 1, 2)), static_argnames=("side", "rays_at_once")
)


def check(golden, prefix, generator, draws, side, rays_at_once, within):
    ws = jax.jit(lambda z, c: generator.map_to_ws(z, from_label(c)))(golden["z"][0], golden["c"][0])
    loss, (d_generator, d_ws, d_c) = value_and_grad(
        generator, ws, jnp.asarray(golden["c"][0]), draws, side=side, rays_at_once=rays_at_once
    )
    group = f"gradients, {'full' if prefix.startswith('full') else 'small'} (relative)"
    within(f"{group}: loss", abs(float(loss) / golden[f"{prefix}/loss"][0] - 1), 1e-5)
    within(f"{group}: ws", relative_error(np.asarray(d_ws), golden[f"{prefix}/d_ws"][0]), 1e-3)
    within(f"{group}: camera", relative_error(np.asarray(d_c), golden[f"{prefix}/d_c"][0]), 1e-2)
    state = to_torch_state(d_generator)
    compared = 0
    for key in (key for key in golden if key.startswith(f"{prefix}/d_param/")):
        name, _, reduction = key.removeprefix(f"{prefix}/d_param/").rpartition(".")
        if reduction == "stats":
            total, magnitude = golden[key]
            # Both against the magnitude: the sum itself may cancel.
            errors = np.array([state[name].sum() - total, np.abs(state[name]).sum() - magnitude])
            within(f"{group}: weights", np.abs(errors).max() / magnitude, 1e-3)
        elif reduction.startswith("flat"):
            actual = state[name].ravel()[:: int(reduction.removeprefix("flat"))]
            within(f"{group}: weights", relative_error(actual, golden[key]), 1e-3)
        else:
            actual = state[f"{name}.{reduction}"]
            within(f"{group}: weights", relative_error(actual, golden[key]), 1e-3)
        compared += 1
    assert compared >= 16
    # The mapping is not part of the synthesis.
    assert not any(np.any(state[name]) for name in state if ".mapping." in name)


@pytest.mark.slow
@pytest.mark.parametrize("tag", ["half", "midu"])
def test_gradients_of_a_small_generator_match_pytorch(golden, named_generator, within, tag):
    """`half` lays all fine samples of a ray on one point: intervals of no length."""
    half = jnp.full((1024, 48), 0.5)
    u = half if tag == "half" else jnp.broadcast_to((jnp.arange(48) + 0.5) / 48, half.shape)
    check(
        golden,
        f"small_8xdc_nrr32_{tag}",
        named_generator("small_8xdc"),
        RayDraws(jitter=half, u=u),
        32,
        None,
        within,
    )


@pytest.mark.slow
def test_gradients_of_the_full_generator_match_pytorch(golden, named_generator, within):
    """At neural resolution 128, in chunks of rays that are computed again in the backward pass."""
    check(golden, "full_midu", named_generator("full_ffhq512_128"), None, 128, 2048, within)
