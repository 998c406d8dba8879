"""Copy frames with camera labels that are a little wrong, as estimated ones are.

`python -m experiments.disturb experiments/demo/demo_a --output runs/disturbed` turns each camera
about the head and shifts it, by random amounts; `experiments.refine_cameras` undoes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import jax.numpy as jnp
import numpy as np
import tyro

from eg3d_jax.cameras import Cameras
from eg3d_jax.errors import InputError
from experiments import command
from experiments.command import check_seed
from experiments.refined_folder import check_copy, copy_frames
from inversion.camera_refinement.motion import CameraMotion, CameraPrior, transform
from inversion.files import write_json
from inversion.frames.folder import read_frames

MARK = "disturbance.json"


@dataclass(frozen=True, kw_only=True)
class Args:
    """Copy frames and disturb their labels.

    Attributes:
      frames: folder of frames with EG3D's dataset.json
      output: new folder
      degrees: largest turn of a camera about the head
      percent: largest shift of a camera, of its distance
      crop: take the central square of frames that are not square
      seed: of the draws
      overwrite: replace an earlier call's folder
    """

    frames: tyro.conf.Positional[Path]
    output: Path
    degrees: float = 3.0
    percent: float = 3.0
    crop: bool = False
    seed: int = 0
    overwrite: bool = False


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    for name, most in (("degrees", 180.0), ("percent", 50.0)):
        if not 0 <= getattr(args, name) <= most:
            raise InputError(f"--{name} {getattr(args, name)} must be from 0 to {most:.0f}")
    check_seed(args.seed)
    frames = read_frames(args.frames, image_side=64, crop=args.crop)
    output = check_copy(frames, args.output, MARK, overwrite=args.overwrite)
    cameras = disturbed(frames.cameras, args.degrees, args.percent, args.seed)
    with output.writing() as staging:
        copy_frames(frames, staging, cameras)
        write_json(staging / MARK, {"settings": args})
    print(f"{args.output}: {len(frames)} frames, labels off by up to {args.degrees:g} degrees and "
          f"{args.percent:g} % of the distance")  # fmt: skip


def disturbed(cameras: Cameras, degrees: float, percent: float, seed: int) -> Cameras:
    """Turn cameras [T] about the origin and shift them, amounts uniform up to the given ones."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(2, len(cameras), 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    amounts = rng.uniform(size=(2, len(cameras), 1))
    largest = CameraPrior(rotation=float(np.radians(degrees)), translation=percent / 100)
    rigid = jnp.asarray(np.concatenate([*(directions * amounts)], axis=-1), jnp.float32)
    return transform(cameras, CameraMotion(rigid=rigid, focal=jnp.zeros(())), largest)


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.disturb", prog=prog, cached=False)


if __name__ == "__main__":
    start()
