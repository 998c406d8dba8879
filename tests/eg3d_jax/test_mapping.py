import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eg3d_jax.cameras import from_label

pytestmark = pytest.mark.compiled_in_full


@pytest.fixture(scope="module")
def golden(golden_rule):
    return golden_rule.load("mapping")


CASES = {
    "small_2x": ["psi1_cutNone", "psi0.7_cutNone", "psi0.5_cut7"],
    "small_2x_uncond": ["psi1_cutNone", "psi0.7_cutNone"],
    "small_2x_cscale": ["psi1_cutNone", "psi0.7_cutNone"],
    "small_2x_map8": ["psi1_cutNone", "psi0.7_cutNone"],
}


@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name, cases in CASES.items() for case in cases]
)
def test_mapping_matches_pytorch(golden, named_generator, close, name, case):
    """Truncated and not, with the label zeroed or scaled, two layers deep and eight."""
    psi, cutoff = re.fullmatch(r"psi(.*)_cut(.*)", case).groups()
    cutoff = None if cutoff == "None" else int(cutoff)
    generator = named_generator(name)
    run = jax.jit(
        jax.vmap(
            lambda z, c: generator.map_to_ws(z, from_label(c), truncation=float(psi), cutoff=cutoff)
        )
    )
    ws = run(jnp.asarray(golden["z"]), jnp.asarray(golden["c"]))
    assert ws.shape == (3, 14, 512)
    close("mapping", ws[:, [0, 6, 7, 13]], golden[f"{name}/{case}/ws_0_6_7_13"], 2e-5)


def test_full_truncation_gives_the_mean_latent(golden, named_generator):
    generator = named_generator("small_2x")
    ws = generator.map_to_ws(jnp.asarray(golden["z"][0]), truncation=0.0)
    mean = generator.mapping.w_avg[...]
    np.testing.assert_allclose(ws, np.broadcast_to(mean, ws.shape), atol=1e-6)


def test_the_scale_of_z_does_not_matter(golden, named_generator):
    generator = named_generator("small_2x")
    z = jnp.asarray(golden["z"][0])
    np.testing.assert_allclose(
        generator.map_to_ws(z), generator.map_to_ws(3 * z), atol=1e-4, rtol=1e-5
    )


def test_the_mapping_is_conditioned_on_the_frontal_camera_by_default(golden, named_generator):
    generator = named_generator("small_2x")
    z = jnp.asarray(golden["z"][0])
    frontal = generator.map_to_ws(z, generator.frontal_camera())
    np.testing.assert_array_equal(generator.map_to_ws(z), frontal)
    other = generator.map_to_ws(z, from_label(golden["c"][1]))
    assert np.abs(np.asarray(other - frontal)).max() > 1e-3


def test_a_conditional_mapping_asks_for_its_label(named_generator):
    with pytest.raises(ValueError, match="needs a label"):
        named_generator("small_2x").mapping(jnp.zeros(512))
