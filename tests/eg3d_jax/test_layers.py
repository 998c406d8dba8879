import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from eg3d_jax.convolution import conv2d, conv2d_up
from eg3d_jax.layers import (
    Linear,
    SynthesisLayer,
    ToRgb,
    bias_act,
    modulated_conv,
    normalize_2nd_moment,
)

pytestmark = pytest.mark.compiled_in_full


@pytest.fixture(scope="module")
def golden(golden_rule):
    return golden_rule.load("primitives")


def nhwc(x):
    return jnp.asarray(x).transpose(0, 2, 3, 1)


def hwio(kernel):
    return jnp.asarray(kernel).transpose(2, 3, 1, 0)


@pytest.fixture(scope="module")
def with_golden_weights(golden_rule):
    """Fill a stand-alone synthesis or to-RGB layer by the rule of its prefix."""

    def fill(layer, prefix):
        def weight(name, shape):
            return golden_rule.weight(f"{prefix}.{name}", shape)

        side, _, inputs, outputs = layer.kernel[...].shape
        layer.kernel[...] = hwio(weight("weight", (outputs, inputs, side, side)))
        layer.bias[...] = jnp.asarray(weight("bias", (outputs,)))
        affine = weight("affine.weight", layer.affine.kernel[...].shape[::-1])
        layer.affine.kernel[...] = jnp.asarray(affine.T)
        layer.affine.bias[...] = jnp.asarray(weight("affine.bias", (inputs,)))
        if isinstance(layer, SynthesisLayer):
            layer.noise_strength[...] = jnp.asarray(weight("noise_strength", ()))
            layer.noise_map[...] = jnp.asarray(weight("noise_const", layer.noise_map[...].shape))
        return layer

    return fill


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
@pytest.mark.parametrize("up", [False, True])
def test_modulated_convolution_matches_pytorch(golden, close, up, demodulate, noise):
    """With upsampling a true convolution, without it a correlation."""
    kernel = hwio(golden["modconv/w3"])
    run = jax.jit(jax.vmap(lambda x, s: modulated_conv(x, kernel, s, demodulate=demodulate, up=up)))
    out = run(nhwc(golden["modconv/x"]), jnp.asarray(golden["modconv/styles"]))
    if noise:
        out = out + golden[f"modconv/noise_up{1 + up}"][..., None]
    key = f"modconv/k3_up{1 + up}_demod{demodulate:d}_noise{noise:d}"
    close("primitives: modulated convolution", out, nhwc(golden[key]), 1e-5)


def test_modulated_channel_mix_matches_pytorch(golden, close):
    kernel = hwio(golden["modconv/w1"])
    run = jax.jit(jax.vmap(lambda x, s: modulated_conv(x, kernel, s, demodulate=False)))
    out = run(nhwc(golden["modconv/x"]), jnp.asarray(golden["modconv/styles"]))
    close("primitives: modulated convolution", out, nhwc(golden["modconv/k1_up1_demod0"]), 1e-5)


def test_demodulated_features_do_not_depend_on_the_scale_of_the_style():
    rng = np.random.default_rng(0)
    x, kernel, style = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in ((5, 5, 3), (3, 3, 3, 2), (3,))
    )
    run = jax.jit(modulated_conv)
    a, b = (run(x, kernel, scale * style) for scale in (1.0, 100.0))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("clamp", "gain"), [(None, 1.0), (1.5, 1.0), (1.5, 0.5)])
@pytest.mark.parametrize("noise_mode", ["const", "none"])
@pytest.mark.parametrize("up", [False, True])
def test_synthesis_layer_matches_pytorch(
    golden, close, with_golden_weights, up, noise_mode, clamp, gain
):
    """The extra gain scales the clamp too; noise comes before bias and activation."""
    layer = SynthesisLayer(6, 8, w_dim=16, side=8, up=up, clamp=clamp, rngs=nnx.Rngs(0))
    layer = with_golden_weights(layer, f"prim.layer_up{1 + up}")
    run = jax.jit(jax.vmap(lambda x, w: layer(x, w, noise_mode=noise_mode, gain=gain)))
    out = run(nhwc(golden["layer/x" if up else "layer/x8"]), jnp.asarray(golden["layer/w"]))
    key = f"layer/synthesis_up{1 + up}_clamp{clamp}_{noise_mode}_gain{gain:g}"
    close("primitives: layers", out, nhwc(golden[key]), 1e-5)


@pytest.mark.parametrize("clamp", [None, 0.75])
def test_to_rgb_matches_pytorch(golden, close, with_golden_weights, clamp):
    """The whole style, its bias included, is divided by sqrt(in); nothing is demodulated."""
    layer = ToRgb(6, 3, w_dim=16, clamp=clamp, rngs=nnx.Rngs(0))
    layer = with_golden_weights(layer, "prim.torgb")
    out = jax.jit(jax.vmap(layer))(nhwc(golden["layer/x8"]), jnp.asarray(golden["layer/w"]))
    close("primitives: layers", out, nhwc(golden[f"layer/torgb_clamp{clamp}"]), 1e-5)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("lr_mul", [1.0, 0.01])
@pytest.mark.parametrize("activation", ["linear", "lrelu"])
def test_linear_matches_pytorch(golden, close, activation, lr_mul, bias):
    """The learning-rate multiplier scales the weights and the bias."""
    layer = Linear(7, 5, activation=activation, lr_mul=lr_mul, rngs=nnx.Rngs(0))
    layer.kernel[...] = jnp.asarray(golden["fc/w"].T)
    layer.bias[...] = jnp.asarray(golden["fc/b"]) * bias
    out = layer(jnp.asarray(golden["fc/x"]))
    close("primitives: linear", out, golden[f"fc/{activation}_lr{lr_mul:g}_bias{bias:d}"], 1e-5)


@pytest.mark.parametrize(
    ("key", "activation", "biased", "gain", "clamp"),
    [
        ("lrelu", "lrelu", True, None, None),
        ("lrelu_gain0.5_clamp0.7", "lrelu", True, 0.5, 0.7),
        ("linear_clamp0.7", "linear", True, None, 0.7),
        ("linear_nobias", "linear", False, None, None),
    ],
)
def test_bias_act_matches_pytorch(golden, close, key, activation, biased, gain, clamp):
    """PyTorch's gain replaces the activation's and leaves the clamp; ours multiplies both."""
    extra = 1.0 if gain is None else gain / (math.sqrt(2.0) if activation == "lrelu" else 1.0)
    bias = jnp.asarray(golden["bias_act/b"]) if biased else None
    limit = None if clamp is None else clamp / extra
    out = bias_act(nhwc(golden["bias_act/x"]), bias, activation, gain=extra, clamp=limit)
    close("primitives: bias_act", out, nhwc(golden[f"bias_act/{key}"]), 1e-5)


def test_normalization_matches_pytorch_and_keeps_zero(golden, close):
    out = normalize_2nd_moment(jnp.asarray(golden["normalize/x"]))
    close("primitives: normalize", out, golden["normalize/y"], 1e-5)
    np.testing.assert_array_equal(out[-1], 0.0)


@pytest.fixture(scope="module")
def layer():
    layer = SynthesisLayer(6, 8, w_dim=16, side=8, rngs=nnx.Rngs(0))
    layer.noise_strength[...] = jnp.asarray(0.5)
    return layer


def test_random_noise_needs_a_key(layer):
    with pytest.raises(ValueError, match="needs a key"):
        jax.jit(lambda x: layer(x, jnp.zeros(16), noise_mode="random"))(jnp.zeros((8, 8, 6)))


def test_random_noise_is_normal_with_the_layer_s_strength_and_alike_in_all_channels(layer):
    def draw(key):
        return layer(jnp.zeros((8, 8, 6)), jnp.zeros(16), noise_mode="random", key=key)

    out = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 100)))
    np.testing.assert_array_equal(out, np.broadcast_to(out[..., :1], out.shape))
    noise = np.where(out > 0, out, out / 0.2) / math.sqrt(2.0)
    assert noise.std() == pytest.approx(0.5, rel=0.03)
    assert noise.mean() == pytest.approx(0.0, abs=0.03)
    assert np.abs(out[0] - out[1]).max() > 0.1


def rounded(a):
    return a.astype(jnp.bfloat16).astype(jnp.float32)


@pytest.mark.parametrize("up", [False, True])
def test_bfloat16_rounds_what_a_convolution_reads_and_writes_and_nothing_else(up):
    rng = np.random.default_rng(0)
    x, kernel, style = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((6, 6, 8), (3, 3, 8, 4), 8)
    )
    with jax.default_matmul_precision("bfloat16"):
        found = modulated_conv(x, kernel, style, up=up)
    assert found.dtype == jnp.float32
    # The same with rounded operands; each sum is rounded once more, and up-sampling filters twice.
    convolve = conv2d_up if up else conv2d
    power = jnp.square(style) @ jnp.sum(jnp.square(kernel), axis=(0, 1))
    exact = convolve(rounded(x * style), rounded(kernel)) * jax.lax.rsqrt(power + 1e-8)
    difference = jnp.max(jnp.abs(found - exact)) / jnp.max(jnp.abs(exact))
    assert 0 < difference < (4 if up else 1) * 2**-8


def test_bfloat16_does_not_round_what_ends_in_a_picture():
    rng = np.random.default_rng(0)
    x, kernel, style = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((6, 6, 8), (1, 1, 8, 3), 8)
    )

    def product(x, kernel):
        with jax.default_matmul_precision("bfloat16"):
            return modulated_conv(x, kernel, style, demodulate=False)

    found, pull_back = jax.vjp(product, x, kernel)
    wanted = rounded(x * style) @ rounded(kernel)[0, 0]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert found.dtype == jnp.float32
    to_x, to_kernel = pull_back(jnp.ones_like(found))
    slope = jnp.sum(kernel[0, 0], axis=-1) * style
    np.testing.assert_allclose(to_x, jnp.broadcast_to(slope, x.shape), rtol=0.02, atol=0.02)
    sums = jnp.broadcast_to(jnp.sum(x * style, axis=(0, 1))[:, None], (8, 3))
    np.testing.assert_allclose(to_kernel[0, 0], sums, rtol=0.02, atol=0.05)
