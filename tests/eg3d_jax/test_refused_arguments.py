"""Arguments that ran and were wrong, or failed deep inside, are refused where they enter."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eg3d_jax.cameras import orbit
from eg3d_jax.config import tiny
from eg3d_jax.rays import cast_rays
from eg3d_jax.rendering import render_rays

CONFIG = tiny()
CAMERAS = orbit(np.linspace(1.3, 1.8, 2), np.linspace(1.4, 1.7, 2))
NORMALS = jax.random.normal(jax.random.key(0), (CONFIG.num_ws, CONFIG.z_dim))
PLANES = jnp.zeros((CONFIG.num_planes, 16, 16, CONFIG.plane_features))


@pytest.mark.parametrize("z", [NORMALS, NORMALS[:1], NORMALS[0, :4]], ids=lambda z: str(z.shape))
def test_a_z_that_is_not_of_one_head_is_refused(tiny_generator, z):
    """As many z as there are layers would become one head of unrelated people."""
    with pytest.raises(ValueError, match=r"z has shape .*want \(8,\).*vmap"):
        tiny_generator.map_to_ws(z)


def test_several_cameras_are_refused(tiny_generator):
    one_by_mistake = CAMERAS[:1]
    for cameras in (CAMERAS, one_by_mistake):
        with pytest.raises(ValueError, match=r"cam2world has shape .*one camera; index or vmap"):
            tiny_generator.map_to_ws(NORMALS[0], cameras)
        with pytest.raises(ValueError, match=r"cam2world has shape .*one camera; index or vmap"):
            tiny_generator.render(PLANES, cameras)
        with pytest.raises(ValueError, match=r"cam2world has shape .*one camera; index or vmap"):
            jax.eval_shape(tiny_generator.synthesize, jnp.zeros((CONFIG.num_ws, 16)), cameras)
    mixed = dataclasses.replace(CAMERAS[0], intrinsics=CAMERAS.intrinsics)
    with pytest.raises(ValueError, match=r"intrinsics \(2, 3, 3\), want"):
        tiny_generator.render(PLANES, mixed)


def test_several_heads_and_cameras_go_through_vmap(tiny_generator):
    def one(z, camera):
        ws = tiny_generator.map_to_ws(z, camera)
        return ws, tiny_generator.render(PLANES, camera).depth

    ws, depth = jax.eval_shape(jax.vmap(one), NORMALS[:2], CAMERAS)
    assert ws.shape == (2, CONFIG.num_ws, CONFIG.w_dim)
    assert depth.shape == (2, 8, 8)


@pytest.mark.parametrize("noise_mode", ["fixed", "Random", None])
def test_a_mistyped_noise_mode_is_refused(tiny_generator, noise_mode):
    with pytest.raises(ValueError, match=f"noise_mode={noise_mode!r} must be one of .*'random'"):
        jax.eval_shape(
            lambda ws: tiny_generator.tri_planes(ws, noise_mode=noise_mode),
            jnp.zeros((CONFIG.num_ws, CONFIG.w_dim)),
        )


@pytest.mark.parametrize("rays_at_once", [0, -1, 3])
def test_chunks_of_rays_that_do_not_add_up_are_refused(rays_at_once):
    with pytest.raises(ValueError, match=f"rays_at_once={rays_at_once} must divide .* rays, 4;"):
        render_rays(
            lambda points: (points, points[:, 0]),
            cast_rays(CAMERAS[0], 2),
            CONFIG.render,
            rays_at_once=rays_at_once,
        )


@pytest.mark.parametrize("side", [0, -1])
def test_a_view_without_pixels_is_refused(tiny_generator, side):
    with pytest.raises(ValueError, match=f"side={side} must be at least 1 pixel"):
        tiny_generator.render(PLANES, CAMERAS[0], side=side)


@pytest.mark.parametrize("shape", [(8, 16, 8), (16, 8, 8), (2, 8, 8, 8)])
def test_superresolution_refuses_what_is_not_one_square_view(tiny_generator, shape):
    with pytest.raises(ValueError, match="want one square view"):
        jax.eval_shape(tiny_generator.superresolution, jnp.zeros(shape), jnp.zeros(16))
