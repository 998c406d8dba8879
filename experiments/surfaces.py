"""Surfaces of density grids, and the files that hold them; scikit-image and trimesh do the work.

World units and axes as everywhere: y up, the face towards +z, x to the head's left, the box round
the origin; that is glTF's convention too.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from experiments.disk import write_atomically
from experiments.errors import InputError
from experiments.volumes import Query, with_empty_faces
from experiments.wording import beside

FORMATS = ("ply", "obj", "glb")


def library(name: str) -> Any:
    """A library of the extra `mesh`.

    Raises:
      InputError: if it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"meshes need scikit-image and trimesh ({error}); install them with "
            "`pip install -e '.[mesh]'`"
        ) from None


def check_libraries() -> None:
    """Refuse early if the libraries are missing."""
    library("skimage.measure")
    library("trimesh")


def iso_surface(volume: np.ndarray, level: float, box_side: float) -> Any:
    """The largest closed surface on which the density is `level`, inside the box.

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
    """The connected part with the most triangles; specks that float about are dropped."""
    labels = library("trimesh.graph").connected_component_labels(
        mesh.face_adjacency, node_count=len(mesh.faces)
    )
    mesh.update_faces(labels == np.bincount(labels).argmax())
    mesh.remove_unreferenced_vertices()
    return mesh


def paint(mesh: Any, query: Query) -> None:
    """Give every vertex the colour of the field there."""
    colours, _ = query(np.asarray(mesh.vertices))
    mesh.visual.vertex_colors = np.round(colours * 255).astype(np.uint8)


def write_mesh(path: Path, mesh: Any) -> Path:
    """Write a painted surface with its normals as ply, obj or glb, by the suffix of the path.

    glTF's vertex colours are linear in light, so glb holds the colours without their gamma; and it
    gets a material that is not metal, which is glTF's odd default.
    """
    kind = path.suffix.removeprefix(".")
    if kind == "glb":
        mesh = mesh.copy()
        mesh.visual.vertex_colors = linear_light(mesh.visual.vertex_colors[:, :3])
        content = mesh.export(file_type=kind, include_normals=True, tree_postprocessor=_not_metal)
    elif kind == "ply":
        content = mesh.export(file_type=kind, vertex_normal=True)
    else:
        content = mesh.export(file_type=kind, include_normals=True)
    return write_atomically(path, content.encode() if isinstance(content, str) else content)


def linear_light(colours: np.ndarray) -> np.ndarray:
    """8-bit sRGB colours as 8 bits linear in light (IEC 61966-2-1)."""
    c = colours / 255.0
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return np.round(linear * 255).astype(np.uint8)


def _not_metal(tree: dict[str, Any]) -> None:
    tree["materials"] = [{"pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0}}]
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            primitive["material"] = 0
