import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fir_reference import FILTER_1331, upfirdn2d

from eg3d_jax.resample import (
    _taps_1331,
    _upsample_repeated,
    blur,
    blur_phases,
    resize_bilinear,
    upsample2d,
)

pytestmark = pytest.mark.compiled_in_full


# The form for CPUs, which is taken here, and the one for all other devices.
FORMS = pytest.mark.parametrize("up", [upsample2d, _upsample_repeated])


@pytest.fixture(scope="module")
def golden(golden_rule):
    return golden_rule.load("primitives")


def nhwc(x):
    return jnp.asarray(x).transpose(0, 2, 3, 1)


OPERATIONS = {
    "upsample2d": {"up": 2, "pad": (2, 1, 2, 1), "gain": 4},
    "downsample2d": {"down": 2, "pad": (1, 1, 1, 1)},
    "filter2d": {"pad": (2, 1, 2, 1)},
    "pad1_gain4": {"pad": (1, 1, 1, 1), "gain": 4},
    "up2_pad_3_-1_2_0": {"up": 2, "pad": (3, -1, 2, 0)},
}


@pytest.mark.parametrize(
    ("name", "taps"),
    [(name, taps) for name in OPERATIONS for taps in ("1331", "asym")][:-2]
    + [("up2_pad_3_-1_2_0", "asym")],
)
def test_upfirdn2d_matches_pytorch(golden, close, name, taps):
    """The asymmetric filter tells a true convolution from a correlation."""
    filter2d = golden[f"fir/f_{taps}"]
    run = jax.jit(jax.vmap(lambda x: upfirdn2d(x, filter2d, **OPERATIONS[name])))
    close("primitives: fir", run(nhwc(golden["fir/x"])), nhwc(golden[f"fir/{name}_{taps}"]), 1e-5)


def test_the_filter_is_that_of_pytorch(golden):
    np.testing.assert_array_equal(FILTER_1331, golden["fir/f_1331"])


@FORMS
def test_upsample2d_matches_pytorch(golden, close, up):
    out = jax.jit(jax.vmap(up))(nhwc(golden["fir/x"]))
    close("primitives: fir", out, nhwc(golden["fir/upsample2d_1331"]), 1e-5)


@FORMS
def test_upsampling_loses_energy_at_the_border(up):
    """Zeros lie outside, so that a constant keeps its value inside only: no bilinear resize."""
    out = np.asarray(up(jnp.ones((4, 4, 1))))[..., 0]
    np.testing.assert_allclose(out[1:-1, 1:-1], 1.0, rtol=1e-6)
    np.testing.assert_allclose(out[0, 1:-1], 0.75, rtol=1e-6)
    np.testing.assert_allclose(out[0, 0], 0.75**2, rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_filtering_by_phases_equals_filtering_the_whole_signal(axis):
    signal = jnp.asarray(np.random.default_rng(0).normal(size=(9, 9, 2)), jnp.float32)
    even, odd = (jnp.take(signal, jnp.arange(k, 9, 2), axis=axis) for k in (0, 1))
    taps, pad = np.array([[1.0, 3.0, 3.0, 1.0]]) / 4, (1, 1, 0, 0)
    if axis == 0:
        taps, pad = taps.T, (0, 0, 1, 1)
    wanted = upfirdn2d(signal, taps.astype(np.float32), pad=pad)
    np.testing.assert_allclose(blur_phases(even, odd, axis), wanted, atol=1e-6)


def test_blurring_is_the_filter_and_its_gradient_is_that_of_jax():
    signal = jnp.asarray(np.random.default_rng(0).normal(size=(9, 11, 2)), jnp.float32)
    wanted = upfirdn2d(signal, FILTER_1331, pad=(1, 1, 1, 1), gain=4)
    np.testing.assert_allclose(blur(signal), wanted, atol=1e-6)
    ours, of_jax = (
        jax.grad(lambda x, f=f: jnp.sum(jnp.sin(f(x))))(signal)
        for f in (blur, lambda x: _taps_1331(x, 1))
    )
    np.testing.assert_allclose(ours, of_jax, atol=1e-6)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("side", [8, 20, 32])
def test_resizing_matches_pytorch(golden, close, side, antialias):
    run = jax.jit(jax.vmap(lambda x: resize_bilinear(x, 16, antialias=antialias)))
    wanted = nhwc(golden[f"resize/{side}_to_16_aa{antialias:d}"])
    close("primitives: resize", run(nhwc(golden[f"resize/x{side}"])), wanted, 1e-5)
