import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import eg3d_jax.generator
from eg3d_jax.config import tiny
from eg3d_jax.generator import TriPlaneGenerator
from inversion import meshes


def test_planes_get_their_border_once_for_all_chunks(monkeypatch):
    """It copies them."""
    config, copied = tiny(), []
    with_border = eg3d_jax.generator.with_border

    def counted(planes):
        copied.append(planes.shape)
        return with_border(planes)

    shape = (config.num_planes, config.plane_side, config.plane_side, config.plane_features)
    monkeypatch.setattr(eg3d_jax.generator, "with_border", counted)
    monkeypatch.setattr(meshes, "planes_of", lambda generator, ws: jnp.ones(shape))
    monkeypatch.setattr(meshes, "CHUNK", 4)
    generator = nnx.eval_shape(lambda: TriPlaneGenerator(config, rngs=nnx.Rngs(0)))
    generator = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), generator)
    with jax.disable_jit():  # otherwise chunks after the first run no Python
        query = meshes.field_of(generator, jnp.zeros((config.num_ws, config.w_dim)))
        colours, density = query(np.zeros((10, 3)))
    assert colours.shape == (10, 3)
    assert density.shape == (10,)
    assert copied == [shape]
