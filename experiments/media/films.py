"""Pictures of a rendered path: heads in rows, their displays side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import jax
import numpy as np

from eg3d_jax.cameras import Cameras
from eg3d_jax.generator import Renders
from experiments.media.pictures import colour_depth, grid, to_uint8
from inversion.frames.folder import Frames, read_image
from inversion.metrics import colour_normals, depth_normals
from inversion.result import depth_range, joined

Show = Literal["colour", "raw", "depth", "normals"]
# Smaller pictures are enlarged, so that their headings can be read.
_SMALLEST_SIDE = 256

_normals = jax.jit(depth_normals)


def pictures(
    films: Sequence[Renders],
    cameras: Cameras,
    show: Sequence[Show],
    *,
    names: Sequence[str] = (),
    frames: Frames | None = None,
) -> Iterator[np.ndarray]:
    """Compose one picture for each camera.

    Args:
      films: of each head, `Renders` [T] with uint8 image and raw.
      cameras: [T].
      show: columns, from left to right.
      names: of the heads, or none.
      frames: targets of the T cameras, which become the first column.

    Returns:
      uint8 [H, W, 3] each, T of them, all of one size.
    """
    limits = depth_range(joined(films))  # one scale of colours for all
    side = max(_SMALLEST_SIDE, films[0].image.shape[1])
    columns = list(show) if frames is None else ["target", *show]
    for t in range(len(cameras)):
        rows = [[render_cell(what, film, cameras, t, limits) for what in show] for film in films]
        if frames is not None:
            target = to_uint8(read_image(frames, t))
            rows = [[target, *row] for row in rows]
        yield grid(rows, columns=columns, labels=names, side=side)


def render_cell(
    what: Show, film: Renders, cameras: Cameras, t: int, limits: tuple[float, float]
) -> np.ndarray:
    """Draw one display of view t, uint8 [h, w, 3]."""
    opacity = film.opacity[t]
    match what:
        case "colour":
            return np.asarray(film.image[t])
        case "raw":
            return np.asarray(film.raw[t])
        case "depth":
            near, far = limits
            return colour_depth(film.depth[t], near=near, far=far, opacity=opacity)
        case "normals":
            return colour_normals(_normals(film.depth[t], cameras[t]), opacity=opacity)
