"""Contact sheets: a row per head, a column per yaw.

`python -m experiments.heads.contact_sheet sheet.png`
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import tyro

from eg3d_jax.cameras import yaw_pitch_camera
from eg3d_jax.errors import InputError
from eg3d_jax.folders import check_file_writable
from experiments import command
from experiments.command import MAX_SEED, check_limits
from experiments.heads.anatomy import sample_latents
from experiments.heads.heads import HeadMaker
from experiments.heads.scene import render
from experiments.media.pictures import save_png, tiled


@dataclass(frozen=True, kw_only=True)
class Args:
    """Draw heads from the latent distribution.

    Attributes:
      path: the PNG to write.
      heads: number of rows.
      yaws: number of columns, from -75 to 75 degrees.
      side: pixels a side of each picture.
      seed: seeds the latents.
    """

    path: tyro.conf.Positional[Path]
    heads: int = 8
    yaws: int = 7
    side: int = 128
    seed: int = 1


def contact_sheet(maker: HeadMaker, latents: np.ndarray, yaws: np.ndarray, side: int) -> np.ndarray:
    """Draw a sheet [heads * side, yaws * side, 3] uint8; yaws in radians."""
    cameras = yaw_pitch_camera(yaws, np.zeros_like(yaws))
    pose, lens = np.asarray(cameras.cam2world), np.asarray(cameras.intrinsics[0])
    rows = [render(maker.scene(z), pose, lens, side).image for z in latents]
    return tiled(rows)


_LIMITS = {"heads": (1, 1_000), "yaws": (1, 1_000), "side": (1, 4_096), "seed": (0, MAX_SEED)}


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    check_limits(args, _LIMITS)
    if args.path.suffix.lower() != ".png":
        raise InputError(f"{args.path} is no name of a PNG file; give one that ends in .png")
    check_file_writable(args.path, option="path")
    latents = sample_latents(np.random.default_rng(args.seed), args.heads)
    yaws = np.radians(np.linspace(-75, 75, args.yaws, dtype=np.float32))
    sheet = contact_sheet(HeadMaker.load(), latents, yaws, args.side)
    args.path.parent.mkdir(parents=True, exist_ok=True)
    save_png(args.path, sheet)
    print(f"{args.heads} heads x {args.yaws} yaws in {args.path}")


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.heads.contact_sheet", prog=prog, cached=False)


if __name__ == "__main__":
    start()
