"""Surfaces and volumes of a head: density grids, MRC files, coloured meshes.

A grid has N samples along each axis, the first and last on the faces of the generator's box, so
their spacing is box_side / (N - 1). Arrays are indexed [x, y, z]: x to the head's left, y up, z out
of the face. Values are raw density, as in EG3D's own volumes (spec eg3d section 10). Lengths are
world units, but those of glb files, whose standard wants metres: see `metres_of_unit`.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.spatial import KDTree

from eg3d_jax.cameras import yaw_azimuth
from eg3d_jax.errors import InputError
from eg3d_jax.field import TriPlaneField
from eg3d_jax.generator import TriPlaneGenerator, planes_of
from inversion.files import write_atomically
from inversion.latents import latents_at
from inversion.result import Inversion
from inversion.units import FFHQ_METRES, metres_of_unit
from inversion.wording import beside

# Points of one call of the decoder: bounds memory (about 0.3 GB for EG3D's), and fixes the program.
CHUNK = 2**16

# Points [M, 3] -> colours [M, 3] in [0, 1] and raw density [M]; on the host, any M.
Query = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


_METRES = "metres_of_world_unit"


def mesh(
    inversion: Inversion,
    *,
    yaw: float = 0.0,
    resolution: int = 128,
    level: float = 10.0,
    faces: int | None = None,
) -> Any:
    """Extract the coloured surface of an inverted head.

    Args:
      inversion: whose latent at the yaw is taken.
      yaw: radians, 0 frontal.
      resolution: samples along each axis of the generator's box.
      level: density of the surface.
      faces: most triangles that it may have; as many as the grid makes if None.

    Returns:
      A closed `trimesh.Trimesh` in world units, y up, the face towards +z; see `write_mesh`.

    Raises:
      InputError: if the density reaches the level nowhere, its surface cannot have so few
        triangles, or a library is missing.
    """
    check_libraries()
    box_side = inversion.generator.config.render.box_warp
    query = field_of(inversion.generator, latents_at(inversion.latents, yaw_azimuth(yaw)))
    surface = iso_surface(density_grid(query, resolution, box_side), level, box_side)
    colour_vertices(surface, query)
    surface.metadata[_METRES] = metres_of_unit(inversion.metadata)
    return surface if faces is None else with_fewer_faces(surface, faces)


@jax.jit
def _query(field: TriPlaneField, points: Array) -> tuple[Array, Array]:
    features, density = field(points)
    return jnp.clip(features[:, :3], 0.0, 1.0), density


def field_of(generator: TriPlaneGenerator, ws: Array) -> Query:
    """Field of a latent [L, D] as a function of host arrays, evaluated in chunks."""
    field = generator.field(planes_of(generator, ws))

    def query(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = []
        for start in range(0, len(points), CHUNK):
            part = points[start : start + CHUNK].astype(np.float32)
            padded = np.pad(part, ((0, CHUNK - len(part)), (0, 0)))
            out = _query(field, padded)
            parts.append([np.asarray(x)[: len(part)] for x in out])
        colours, density = zip(*parts, strict=True)
        return np.concatenate(colours), np.concatenate(density)

    return query


def grid_axis(side: int, box_side: float) -> np.ndarray:
    """Coordinates [N] of the samples along one axis, float32."""
    return np.linspace(-box_side / 2, box_side / 2, side, dtype=np.float32)


def density_grid(
    query: Query,
    side: int,
    box_side: float,
    *,
    tell: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Sample a field in chunks of points.

    Args:
      query: the field.
      side: samples N along one axis.
      box_side: of the box, world units.
      tell: called after each chunk with how many of the N**3 samples are done.

    Returns:
      [N, N, N] raw density, indexed [x, y, z].
    """
    axis = grid_axis(side, box_side)
    volume = np.empty((side, side, side), np.float32)
    flat = volume.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        index = np.arange(start, min(start + CHUNK, flat.size))
        points = axis[np.stack(np.unravel_index(index, volume.shape), axis=-1)]
        flat[index] = query(points)[1]
        tell(int(index[-1]) + 1)
    return volume


def with_empty_faces(volume: np.ndarray, level: float) -> np.ndarray:
    """Lower the outermost samples below `level`, so that every surface closes."""
    closed = np.full_like(volume, min(float(volume.min()), level - 1.0))
    inner = (slice(1, -1),) * 3
    closed[inner] = volume[inner]
    return closed


def write_mrc(path: Path, volume: np.ndarray, box_side: float) -> Path:
    """Write a grid as MRC2014, mode 2: a header of 1,024 bytes, then float32, little-endian.

    x varies fastest in the file, as MRC's columns, then y, then z: mapc, mapr, maps = 1, 2, 3. The
    format's Angstroms are world units here; `origin` is the corner of the box, so that programs
    that read it show volume and mesh in one place.

    Args:
      path: of the file.
      volume: [N, N, N], indexed [x, y, z].
      box_side: of the box, world units.
    """
    data = np.ascontiguousarray(volume.transpose(2, 1, 0), "<f4")
    return write_atomically(path, _mrc_header(volume, box_side) + data.tobytes())


def _mrc_header(volume: np.ndarray, box_side: float) -> bytes:
    spacing = box_side / (volume.shape[0] - 1)
    label = b"eg3d_jax: raw density, lengths in world units".ljust(80)
    mean, spread = volume.mean(dtype=np.float64), volume.std(dtype=np.float64)
    header = b"".join(
        [
            struct.pack("<3i", *volume.shape),  # columns, rows, sections: x, y, z
            struct.pack("<i", 2),  # mode: float32
            struct.pack("<3i", 0, 0, 0),  # first column, row and section
            struct.pack("<3i", *volume.shape),  # intervals of the cell
            struct.pack("<3f", *(n * spacing for n in volume.shape)),  # sides of the cell
            struct.pack("<3f", 90, 90, 90),  # its angles
            struct.pack("<3i", 1, 2, 3),  # axes of columns, rows and sections
            struct.pack("<3f", volume.min(), volume.max(), mean),
            struct.pack("<2i", 1, 0),  # space group of a single volume; no extended header
            bytes(12),  # EXTRA up to NVERSION, whose type of extended header is none
            struct.pack("<i", 20141),  # version of the format
            bytes(84),
            struct.pack("<3f", *(3 * [-box_side / 2])),  # origin: of the first sample
            b"MAP ",
            bytes([0x44, 0x44, 0, 0]),  # little-endian
            struct.pack("<f", spread),
            struct.pack("<i", 1),  # labels
            label,
        ]
    )
    return header.ljust(1024, b"\0")


FORMATS = ("ply", "obj", "glb")


def library(name: str) -> Any:
    """Import a library of the extra `mesh`.

    Raises:
      InputError: if it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"meshes need scikit-image, trimesh and manifold3d ({error}); install them with "
            "`pip install -e '.[mesh]'`"
        ) from None


def check_libraries() -> None:
    """Refuse to start if the libraries are missing."""
    for name in ("skimage.measure", "trimesh", "manifold3d"):
        library(name)


def iso_surface(volume: np.ndarray, level: float, box_side: float) -> Any:
    """Extract the largest closed surface inside the box on which the density is `level`.

    Args:
      volume: [N, N, N] density, indexed [x, y, z], on a grid that spans the box. What it holds on
        the faces of the box counts as empty, so that what the box cuts is closed by a plane.
      level: density of the surface.
      box_side: of the box, world units.

    Returns:
      A `trimesh.Trimesh`, its triangles counterclockwise from outside.

    Raises:
      InputError: if there is no such surface.
    """
    closed = with_empty_faces(volume, level)
    if not closed.max() > level:
        wanted, highest = beside(level, float(closed.max()), 4)
        raise InputError(
            f"--level {wanted}: the density inside the box reaches {highest} only; choose a lower "
            "one"
        )
    spacing = box_side / (len(volume) - 1)
    # Ascent: of scikit-image's two orders of corners the one with normals towards low density.
    vertices, faces, _, _ = library("skimage.measure").marching_cubes(
        closed, level, spacing=(spacing,) * 3, gradient_direction="ascent"
    )
    mesh = library("trimesh").Trimesh(vertices - box_side / 2, faces, process=False)
    return largest_component(mesh)


def largest_component(mesh: Any) -> Any:
    """Select the connected part with the most triangles; floating specks are dropped."""
    labels = library("trimesh.graph").connected_component_labels(
        mesh.face_adjacency, node_count=len(mesh.faces)
    )
    mesh.update_faces(labels == np.bincount(labels).argmax())
    mesh.remove_unreferenced_vertices()
    return mesh


def colour_vertices(mesh: Any, query: Query) -> None:
    """Give every vertex the colour of the field there."""
    colours, _ = query(np.asarray(mesh.vertices))
    mesh.visual.vertex_colors = np.round(colours * 255).astype(np.uint8)


# Deviation, world units, at which edges are removed, and how it grows until few enough are left.
_LEAST_DEVIATION, _GROWTH, _HALVINGS = 2e-5, 1.25, 6
# Height, world units, of white over black while edges are removed.
_RELIEF = 0.03


def with_fewer_faces(mesh: Any, faces: int) -> Any:
    """Simplify a closed, coloured surface, which stays closed, to as many triangles as allowed.

    Edges between colours are kept like edges of the shape: while it is simplified, vertices are
    raised along their normals by how bright they are. Those that are left are where they were.

    Args:
      mesh: a closed `trimesh.Trimesh` with a colour at each vertex.
      faces: most triangles of the result, which has up to a quarter fewer.

    Returns:
      Another `trimesh.Trimesh`; the same if it is small enough.

    Raises:
      InputError: if no surface of so few triangles is near it.
    """
    if len(mesh.faces) <= faces:
        return mesh
    colours = mesh.visual.vertex_colors[:, :3] / 255.0
    raised = mesh.vertices + mesh.vertex_normals * (_RELIEF * _brightness(colours))[:, None]
    raised = np.asarray(raised, np.float32)
    vertices, triangles = _simplified(raised, np.asarray(mesh.faces, np.uint32), faces)
    _, kept = KDTree(raised).query(vertices)
    simple = library("trimesh").Trimesh(
        mesh.vertices[kept],
        triangles,
        vertex_colors=mesh.visual.vertex_colors[kept],
        metadata=mesh.metadata,
        process=False,
    )
    return largest_component(simple)


def _brightness(colours: np.ndarray) -> np.ndarray:
    """What tells colours [n, 3] apart best, as one number [n] for each."""
    offset = colours - colours.mean(axis=0)
    return offset @ np.linalg.eigh(offset.T @ offset)[1][:, -1]


def _simplified(
    vertices: np.ndarray, triangles: np.ndarray, faces: int
) -> tuple[np.ndarray, np.ndarray]:
    """Remove edges of a closed surface until few enough triangles are left; see `with_fewer_faces`.

    Returns:
      vertices [n, 3], all of them given ones, and triangles [m, 3].
    """
    manifold3d = library("manifold3d")
    whole = manifold3d.Manifold(manifold3d.Mesh(vertices, triangles))
    largest = float(np.ptp(vertices, axis=0).max())
    low, high = 0.0, _LEAST_DEVIATION
    # Step by step: with a large deviation at once more triangles are left, and worse ones.
    while (fewer := whole.simplify(high)).num_tri() > faces:
        whole, low, high = fewer, high, high * _GROWTH
        if high > largest:
            raise InputError(
                f"--faces {faces}: {whole.num_tri()} triangles are needed at least; ask for more"
            )
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if (tried := whole.simplify(middle)).num_tri() > faces:
            low = middle
        else:
            fewer, high = tried, middle
    found = fewer.to_mesh()
    if not len(found.tri_verts):  # nothing is left of a shape as thin as that
        raise InputError(f"--faces {faces} leaves nothing of the surface; ask for more")
    return found.vert_properties[:, :3], found.tri_verts


def write_mesh(path: Path | str, mesh: Any, *, metres: float | None = None) -> Path:
    """Write a coloured surface with its normals as ply, obj or glb, by the suffix of the path.

    ply and obj hold world units and colours as on a screen, of 8 bits. glTF wants metres, and
    vertex colours linear in light; these are of 16 bits, as 8 would leave dark hair a few shades. A
    glb also gets a material that is not metal, which is glTF's odd default.

    Args:
      path: of the file.
      mesh: a `trimesh.Trimesh` in world units with a colour at each vertex.
      metres: of a world unit, in glb; those of the head that `mesh` was given, or of heads in
        EG3D's crops, if None (see `metres_of_unit`).
    """
    path = Path(path)
    kind = path.suffix.removeprefix(".")
    if kind == "glb":
        content = _glb(mesh, metres or mesh.metadata.get(_METRES, FFHQ_METRES))
    elif kind == "ply":
        content = mesh.export(file_type=kind, vertex_normal=True)
    else:
        content = mesh.export(file_type=kind, include_normals=True)
    return write_atomically(path, content.encode() if isinstance(content, str) else content)


_COLOURS = "_COLOURS"  # trimesh's own are of 8 bits
_VERTICES, _INDICES = 34962, 34963  # what glTF calls ARRAY_BUFFER and ELEMENT_ARRAY_BUFFER


def _glb(mesh: Any, metres: float) -> bytes:
    """Binary glTF of a surface."""
    colours = linear_light(mesh.visual.vertex_colors[:, :3])
    opaque = np.full((len(colours), 1), np.iinfo(np.uint16).max, np.uint16)
    surface = library("trimesh").Trimesh(
        np.asarray(mesh.vertices) * metres,
        mesh.faces,
        vertex_normals=_unit_normals(mesh),
        vertex_attributes={_COLOURS: np.concatenate([colours, opaque], axis=1)},
        process=False,
    )

    def finish(tree: dict[str, Any]) -> None:
        tree["asset"] = {"version": "2.0", "generator": "eg3d_jax",
                         "extras": {_METRES: metres}}  # fmt: skip
        rough = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
        tree["materials"] = [{"pbrMetallicRoughness": rough}]
        for primitive in tree["meshes"][0]["primitives"]:
            primitive["material"] = 0
            places = primitive["attributes"]
            places["COLOR_0"] = places.pop(_COLOURS)
            tree["accessors"][places["COLOR_0"]]["normalized"] = True
            for place in (*places.values(), primitive["indices"]):
                view = tree["bufferViews"][tree["accessors"][place]["bufferView"]]
                view["target"] = _INDICES if place == primitive["indices"] else _VERTICES

    return surface.export(file_type="glb", include_normals=True, tree_postprocessor=finish)


def _unit_normals(mesh: Any) -> np.ndarray:
    """Normals [n, 3] of length 1, of which glTF knows no other; up where triangles have no area."""
    normals = np.array(mesh.vertex_normals)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 0.5, normals / np.maximum(length, 0.5), [0.0, 1.0, 0.0])


def linear_light(colours: np.ndarray) -> np.ndarray:
    """Convert 8-bit sRGB colours to 16 bits linear in light (IEC 61966-2-1).

    Example:
      >>> linear_light(np.array([0, 188, 255])) / 65535
      array([0.        , 0.50289158, 1.        ])
    """
    c = colours / 255.0
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return np.round(linear * np.iinfo(np.uint16).max).astype(np.uint16)
