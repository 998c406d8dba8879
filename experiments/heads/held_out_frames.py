"""Write heads of the held-out file as folders of frames, in EG3D's format, to be inverted.

`python -m experiments.heads.held_out_frames --folder data/held_out` writes `head000`, `head001`,
... with nine views each and what `experiments.heads.sequences` puts beside its frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from eg3d_jax.cameras import from_label
from eg3d_jax.errors import InputError
from eg3d_jax.folders import check_writable
from experiments import command
from experiments.heads.scene import Pictures
from experiments.heads.sequences import refuse_other_frames, save
from experiments.heads.training_data import HELD_OUT, read_heads

_KEYS = ("z", "label", "image128", "opacity128", "depth128")


@dataclass(frozen=True, kw_only=True)
class Args:
    """Write heads that no generator was trained on as folders of frames.

    Attributes:
      folder: gets one folder a head
      data: the held-out file of `experiments.heads.dataset`
      heads: how many, the file's first
    """

    folder: Path
    data: Path = Path("data/heads") / HELD_OUT
    heads: int = 8


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s.

    Raises:
      InputError: if the file is not there or has fewer heads, or a folder has other frames.
    """
    data = read_heads(args.data, _KEYS)
    there = len(data["z"])
    if not 1 <= args.heads <= there:
        raise InputError(f"--heads is {args.heads}; {args.data} has {there}: give 1 to {there}")
    folders = [args.folder / f"head{i:03d}" for i in range(args.heads)]
    views = data["image128"].shape[1]
    check_writable(args.folder, option="--folder")
    for folder in folders:
        refuse_other_frames(folder, views)
    for i, folder in enumerate(folders):
        pictures = Pictures(
            image=data["image128"][i], opacity=data["opacity128"][i], depth=data["depth128"][i]
        )
        z = np.repeat(data["z"][i : i + 1], views, axis=0)
        save(folder, pictures, from_label(data["label"][i]), z)
    print(f"{args.folder}: {args.heads} heads of {views} frames")


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.heads.held_out_frames", prog=prog, cached=False)


if __name__ == "__main__":
    start()
