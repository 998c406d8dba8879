"""Normals of a sphere's depth are the sphere's."""

import jax
import jax.numpy as jnp
import numpy as np

from eg3d_jax.cameras import yaw_pitch_camera
from eg3d_jax.rays import cast_rays
from inversion.metrics import colour_normals, depth_normals

SIDE = 64

_normals = jax.jit(depth_normals)
_rays = jax.jit(lambda camera: cast_rays(camera, SIDE))


def sphere_depth(camera, radius):
    """[SIDE, SIDE] distance to a sphere round the origin, and where it is hit."""
    rays = _rays(camera)
    origins, directions = np.asarray(rays.origins), np.asarray(rays.directions)
    along = -np.sum(origins * directions, axis=-1)
    inside = radius**2 - np.sum(origins**2, axis=-1) + along**2
    depth = along - np.sqrt(np.maximum(inside, 0))
    return depth.reshape(SIDE, SIDE), (inside > 0).reshape(SIDE, SIDE), origins, directions


def test_normals_of_a_sphere_point_away_from_its_centre():
    radius = 0.3
    camera = yaw_pitch_camera(0.6, 0.3)
    depth, hit, origins, directions = sphere_depth(camera, radius)
    normals = np.asarray(_normals(jnp.asarray(depth, jnp.float32), camera))
    points = (origins + depth.reshape(-1, 1) * directions).reshape(SIDE, SIDE, 3)
    facing = -np.sum(points / radius * directions.reshape(SIDE, SIDE, 3), axis=-1)
    inner = hit & (facing > 0.5)  # not the rim, whose neighbours miss the sphere
    assert inner.sum() > 500
    # Central differences err by the square of the step, most where the surface is steep.
    np.testing.assert_allclose(normals[inner], (points / radius)[inner], atol=0.02)


def test_a_flat_wall_has_one_normal_and_no_slope_has_none():
    camera = yaw_pitch_camera(0.0, 0.0)
    directions = np.asarray(_rays(camera).directions)
    depth = 2.0 / -directions[:, 2]  # the plane z = 0.7
    normals = _normals(jnp.asarray(depth.reshape(SIDE, SIDE)), camera)
    np.testing.assert_allclose(normals, np.broadcast_to([0, 0, 1], (SIDE, SIDE, 3)), atol=1e-4)
    assert not np.any(_normals(jnp.zeros((SIDE, SIDE)), camera))


def test_colours_rise_with_the_axes_and_are_white_where_empty():
    normals = np.array([[[1, 0, 0], [0, 1, 0]], [[0, 0, 1], [-1, -1, -1]]], np.float32)
    colours = colour_normals(normals, opacity=np.array([[1, 1], [1, 0]]))
    assert colours.tolist() == [
        [[255, 128, 128], [128, 255, 128]],
        [[128, 128, 255], [255, 255, 255]],
    ]
