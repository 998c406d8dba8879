import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eg3d_jax.config import SUPERRESOLUTION_VARIANTS

pytestmark = pytest.mark.compiled_in_full

CASES = {
    "2X": ["in64_none", "in64_const", "in32_none", "in128_none"],
    "4X": ["in128_none", "in64_none"],
    "8X": ["in128_none"],
    "8XDC": ["in128_none", "in64_none", "in160_none"],
    "Deepfp32": ["in128_none", "in64_none"],
}


@pytest.fixture(scope="module")
def golden(golden_rule):
    return golden_rule.load("superres")


@pytest.fixture(scope="module")
def network(golden_rule, build):
    """The super-resolution network of a variant in a small generator."""

    def network(variant, noise="none"):
        config = dataclasses.replace(
            golden_rule.generator_config("small_2x"),
            superresolution=dataclasses.replace(SUPERRESOLUTION_VARIANTS[variant], noise=noise),
        )
        return build(config).superresolution

    return network


def features_by_rule(golden_rule, side):
    return jnp.asarray(golden_rule.normal(f"sr/x{side}", (1, 32, side, side))[0].transpose(1, 2, 0))


def nchw(x):
    return np.asarray(x).transpose(2, 0, 1)[None]


@pytest.mark.parametrize(
    ("variant", "case"), [(variant, case) for variant, cases in CASES.items() for case in cases]
)
def test_superresolution_matches_pytorch(golden, golden_rule, network, within, variant, case):
    """Native, enlarged and shrunk inputs; the first block too where the size is native."""
    side, noise = case.removeprefix("in").split("_")
    config = SUPERRESOLUTION_VARIANTS[variant]
    run = jax.jit(lambda net, x, w: net.block_outputs(x, w))
    x = features_by_rule(golden_rule, int(side))
    (features, image), (_, final) = run(
        network(variant, noise), x, jnp.asarray(golden["ws"][0, -1])
    )
    error = golden_rule.largest_difference(golden, f"{variant}/{case}", nchw(final))
    within("superresolution", error, 1e-4)
    if int(side) == config.input_side and noise == "none":
        for key, actual in (
            ("block0_img", nchw(image)),
            ("block0_x_ch0_8_16", nchw(features)[:, [0, 8, 16]]),
        ):
            error = golden_rule.largest_difference(golden, f"{variant}/{key}", actual)
            within("superresolution: first block", error, 1e-4)


@pytest.mark.parametrize("variant", ["4X", "Deepfp32"])
def test_variants_that_only_enlarge_refuse_larger_inputs(network, variant):
    with pytest.raises(ValueError, match="at most 128"):
        network(variant)(jnp.zeros((160, 160, 32)), jnp.zeros(512))


@pytest.mark.parametrize(
    ("variant", "side"), [("2X", 128), ("4X", 256), ("8X", 512), ("8XDC", 512), ("Deepfp32", 256)]
)
def test_image_sides_of_the_variants(variant, side):
    assert SUPERRESOLUTION_VARIANTS[variant].image_side == side


def test_the_clamp_holds_in_float32(tiny_generator):
    """EG3D means it for half precision and keeps it in single."""
    config = tiny_generator.config
    assert config.superresolution.clamp == 256.0
    x = jnp.full((config.superresolution.input_side,) * 2 + (config.plane_features,), 1e6)
    outputs = jax.jit(tiny_generator.superresolution.block_outputs)(x, jnp.ones(config.w_dim))
    assert all(np.abs(features).max() <= 256.0 for features, _ in outputs)
    assert np.abs(outputs[0][0]).max() == 256.0
