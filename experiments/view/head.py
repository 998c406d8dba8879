"""Head in the viewer: pictures from any camera and setting, rough or in full."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jax import Array

from eg3d_jax.cameras import Cameras, azimuth, yaw_azimuth
from eg3d_jax.generator import Renders, TriPlaneGenerator, planes_of
from eg3d_jax.rays import cast_rays
from experiments.media.films import Show, render_cell
from experiments.media.pictures import resized, to_uint8
from experiments.subjects import Subjects
from inversion.editing import Directions, shift
from inversion.latents import Latents, latents_at

# Displays of the viewer: those of a video, and a slice.
Display = Show | Literal["density"]
DISPLAYS: tuple[Display, ...] = (*get_args(Show), "density")
# Number of directions of edits with a control.
_DIRECTIONS_SHOWN = 6
# Number of latents whose planes are kept.
_LATENTS_KEPT = 4
# While the camera moves over several latents, its azimuth is rounded, so that planes are reused.
_AZIMUTH_STEP = math.radians(5)
# The colours of depth span this part of the generator's box, from the front of a head to its back.
_DEPTH_PART = 0.7
# A slice shows the light absorbed along this part of the box's side at that density.
_SLICE_PART = 1 / 50
# Largest height of a canvas, pixels; pictures are shrunk to it.
_LARGEST_CANVAS = 1024


@dataclass(frozen=True, kw_only=True)
class Look:
    """Values of the viewer's controls.

    Attributes:
      display: kind of picture.
      truncation: 1 as it is, 0 the generator's mean head, linear between and beyond.
      yaw: of the latent, degrees, 0 frontal; None for that of the camera.
      edits: how far to go along each of the head's directions, standard deviations; none if empty.
    """

    display: Display = "colour"
    truncation: float = 1.0
    yaw: float | None = None
    edits: tuple[float, ...] = ()


class Head:
    """One head of a generator; its feature planes are computed once for each latent."""

    def __init__(
        self,
        subjects: Subjects,
        *,
        directions: Directions | None = None,
        moving_side: int | None = None,
    ):
        """Prepare the first of the heads.

        Args:
          subjects: generator and latents.
          directions: of edits, of which the first few get a control; none if None.
          moving_side: side of the volume rendering while the head moves; half of the generator's
            if None.
        """
        self.generator, self._latents = subjects.generator, subjects.latents[0]
        config = self.generator.config
        none = np.zeros((0, config.w_dim), np.float32)
        self._steps = none if directions is None else directions.steps[:_DIRECTIONS_SHOWN]
        self._names = () if directions is None else directions.names
        self.still_side = config.neural_side
        self.moving_side = moving_side or max(1, config.neural_side // 2)
        reach = _DEPTH_PART * config.render.box_warp / 2
        self._limits = (config.camera_radius - reach, config.camera_radius + reach)
        # Caches that are safe between threads.
        self._planes = functools.lru_cache(maxsize=_LATENTS_KEPT)(self._compute_planes)

    @property
    def directions(self) -> tuple[str, ...]:
        """Names of the edits that `Look.edits` may have."""
        names = self._names or [f"Direction {i}" for i in range(len(self._steps))]
        return tuple(names[: len(self._steps)])

    def latents(self, look: Look) -> Latents:
        """Latents by the controls: K, or one if its yaw is fixed."""
        pulled = self.generator.mapping.truncate(self._latents.w_plus, look.truncation)
        latents = dataclasses.replace(self._latents, w_plus=pulled)
        if look.edits:
            latents = shift(
                latents, np.tensordot(np.asarray(look.edits, np.float32), self._steps, 1)
            )
        if look.yaw is None:
            return latents
        ws = latents_at(latents, yaw_azimuth(math.radians(look.yaw)))
        return Latents(w_plus=ws[None], azimuth=jnp.zeros(1))

    def picture(self, camera: Cameras, look: Look, *, moving: bool) -> np.ndarray:
        """Render uint8 [S, S, 3] from a camera; coarser, at a rounded azimuth, while it moves."""
        side = self.moving_side if moving else self.still_side
        angle = self._angle(camera, look, moving)
        ws, planes = self._planes(dataclasses.replace(look, display="colour"), angle)
        if look.display == "density":
            return colour_extinction(
                density_slice(self.generator, planes, camera, side=side),
                self.generator.config.render.box_warp,
            )
        enlarge = look.display == "colour"
        renders = _render(self.generator, ws, planes, camera, side=side, enlarge=enlarge)
        film = jax.tree.map(lambda x: np.asarray(x)[None], renders)
        film = dataclasses.replace(film, image=to_uint8(film.image), raw=to_uint8(film.raw))
        return render_cell(look.display, film, camera[None], 0, self._limits)

    def _angle(self, camera: Cameras, look: Look, moving: bool) -> float:
        if look.yaw is not None or len(self._latents) == 1:
            return 0.0  # does not matter: one latent serves all
        angle = float(azimuth(camera))
        return round(angle / _AZIMUTH_STEP) * _AZIMUTH_STEP if moving else angle

    def _compute_planes(self, look: Look, angle: float) -> tuple[Array, Array]:
        ws = latents_at(self.latents(look), angle)
        return ws, planes_of(self.generator, ws)


@functools.partial(jax.jit, static_argnames="side")
def density_slice(
    generator: TriPlaneGenerator, planes: Array, camera: Cameras, *, side: int
) -> Array:
    """Extinction on the plane through the origin that faces a camera, seen from it.

    Args:
      generator: whose decoder turns features into density.
      planes: from `tri_planes`.
      camera: a single camera.
      side: pixels along either axis.

    Returns:
      [side, side] light lost a world unit; 0 outside the generator's box.
    """
    rays, forward = cast_rays(camera, side), camera.cam2world[:3, 2]
    depth = -jnp.dot(camera.position, forward) / (rays.directions @ forward)
    points = rays.origins + depth[:, None] * rays.directions
    _, density = generator.query(planes, points)
    inside = jnp.max(jnp.abs(points), axis=-1) <= generator.config.render.box_warp / 2
    return jnp.where(inside, jax.nn.softplus(density - 1.0), 0.0).reshape(side, side)


def colour_extinction(extinction: Array, box_side: float) -> np.ndarray:
    """Show extinction [h, w] as colours uint8 [h, w, 3], from dark (air) to yellow (opaque)."""
    lost = 1 - np.exp(-np.asarray(extinction) * box_side * _SLICE_PART)
    return matplotlib.colormaps["viridis"](lost, bytes=True)[..., :3]


@functools.partial(jax.jit, static_argnames=("side", "enlarge"))
def _render(
    generator: TriPlaneGenerator,
    ws: Array,
    planes: Array,
    camera: Cameras,
    *,
    side: int,
    enlarge: bool,
) -> Renders:
    rendered = generator.render(planes, camera, side=side)
    renders = generator.superresolve(rendered, ws)
    # Super-resolution that nobody looks at is removed by the compiler.
    return renders if enlarge else dataclasses.replace(renders, image=renders.raw)


def on_canvas(picture: np.ndarray, aspect: float, part: float = 1.0) -> np.ndarray:
    """Place a square picture on a white canvas, cut at the sides if that is narrower.

    Args:
      picture: uint8 [S, S, 3].
      aspect: width over height of the canvas.
      part: of the canvas' height that the picture takes, in (0, 1].

    Returns:
      uint8 [H, W, 3] with H = S / part, but no more than `_LARGEST_CANVAS` if S is not.
    """
    side = picture.shape[0]
    height = min(round(side / part), max(side, _LARGEST_CANVAS))
    picture = resized(picture, max(1, round(part * height)))
    canvas = np.full((height, max(1, round(aspect * height)), 3), 255, np.uint8)
    (top, left), side = ((n - picture.shape[0]) // 2 for n in canvas.shape[:2]), picture.shape[0]
    kept = picture[:, max(0, -left) : max(0, -left) + canvas.shape[1]]
    canvas[top : top + side, max(0, left) : max(0, left) + kept.shape[1]] = kept
    return canvas
