"""The field of points that a generator makes of its feature planes."""

import jax
import jax.numpy as jnp
import numpy as np


def test_a_field_passes_through_jit_and_its_border_is_not_added_again(tiny_generator):
    config = tiny_generator.config
    shape = (config.num_planes, config.plane_side, config.plane_side, config.plane_features)
    planes = jax.random.normal(jax.random.key(0), shape)
    points = jax.random.uniform(jax.random.key(1), (20, 3), minval=-0.6, maxval=0.6)
    field = tiny_generator.field(planes)
    ask = jax.jit(lambda field, points: field(points))
    queried = jax.jit(lambda g, planes, points: g.query(planes, points))(
        tiny_generator, planes, points
    )
    for kept, wanted in zip(ask(field, points), queried, strict=True):
        np.testing.assert_allclose(kept, wanted, atol=1e-6)
    side = config.plane_side + 2
    assert field.bordered.shape == (config.num_planes, side, side, config.plane_features)
    assert " pad[" not in str(jax.make_jaxpr(ask)(field, points))
    assert " pad[" in str(
        jax.make_jaxpr(lambda p: tiny_generator.query(p, jnp.zeros((1, 3))))(planes)
    )
