"""Ray casting of a triangle mesh in EG3D's box: image, opacity and depth from any camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from einops import rearrange

from eg3d_jax.errors import InputError

HALF_SIDE = 0.5  # the mesh is cut at the box [-0.5, 0.5]^3


@dataclass(frozen=True, kw_only=True)
class Hits:
    """N points where rays met the mesh.

    Attributes:
      triangle: [N] index of the triangle.
      corners: [N, 3] its vertex indices.
      barycentric: [N, 3] weights of the corners.
      normal: [N, 3] interpolated unit normal.
    """

    triangle: np.ndarray
    corners: np.ndarray
    barycentric: np.ndarray
    normal: np.ndarray

    def interpolate(self, attribute: np.ndarray) -> np.ndarray:
        """Interpolate a per-vertex attribute [V, C] to [N, C]."""
        return interpolate(attribute, self.corners, self.barycentric)

    def select(self, chosen: np.ndarray) -> Hits:
        """Select the hits where `chosen` [N] is true."""
        return Hits(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Mesh with vertex normals, and a function that colours its hits.

    Attributes:
      vertices: [V, 3] float32, world units.
      faces: [F, 3] int32, counter-clockwise from outside.
      normals: [V, 3] unit vertex normals.
      shade: from Hits to [N, 3] sRGB in [0, 1]; None where only depth is wanted.
      caster: embree's scene of the mesh.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    shade: Callable[[Hits], np.ndarray] | None
    caster: Any


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Renders of B views with S pixels a side.

    Attributes:
      image: [B, S, S, 3] uint8 sRGB on white, averaged over sub-rays.
      opacity: [B, S, S] uint8, the share of sub-rays that hit, times 255.
      depth: [B, S, S] float16, distance from the camera along the ray through the pixel centre,
        world units; 0 where that ray hits nothing.
    """

    image: np.ndarray
    opacity: np.ndarray
    depth: np.ndarray


def make_scene(vertices, faces, normals, shade: Callable[[Hits], np.ndarray] | None) -> Scene:
    """Make a scene ready for casting.

    Raises:
      InputError: if embreex is not installed.
    """
    try:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene
    except ImportError as error:
        raise InputError("ray casting needs embreex: pip install 'eg3d-jax[heads]'") from error
    caster = EmbreeScene()
    vertices = np.ascontiguousarray(vertices, np.float32)
    TriangleMesh(caster, vertices, np.ascontiguousarray(faces, np.int32))
    return Scene(vertices=vertices, faces=faces, normals=normals, shade=shade, caster=caster)


def render(scene: Scene, cam2world, intrinsics, side: int, *, supersampling: int = 2) -> Pictures:
    """Render B views of a scene.

    Sub-rays are cast only in pixels whose centre ray, or that of one of the eight neighbours,
    hits the mesh; of a feature thinner than a pixel, lone pixels may be missing.

    Args:
      scene: what to render.
      cam2world: [B, 4, 4] OpenCV poses.
      intrinsics: [3, 3] over the image side, the same for all views.
      side: pixels a side.
      supersampling: sub-rays along each side of a pixel.
    """
    cam2world = np.asarray(cam2world)
    depth = render_depth(scene, cam2world, intrinsics, side)
    view, row, column = np.nonzero(_grow(depth > 0))
    cells = camera_rays(intrinsics, side * supersampling)
    cells = rearrange(cells, "(h a) (w b) c -> h w (a b) c", a=supersampling, b=supersampling)
    sub_rays = supersampling**2
    directions = _rotate(cam2world, view, cells[row, column])
    origins = cam2world[view, None, :3, 3]
    colour, hit = cast_colour(scene, origins, directions)
    image, opacity = np.ones((*depth.shape, 3), np.float32), np.zeros(depth.shape, np.float32)
    image[view, row, column] = colour.reshape(len(view), sub_rays, 3).mean(1)
    opacity[view, row, column] = hit.reshape(len(view), sub_rays).mean(1)
    return Pictures(image=to_bytes(image), opacity=to_bytes(opacity), depth=depth)


def render_depth(scene: Scene, cam2world, intrinsics, side: int) -> np.ndarray:
    """Render depth alone, [B, side, side] float16 as in `Pictures`."""
    cam2world = np.asarray(cam2world)
    rays = camera_rays(intrinsics, side).reshape(1, -1, 3)
    directions = rays @ np.swapaxes(cam2world[:, :3, :3], 1, 2)
    origins = np.broadcast_to(cam2world[:, None, :3, 3], directions.shape)
    distance = _cast(scene, origins.reshape(-1, 3), directions.reshape(-1, 3))[1]
    distance = np.where(np.isfinite(distance), distance, 0.0)
    return distance.reshape(len(cam2world), side, side).astype(np.float16)


def cast_colour(scene: Scene, origins, directions) -> tuple[np.ndarray, np.ndarray]:
    """Cast rays, arguments broadcast to [..., 3]: colour [R, 3] over white and hit flags [R]."""
    origins = np.broadcast_to(origins, directions.shape).reshape(-1, 3)
    directions = directions.reshape(-1, 3)
    triangle, distance, u, v = _cast(scene, origins, directions)
    hit = np.isfinite(distance)
    corners, u, v = scene.faces[triangle[hit]], u[hit], v[hit]
    barycentric = np.stack([1 - u - v, u, v], -1)
    normal = interpolate(scene.normals, corners, barycentric)
    normal /= np.sqrt(np.einsum("nc,nc->n", normal, normal))[:, None] + 1e-9
    colour = np.ones((len(origins), 3), np.float32)
    if scene.shade is None:
        return colour, hit
    colour[hit] = scene.shade(
        Hits(triangle=triangle[hit], corners=corners, barycentric=barycentric, normal=normal)
    )
    return colour, hit


def interpolate(attribute, corners, barycentric) -> np.ndarray:
    """Interpolate a per-vertex attribute [V, C] by barycentric weights to [N, C]."""
    a, b, c = (attribute[corners[:, k]] * barycentric[:, k, None] for k in range(3))
    return a + b + c


def shrink(image: np.ndarray, factor: int) -> np.ndarray:
    """Average blocks of pixels, rounded: [B, h / factor, w / factor, ...] uint8."""
    b, h, w, *rest = image.shape
    blocks = image.reshape(b, h // factor, factor, w // factor, factor, *rest)
    return (blocks.mean((2, 4), dtype=np.float32) + 0.5).astype(np.uint8)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Convert [0, 1] to uint8, rounded."""
    return (values * 255 + 0.5).astype(np.uint8)


@lru_cache(maxsize=8)
def _camera_rays(intrinsics: tuple[float, ...], side: int) -> np.ndarray:
    v, u = np.meshgrid(*[(np.arange(side) + 0.5) / side] * 2, indexing="ij")
    pixels = np.stack([u, v, np.ones_like(u)], -1)
    directions = pixels @ np.linalg.inv(np.reshape(intrinsics, (3, 3))).T
    return (directions / np.linalg.norm(directions, axis=-1, keepdims=True)).astype(np.float32)


def camera_rays(intrinsics, side: int) -> np.ndarray:
    """Unit directions [side, side, 3] through pixel centres, in the camera's axes."""
    return _camera_rays(tuple(np.asarray(intrinsics, np.float64).ravel().tolist()), side)


def _rotate(cam2world, view, directions) -> np.ndarray:
    """Rotate directions [N, ..., 3] of camera `view` [N] to the world's axes."""
    rotated = np.empty_like(directions)
    for i, pose in enumerate(cam2world):
        rotated[view == i] = directions[view == i] @ pose[:3, :3].T
    return rotated


def _grow(mask: np.ndarray) -> np.ndarray:
    """Dilate a mask [B, h, w] by the eight neighbours."""
    for axis in (1, 2):
        padded = np.pad(mask, [(0, 0), *[(int(a == axis),) * 2 for a in (1, 2)]])
        size = mask.shape[axis]
        mask = np.any([padded.take(range(k, k + size), axis) for k in range(3)], axis=0)
    return mask


def _cast(scene: Scene, origins, directions):
    """Intersect rays: triangle [R], distance [R] (inf if none) and barycentric u, v [R].

    Rays run from their entry into the box to their exit. A ray that meets a back face first began
    inside the mesh: the cut is closed by a hit at the entry, coloured as that back face.
    """
    entry, leave = _box_interval(origins, directions)
    start = np.ascontiguousarray(origins + entry[:, None] * directions, np.float32)
    found = scene.caster.run(start, np.ascontiguousarray(directions, np.float32), output=1)
    triangle, beyond = found["primID"], found["tfar"]
    hit = (triangle >= 0) & (entry < leave) & (entry + beyond <= leave)
    # embree's Ng is the cross product of edges: outward here, so along the ray on a back face.
    # Folds (nostrils, lids) show back faces as well, hence the start inside the mesh's bounds.
    low, high = scene.vertices.min(0), scene.vertices.max(0)
    inside = hit & np.all((start > low) & (start < high), axis=1)
    inside &= np.einsum("rc,rc->r", found["Ng"], directions) > 0
    distance = np.where(inside, entry, entry + beyond)
    return triangle, np.where(hit, distance, np.inf), found["u"], found["v"]


def _box_interval(origins, directions) -> tuple[np.ndarray, np.ndarray]:
    """Distances [R] of entry into and exit from the box along rays."""
    entry, leave = np.zeros(len(origins), np.float32), np.full(len(origins), np.inf, np.float32)
    for axis in range(3):
        o, d = origins[:, axis], directions[:, axis]
        inverse = 1 / np.where(np.abs(d) < 1e-9, np.float32(1e-9), d)
        low, high = (-HALF_SIDE - o) * inverse, (HALF_SIDE - o) * inverse
        entry = np.maximum(entry, np.minimum(low, high))
        leave = np.minimum(leave, np.maximum(low, high))
    return entry, leave
