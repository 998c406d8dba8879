import numpy as np
import pytest

from eg3d_jax.cameras import yaw_pitch_camera
from experiments.heads.scene import HALF_SIDE, make_scene, render, render_depth, shrink

pytest.importorskip("embreex", reason="embreex comes with the extra `heads`")
trimesh = pytest.importorskip("trimesh", reason="trimesh comes with the extra `heads`")

RADIUS, SIDE = 0.2, 48


def scene_of(mesh):
    shade = lambda hits: 0.5 * np.ones((len(hits.triangle), 3), np.float32)  # noqa: E731
    normals = np.asarray(mesh.vertex_normals, np.float32)
    return make_scene(mesh.vertices, np.asarray(mesh.faces, np.int32), normals, shade)


@pytest.fixture(scope="module")
def cameras():
    cameras = yaw_pitch_camera(np.float32([-1.2, 0.0, 0.7]), np.float32([0.3, 0.0, -0.4]))
    return np.asarray(cameras.cam2world), np.asarray(cameras.intrinsics[0])


@pytest.fixture(scope="module")
def sphere():
    return scene_of(trimesh.creation.icosphere(subdivisions=5, radius=RADIUS))


def ray_angles(intrinsics, side):
    """Sine of the angle between each pixel's centre ray and the optical axis."""
    v, u = np.meshgrid(*[(np.arange(side) + 0.5) / side - 0.5] * 2, indexing="ij")
    tangent = np.hypot(u, v) / intrinsics[0, 0]
    return tangent / np.sqrt(1 + tangent**2)


def test_depth_of_a_sphere_is_the_closed_form(sphere, cameras):
    """Seen from 2.7 the sphere is hit at 2.7 cos - sqrt(r^2 - (2.7 sin)^2), from any side."""
    poses, lens = cameras
    depth = render_depth(sphere, poses, lens, SIDE).astype(np.float32)
    miss = 2.7 * ray_angles(lens, SIDE)
    expected = np.sqrt(2.7**2 - miss**2) - np.sqrt(np.maximum(RADIUS**2 - miss**2, 0))
    inner = miss < 0.97 * RADIUS  # at the rim the facets' error is larger
    # half precision resolves 2e-3 at 2.5; facets of this sphere lie up to 3e-4 inside it
    np.testing.assert_allclose(depth[:, inner], np.stack([expected[inner]] * 3), atol=2.5e-3)
    assert not depth[:, miss > 1.01 * RADIUS].any()


def test_opacity_of_a_sphere_is_its_disc(sphere, cameras):
    poses, lens = cameras
    pictures = render(sphere, poses, lens, SIDE, supersampling=4)
    disc = np.pi * (lens[0, 0] * np.tan(np.arcsin(RADIUS / 2.7))) ** 2
    covered = (pictures.opacity / 255.0).mean((1, 2))
    np.testing.assert_allclose(covered, disc, rtol=0.01)  # 4 x 4 rays a pixel along the rim


def test_image_is_white_where_empty_and_mixes_by_opacity(sphere, cameras):
    pictures = render(sphere, *cameras, SIDE)
    opacity = pictures.opacity[..., None] / 255.0
    expected = 255 * (1 - 0.5 * opacity)
    np.testing.assert_allclose(pictures.image, np.broadcast_to(expected, pictures.image.shape),
                               atol=1.5)  # fmt: skip


def test_mesh_is_cut_at_the_box_and_the_cut_is_closed(cameras):
    """A column through the box's bottom, seen from below: its cut face is the box's own face."""
    column = trimesh.creation.box(bounds=[[-0.3, -1.5, -0.3], [0.3, 0.3, 0.3]])
    camera = yaw_pitch_camera(np.float32([0.0]), np.float32([-1.2]))
    poses, lens = np.asarray(camera.cam2world), np.asarray(camera.intrinsics[0])
    depth = render_depth(scene_of(column), poses, lens, 2 * SIDE).astype(np.float32)
    rays = np.linalg.inv(lens) @ [0.5 + 0.25 / SIDE, 0.5 + 0.25 / SIDE, 1.0]
    direction = poses[0, :3, :3] @ (rays / np.linalg.norm(rays))
    point = poses[0, :3, 3] + depth[0, SIDE, SIDE] * direction
    np.testing.assert_allclose(point[1], -HALF_SIDE, atol=3e-3)  # half precision


def test_shrink_averages_blocks():
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    np.testing.assert_array_equal(shrink(image, 2), [[[3, 5], [11, 13]]])  # 2.5 rounds up
