"""A deeper mapping gives the w of the one it was taught by; the rest of the generator is kept."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_weights import drawn_generator
from flax import nnx

from eg3d_jax import checkpoint
from experiments.heads.anatomy import Z_DIM
from experiments.heads.deepen import Args, deepen, main
from experiments.heads.latent_scale import with_unit_latents
from experiments.heads.network import embedded_config


@pytest.fixture(scope="module")
def shallow():
    config = dataclasses.replace(
        embedded_config(Z_DIM), mapping_layers=2, plane_side=8, channel_base=64, w_dim=64
    )
    return with_unit_latents(drawn_generator(config, seed=1))


@pytest.mark.slow
@pytest.mark.compiled_in_full
def test_a_deeper_mapping_gives_the_same_latents(shallow):
    deep, missed = deepen(shallow, 4, steps=2000, seed=0)
    z = jax.random.normal(jax.random.key(5), (512, Z_DIM))
    wanted, got = shallow.mapping(z), deep.mapping(z)
    # 2,000 steps leave 7 % of the variance; a mapping not taught misses more than all of it.
    assert missed < 0.1
    error = jnp.mean(jnp.square(got - wanted)) / jnp.mean(jnp.var(wanted, axis=0))
    assert error == pytest.approx(missed, rel=0.2)
    np.testing.assert_array_equal(deep.mapping.w_avg[...], shallow.mapping.w_avg[...])
    for part in ("backbone", "decoder", "superresolution"):
        pair = (nnx.state(getattr(generator, part)) for generator in (deep, shallow))
        chex.assert_trees_all_equal(*pair)


def test_the_command_writes_the_deeper_generator(shallow, tmp_path, capsys):
    checkpoint.save(tmp_path / "shallow", shallow)
    main(Args(start=tmp_path / "shallow", output=tmp_path / "deep", layers=3, steps=2))
    deep = checkpoint.load(tmp_path / "deep")
    assert deep.config == dataclasses.replace(shallow.config, mapping_layers=3)
    assert "3 layers miss" in capsys.readouterr().out
