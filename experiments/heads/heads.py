"""Scenes of synthetic heads from latents z, ready to be rendered."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from experiments.heads.anatomy import Z_DIM, HeadModel
from experiments.heads.appearance import Appearance, colours, illumination, raise_hair
from experiments.heads.extras import Extra, Place
from experiments.heads.glasses import Anchors, Solid
from experiments.heads.scene import Hits, Scene, make_scene


@dataclass(frozen=True)
class HeadMaker:
    """Maker of scenes from latents, with what all heads share.

    Attributes:
      model: shape and expression.
    """

    model: HeadModel

    @classmethod
    def load(cls) -> HeadMaker:
        """Load the maker from the cached basis."""
        return cls(HeadModel.load())

    def scene(self, z: np.ndarray, extra: Extra | None = None) -> Scene:
        """Make the head of latent z [37] in EG3D's box, with an extra if wanted."""
        basis = self.model.basis
        look = Appearance.from_latent(z)
        vertices, scale = self.model.mesh(z)
        normals = self.vertex_normals(vertices)
        vertices = raise_hair(vertices, normals, basis.template, basis.ears, look, scale)
        if extra is None:
            extra = Extra()
        if extra.thickness is not None:
            place = Place(template=basis.template, lips=basis.lips, ears=basis.ears)
            vertices = vertices + (scale * extra.thickness(place))[:, None] * normals
        solid = None if extra.solid is None else extra.solid(self.anchors(z))
        decorate = None if extra.paint is None else partial(_painted, extra.paint, look)
        shade = lambda hits: colours(hits, self._static, look, decorate)  # noqa: E731
        normals = self.vertex_normals(vertices)
        if solid is None:
            return make_scene(vertices, basis.faces, normals, shade)
        return _with_solid(vertices, basis.faces, normals, shade, solid)

    def anchors(self, z: np.ndarray) -> Anchors:
        """Points on which glasses rest on the head of latent z [37]; no expression moves them."""
        basis, neutral = self.model.basis, self.model.neutral(z)
        scale, shift = self.model.framing(neutral)
        vertices, template = neutral * scale + shift, basis.template
        eyeball = np.isin(np.arange(len(template)), basis.faces[basis.eyeball])
        root = (basis.ears > 0.5) & (template[:, 1] > 0.722) & (np.abs(template[:, 0]) < 0.079)
        bridge = (np.abs(template[:, 0]) < 0.006) & (np.abs(template[:, 1] - 0.732) < 0.008)
        sides = (template[:, 0] > 0, template[:, 0] < 0)
        return Anchors(
            eyes=np.stack([vertices[eyeball & side].mean(0) for side in sides]),
            ears=np.stack([vertices[root & side].mean(0) for side in sides]),
            nose=float(vertices[bridge, 2].max()),
        )

    def vertex_normals(self, vertices: np.ndarray) -> np.ndarray:
        """Unit normals [V, 3], triangles weighted by area."""
        corners = vertices[self.model.basis.faces]
        area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals = self._triangles_of_vertex @ area
        return normals / (np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-12)

    @cached_property
    def _triangles_of_vertex(self):
        from scipy.sparse import csr_matrix

        faces = self.model.basis.faces
        columns = np.repeat(np.arange(len(faces)), 3)
        shape = (len(self.model.basis.template), len(faces))
        return csr_matrix((np.ones(faces.size, np.float32), (faces.ravel(), columns)), shape=shape)

    @cached_property
    def _static(self) -> dict[str, np.ndarray]:
        basis = self.model.basis
        per_vertex = [basis.template, basis.lips[:, None], basis.ears[:, None]]
        packed = np.concatenate([*per_vertex, self._openness[:, None]], -1)
        parts = {name: getattr(basis, name) for name in ("eyeball", "cavity", "tongue")}
        return {"packed": packed.astype(np.float32), **parts}

    @cached_property
    def _openness(self) -> np.ndarray:
        """Share [V] of the sky seen from each vertex of the mean head: ambient occlusion."""
        basis = self.model.basis
        vertices, _ = self.model.mesh(np.zeros(Z_DIM, np.float32))
        normals = self.vertex_normals(vertices)
        scene = make_scene(vertices, basis.faces, normals, None)
        rng = np.random.default_rng(0)
        directions = rng.standard_normal((96, 1, 3)) + 0 * vertices
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        directions = directions + 1.02 * normals  # cosine distributed about the normal
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        starts = np.broadcast_to(vertices + 2e-3 * normals, directions.shape)
        rays = [np.ascontiguousarray(a.reshape(-1, 3), np.float32) for a in (starts, directions)]
        found = scene.caster.run(*rays, output=1)
        free = (found["primID"] < 0) | (found["tfar"] > 0.3)
        return free.reshape(96, -1).mean(0)


def _painted(paint, look: Appearance, albedo, template, lips, ears) -> np.ndarray:
    return paint(albedo, Place(template=template, lips=lips, ears=ears), look)


def _with_solid(vertices, faces, normals, shade, solid: Solid) -> Scene:
    """Join the scene of a head and a mesh of one colour."""

    def shade_both(hits: Hits) -> np.ndarray:
        of_head = hits.triangle < len(faces)
        light = illumination(hits.normal, np.ones(len(of_head)), np.zeros(len(of_head), bool))
        colour = np.clip(solid.colour * light[:, None], 0, 1)
        colour[of_head] = shade(hits.select(of_head))
        return colour

    return make_scene(
        np.concatenate([vertices, solid.vertices]),
        np.concatenate([faces, solid.faces + len(vertices)]),
        np.concatenate([normals, solid.normals]),
        shade_both,
    )
