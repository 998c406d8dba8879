"""Contact sheets: a row per head, a column per yaw.

`python -m experiments.heads.contact_sheet sheet.png`
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from eg3d_jax.cameras import yaw_pitch_camera
from experiments.heads.anatomy import sample_latents
from experiments.heads.heads import HeadMaker
from experiments.heads.scene import render
from experiments.pictures import tiled


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
    """[heads * side, yaws * side, 3] uint8; yaws in radians."""
    cameras = yaw_pitch_camera(yaws, np.zeros_like(yaws))
    pose, lens = np.asarray(cameras.cam2world), np.asarray(cameras.intrinsics[0])
    rows = [render(maker.scene(z), pose, lens, side).image for z in latents]
    return tiled(rows)


def main(args: Args) -> None:
    latents = sample_latents(np.random.default_rng(args.seed), args.heads)
    yaws = np.radians(np.linspace(-75, 75, args.yaws, dtype=np.float32))
    sheet = contact_sheet(HeadMaker.load(), latents, yaws, args.side)
    args.path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(args.path)
    print(f"{args.heads} heads x {args.yaws} yaws in {args.path}")


if __name__ == "__main__":
    main(tyro.cli(Args))
