"""Edit a head along directions of W, the same from every side (GANSpace).

`python -m experiments.edit` shows the first principal directions of the generator behind runs/demo,
each as a strip: one row a strength, one column a yaw. `python -m experiments.edit runs/video
--which 3 --strengths 2 --save` also keeps the edited head, as a run that the other commands read.
`--directions directions.npz --which smile jaw` takes directions that were fitted to parameters of
synthetic heads by `python -m experiments.heads.directions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from eg3d_jax.cameras import Cameras, from_label, yaw_pitch_camera
from eg3d_jax.errors import InputError
from experiments import command
from experiments.media.pictures import grid, save_png, to_uint8
from experiments.progress import Progress
from experiments.runs.output_folder import OutputFolder
from experiments.runs.settings import versions
from experiments.subjects import HeadArgs, Subjects
from inversion.direction_files import (
    generator_directions,
    label_of,
    load_directions,
    number_of,
    save_directions,
)
from inversion.editing import Directions, shift
from inversion.files import write_json
from inversion.latents import Latents
from inversion.result import Inversion, render_views
from inversion.wording import degrees

_MARK = "edit.json"
_FILES = ("direction_*.png", "directions.npz", "result/latents.npz", "result/generator")


@dataclass(frozen=True, kw_only=True)
class Args(HeadArgs):
    """Edit a run's head, or a head of a generator.

    Attributes:
      truncation: of the generator's head; 1 as sampled, 0 the mean head
      directions: directions.npz of an earlier call or of `python -m experiments.heads.directions`,
        or others' npy, npz or .pt: of W [n, D], of W+ [n, L, D], an offset for each of L layers;
        the generator's principal ones if not given
      which: numbers of the directions, 0 is the widest, or their names if the file has names
      strengths: how far to go, in standard deviations of mapped latents along the direction, for
        named ones in those of the parameter, or in units of W for an array alone
      layers: which latents of W+ move; all if not given
      yaws: columns of the strips, degrees
      samples: of W, to find principal directions
      save: also keep the edited head; needs one direction and one strength
      output: folder for the strips and edit.json; RUN/edit if not given
      overwrite: replace earlier files there
    """

    truncation: float = 0.7
    directions: Path | None = None
    which: tuple[int | str, ...] = (0, 1, 2, 3)
    strengths: tuple[float, ...] = (-2.0, -1.0, 0.0, 1.0, 2.0)
    layers: tuple[int, ...] | None = None
    yaws: tuple[float, ...] = (-60.0, -30.0, 0.0, 30.0, 60.0)
    samples: int = 1_000_000
    save: bool = False
    output: Path | None = None
    overwrite: bool = False


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    check(args)
    progress = Progress()
    with progress.task("reading"):
        subjects = args.head(args.truncation)
        check_layers(args, subjects)
    folder = subjects.home / "edit" if args.output is None else args.output
    output = OutputFolder(folder, _MARK, _FILES, overwrite=args.overwrite)
    if args.directions is None:
        with progress.task("principal directions"):
            config = subjects.generator.config
            directions = generator_directions(subjects.generator, config.w_dim, args.samples)
    else:
        directions = load_directions(
            args.directions, subjects.generator, subjects.metadata, progress.say
        )
    numbers = [number_of(directions, which) for which in args.which]
    with output.writing() as staging:
        save_directions(staging / "directions.npz", directions, subjects.metadata)
        with progress.stage("directions", len(numbers)) as stage:
            for done, number in enumerate(numbers):
                picture = strip(subjects, directions, number, args)
                save_png(staging / f"direction_{label_of(directions, number)}.png", picture)
                stage.update(done + 1)
        if args.save:
            latents = edited(subjects.latents[0], directions, numbers[0], args.strengths[0], args)
            (staging / "result").mkdir()
            head = Inversion(
                generator=subjects.generator,
                latents=latents,
                cameras=from_label(subjects.labels),
                metadata=subjects.metadata,
            )
            head.save(staging / "result")
        write_numbers(staging / _MARK, args, subjects, directions)
    progress.say(f"{folder}: strips of {len(numbers)} direction{'s' * (len(numbers) > 1)}")


def check(args: Args) -> None:
    """Refuse settings that cannot be rendered or saved."""
    numbers = (*args.strengths, *args.yaws)
    problems: list[tuple[bool, str]] = [
        (not args.which or not args.strengths or not args.yaws,
         "--which, --strengths and --yaws need one number each at least"),
        (any(isinstance(which, int) and which < 0 for which in args.which),
         f"--which {args.which} counts directions from 0"),
        (not np.all(np.isfinite(numbers)), "--strengths and --yaws must be finite numbers"),
        (args.samples < 2, f"--samples {args.samples} must be 2 or more, usually a million"),
        (args.save and (len(args.which) > 1 or len(args.strengths) > 1),
         "--save keeps one edited head; give one direction by --which and one of --strengths"),
    ]  # fmt: skip
    for wrong, message in problems:
        if wrong:
            raise InputError(message)


def check_layers(args: Args, subjects: Subjects) -> None:
    """Refuse layers that the generator does not have."""
    count = subjects.generator.config.num_ws
    if any(not 0 <= layer < count for layer in args.layers or ()):
        raise InputError(f"--layers {args.layers}: this generator has layers 0 to {count - 1}")


def edited(
    latents: Latents, directions: Directions, number: int, strength: float, args: Args
) -> Latents:
    """Move latents along a direction by so many times its strength 1."""
    return shift(latents, strength * directions.steps[number], args.layers)


def strip(subjects: Subjects, directions: Directions, number: int, args: Args) -> np.ndarray:
    """Render a strip, uint8 [H, W, 3]: one row a strength, one column a yaw."""
    cameras = strip_cameras(subjects, args)
    rows = []
    for strength in args.strengths:
        latents = edited(subjects.latents[0], directions, number, strength, args)
        rows.append(list(to_uint8(render_views(subjects.generator, latents, cameras).image)))
    return grid(
        rows,
        columns=[degrees(yaw) for yaw in args.yaws],
        labels=[f"{strength:+g}" for strength in args.strengths],
    )


def strip_cameras(subjects: Subjects, args: Args) -> Cameras:
    """Cameras of the columns, level with the head."""
    config = subjects.generator.config
    return yaw_pitch_camera(
        np.radians(args.yaws), 0.0, radius=config.camera_radius, focal=config.focal
    )


def write_numbers(path: Path, args: Args, subjects: Subjects, directions: Directions) -> None:
    """Write edit.json: settings, source and licence of the generator, and widths."""
    content = {
        "settings": args,
        "generator": subjects.provenance,
        "head": subjects.names[0],
        "standard_deviations": {
            str(which): directions.std[number_of(directions, which)] for which in args.which
        },
        "versions": versions(),
    }
    write_json(path, content)


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.edit", prog=prog)


if __name__ == "__main__":
    start()
