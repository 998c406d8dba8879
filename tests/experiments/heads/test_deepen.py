"""A deeper mapping gives the w of the one it was taught by; the rest of the generator is kept."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from eg3d_jax import checkpoint
from eg3d_jax.generator import TriPlaneGenerator
from experiments.heads.anatomy import Z_DIM
from experiments.heads.deepen import Args, main
from experiments.heads.latent_scale import with_unit_latents
from experiments.heads.network import embedded_config


@pytest.mark.slow
def test_a_deeper_mapping_gives_the_same_latents(tmp_path):
    config = dataclasses.replace(
        embedded_config(Z_DIM), mapping_layers=2, plane_side=8, channel_base=64, w_dim=64
    )
    shallow = with_unit_latents(TriPlaneGenerator(config, rngs=nnx.Rngs(1)))
    checkpoint.save(tmp_path / "shallow", shallow)
    main(Args(start=tmp_path / "shallow", output=tmp_path / "deep", layers=4, steps=2000))
    deep, _ = checkpoint.load(tmp_path / "deep")
    assert deep.config == dataclasses.replace(config, mapping_layers=4)
    z = jax.random.normal(jax.random.key(5), (512, Z_DIM))
    wanted, got = shallow.mapping(z), deep.mapping(z)
    # 2,000 steps leave 7 % of the variance; a mapping not taught misses more than all of it.
    assert np.mean((got - wanted) ** 2) < 0.1 * np.mean(np.var(wanted, axis=0))
    np.testing.assert_allclose(deep.mapping.w_avg[...], wanted.mean(0), atol=0.2 * wanted.std())
    for part in ("backbone", "decoder", "superresolution"):
        kept, before = (jax.tree.leaves(getattr(g, part)) for g in (deep, shallow))
        for a, b in zip(kept, before, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)  # written in half precision
