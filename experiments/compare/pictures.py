"""Pictures of a comparison: unseen frames, and a slow turn, a column or row for each method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eg3d_jax.cameras import Cameras, yaw_pitch_camera
from eg3d_jax.config import GeneratorConfig
from experiments.media.pictures import grid, save_png, to_uint8
from inversion.frames.folder import Frames, read_images
from inversion.result import load, render_views
from inversion.wording import degrees

_ROWS = 5
_STRIP_YAWS = np.linspace(-30.0, 30.0, 9)


@dataclass(frozen=True, kw_only=True)
class ShownHead:
    """A head with its run by each method.

    Attributes:
      frames: of the head.
      runs: run folders, one a method.
      unseen: [T] frames that no method was fitted to.
    """

    frames: Frames
    runs: Sequence[Path]
    unseen: np.ndarray


def write_pictures(folder: Path, methods: Sequence[str], heads: Sequence[ShownHead]) -> None:
    """Write views.png, frames beside the methods, and strips.png, between the views.

    Args:
      folder: for both.
      methods: headings.
      heads: the rows, a few of each head.
    """
    rows, labels, strips, strip_labels = [], [], [], []
    for head in heads:
        name, frames, chosen = head.frames.folder.resolve().name, head.frames, _chosen(head.unseen)
        columns = [to_uint8(read_images(frames, chosen))]
        for method, run in zip(methods, head.runs, strict=True):
            result = load(run / "result")
            generator, latents = result.generator, result.latents
            paths = (frames.cameras[chosen], _slow_turn(generator.config))
            views, strip = (
                to_uint8(render_views(generator, latents, path).image) for path in paths
            )
            columns.append(views)
            strips.append(list(strip))
            strip_labels.append(f"{name}, {method}")
        rows += [list(row) for row in zip(*columns, strict=True)]
        labels += [f"{name} {degrees(float(frames.yaw_degrees[i]))}" for i in chosen]
    save_png(folder / "views.png", grid(rows, columns=["target", *methods], labels=labels))
    angles = [f"{yaw:+.1f}°" for yaw in _STRIP_YAWS]
    save_png(folder / "strips.png", grid(strips, columns=angles, labels=strip_labels))


def _chosen(unseen: np.ndarray) -> np.ndarray:
    """A few frames, evenly, that no method was fitted to; of all if there are no others."""
    candidates = np.flatnonzero(unseen) if unseen.any() else np.arange(len(unseen))
    spread = np.linspace(0, len(candidates) - 1, min(_ROWS, len(candidates)))
    return candidates[spread.round().astype(int)]


def _slow_turn(config: GeneratorConfig) -> Cameras:
    return yaw_pitch_camera(
        np.radians(_STRIP_YAWS), 0.0, radius=config.camera_radius, focal=config.focal
    )
