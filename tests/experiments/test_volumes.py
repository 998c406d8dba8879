import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import eg3d_jax.generator
from eg3d_jax.config import tiny
from eg3d_jax.generator import TriPlaneGenerator
from inversion import meshes


def test_planes_are_packed_once_for_all_chunks(monkeypatch):
    """Packing the planes of a large generator takes longer than asking for a chunk of points."""
    config, packed = tiny(), []
    pack = eg3d_jax.generator.pack_planes

    def counted(planes):
        packed.append(planes.shape)
        return pack(planes)

    shape = (config.num_planes, config.plane_side, config.plane_side, config.plane_features)
    monkeypatch.setattr(eg3d_jax.generator, "pack_planes", counted)
    monkeypatch.setattr(meshes, "planes_of", lambda generator, ws: jnp.ones(shape))
    monkeypatch.setattr(meshes, "CHUNK", 4)
    generator = nnx.eval_shape(lambda: TriPlaneGenerator(config, rngs=nnx.Rngs(0)))
    generator = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), generator)
    with jax.disable_jit():  # otherwise chunks after the first run no Python
        query = meshes.field_of(generator, jnp.zeros((config.num_ws, config.w_dim)))
        colours, density = query(np.zeros((10, 3)))
    assert colours.shape == (10, 3)
    assert density.shape == (10,)
    assert packed == [shape]
