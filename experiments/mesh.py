"""Make a mesh of a head: a closed, coloured surface as PLY, OBJ and GLB, and its density as MRC.

`python -m experiments.mesh` meshes what `python -m experiments.invert` found in runs/demo,
`python -m experiments.mesh --generator embedded --seed 3` a head that no run is needed for. y is up
and the face looks towards +z. Lengths are world units, in GLB metres. Needs
`pip install -e '.[mesh]'`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from eg3d_jax.cameras import yaw_azimuth
from eg3d_jax.errors import InputError
from experiments import command
from experiments.command import check_limits
from experiments.progress import Progress
from experiments.runs.output_folder import OutputFolder
from experiments.runs.settings import versions
from experiments.subjects import HeadArgs, Subjects
from inversion.files import write_json
from inversion.latents import latents_at
from inversion.meshes import (
    FORMATS,
    check_libraries,
    colour_vertices,
    density_grid,
    field_of,
    iso_surface,
    with_fewer_faces,
    write_mesh,
    write_mrc,
)
from inversion.units import metres_of_unit

_MARK, _FILES = "mesh.json", (*(f"mesh.{kind}" for kind in FORMATS), "density.mrc")
_RESOLUTIONS = range(8, 513)
_LIMITS = {"faces": (100, 10_000_000), "metres": (1e-6, 1e6)}


@dataclass(frozen=True, kw_only=True)
class Args(HeadArgs):
    """Make a mesh of a run's head, or of a head of a generator.

    Attributes:
      truncation: of the generator's head; 1 as sampled, 0 the mean head
      yaw: of a run with a latent for each view: that of this yaw, degrees, 0 frontal
      resolution: samples along each side of the generator's box, 8 to 512
      level: raw density of the surface; light is lost at softplus(level - 1) a world unit
      faces: most triangles of the surface, which stays closed; as many as the resolution makes if
        not given
      metres: length of a world unit in glb. The size of an average head in a picture like the
        generator's, if not given: 0.571 for the embedded one, and 0.419 else
      formats: files to write
      output: folder for them; RUN/mesh if not given
      overwrite: replace earlier files there
    """

    truncation: float = 0.7
    yaw: float = 0.0
    resolution: int = 256
    level: float = 10.0
    faces: int | None = None
    metres: float | None = None
    formats: tuple[Literal["ply", "obj", "glb", "mrc"], ...] = ("ply", "obj", "glb", "mrc")
    output: Path | None = None
    overwrite: bool = False


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    check(args)
    progress = Progress()
    with progress.task("reading"):
        subjects = args.head(args.truncation)
    folder = subjects.home / "mesh" if args.output is None else args.output
    output = OutputFolder(folder, _MARK, _FILES, overwrite=args.overwrite)
    ws = latents_at(subjects.latents[0], yaw_azimuth(math.radians(args.yaw)))
    box_side = subjects.generator.config.render.box_warp
    query = field_of(subjects.generator, ws)
    with progress.stage("density", args.resolution**3) as stage:
        volume = density_grid(query, args.resolution, box_side, tell=stage.update)
    with progress.task("surface"):
        mesh = iso_surface(volume, args.level, box_side)
        colour_vertices(mesh, query)
        mesh = mesh if args.faces is None else with_fewer_faces(mesh, args.faces)
    metres = args.metres or metres_of_unit(subjects.metadata)
    with progress.task("files"), output.writing() as staging:
        for kind in args.formats:
            if kind == "mrc":
                write_mrc(staging / "density.mrc", volume, box_side)
            else:
                write_mesh(staging / f"mesh.{kind}", mesh, metres=metres)
        write_numbers(staging / _MARK, args, subjects, mesh, metres)
    progress.say(
        f"{folder}: {', '.join(args.formats)}; {len(mesh.faces)} triangles, "
        f"{'closed' if mesh.is_watertight else 'not closed'}, {metres * mesh.extents[1]:.2f} m high"
    )


def check(args: Args) -> None:
    """Refuse settings without a possible mesh."""
    check_libraries()
    check_limits(args, _LIMITS)
    if args.resolution not in _RESOLUTIONS:
        raise InputError(f"--resolution {args.resolution} must be from 8 to 512")
    if not math.isfinite(args.yaw):
        raise InputError(f"--yaw {args.yaw} must be a number of degrees")
    if not math.isfinite(args.level):
        raise InputError(f"--level {args.level} must be a number, about 10")
    if not args.formats:
        raise InputError("--formats is empty; name ply, obj, glb or mrc")


def write_numbers(path: Path, args: Args, subjects: Subjects, mesh: Any, metres: float) -> None:
    """Write mesh.json: settings, source and licence of the generator, and the mesh's measures.

    Lengths are world units, of `metres_of_world_unit` metres each.
    """
    content = {
        "settings": args,
        "generator": subjects.provenance,
        "head": subjects.names[0],
        "vertices": len(mesh.vertices),
        "triangles": len(mesh.faces),
        "watertight": bool(mesh.is_watertight),
        "metres_of_world_unit": metres,
        "bounds": mesh.bounds,
        "volume": float(mesh.volume),
        "area": float(mesh.area),
        "versions": versions(),
    }
    write_json(path, content)


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.mesh", prog=prog)


if __name__ == "__main__":
    start()
