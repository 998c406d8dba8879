"""Exports of the viewer: a picture, a turntable video, a mesh."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
from jax import Array

from eg3d_jax.cameras import Cameras
from eg3d_jax.errors import InputError
from eg3d_jax.folders import check_writable
from experiments.media.films import pictures
from experiments.media.pictures import save_png
from experiments.media.video import write_mp4
from experiments.progress import Progress
from experiments.render import Shot, shoot
from experiments.runs.settings import versions
from experiments.subjects import Subjects
from experiments.view.head import Display
from inversion.files import write_json
from inversion.latents import Latents
from inversion.meshes import (
    FORMATS,
    check_libraries,
    colour_vertices,
    density_grid,
    field_of,
    iso_surface,
    write_mesh,
)
from inversion.units import metres_of_unit

# Raw density of the surface of a mesh, as `python -m experiments.mesh` has it.
_LEVEL = 10.0


class Exports:
    """Folder of numbered files, one made at a time, with view.json naming the generator."""

    def __init__(self, folder: Path, subjects: Subjects):
        """Prepare for exports; the folder is made with its first file."""
        self._folder, self._subjects = folder, subjects
        self._lock = threading.Lock()

    def picture(self, picture: np.ndarray) -> Path:
        """Write a uint8 [H, W, 3] picture as png."""
        with self._lock:
            return save_png(self._next("picture", ".png"), picture)

    def video(self, latents: Latents, cameras: Cameras, display: Display) -> Path:
        """Render K latents from cameras [T] and write the display as mp4.

        Raises:
          InputError: if that is the density.
        """
        if display == "density":
            raise InputError("a slice of density is no video; show colour, raw, depth or normals")
        with self._lock:
            path = self._next("video", ".mp4")
            subjects = dataclasses.replace(self._subjects, latents=(latents,))
            films, _ = shoot(subjects, Shot(cameras=cameras), Progress())
            return write_mp4(path, pictures(films, cameras, (display,)))

    def mesh(self, ws: Array, resolution: int) -> list[Path]:
        """Write the surface of a latent [L, D] as ply, obj and glb.

        Raises:
          InputError: if the libraries are missing, or there is no surface.
        """
        check_libraries()
        with self._lock:
            generator = self._subjects.generator
            query, box_side = field_of(generator, ws), generator.config.render.box_warp
            surface = iso_surface(density_grid(query, resolution, box_side), _LEVEL, box_side)
            colour_vertices(surface, query)
            first = self._next("mesh", f".{FORMATS[0]}")
            metres, paths = metres_of_unit(self._subjects.metadata), []
            for kind in FORMATS:
                path = first.with_suffix(f".{kind}")
                paths.append(write_mesh(path, surface, metres=metres))
            return paths

    def _next(self, stem: str, suffix: str) -> Path:
        """Path of the next file of a kind; makes the folder and writes its provenance."""
        check_writable(self._folder, option="--output")
        self._folder.mkdir(parents=True, exist_ok=True)
        content = {
            "generator": self._subjects.provenance,
            "head": self._subjects.names[0],
            "versions": versions(),
        }
        write_json(self._folder / "view.json", content)
        taken = [int(path.stem.rpartition("_")[2]) for path in self._numbered(stem, suffix)]
        return self._folder / f"{stem}_{max(taken, default=0) + 1:03d}{suffix}"

    def _numbered(self, stem: str, suffix: str) -> list[Path]:
        found = self._folder.glob(f"{stem}_*{suffix}")
        return [path for path in found if path.stem.removeprefix(f"{stem}_").isdecimal()]
