"""Film short videos of heads that no generator was trained on, in EG3D's folder format.

`python -m experiments.heads.sequences --folder experiments/demo` writes the two shipped demos,
`--folder data/benchmark --set benchmark` six heads that each have something no training head has,
three of them with strong expressions. Beside `frame0000.png` ... and EG3D's `dataset.json` lie

| file | key | shape, type | meaning |
|---|---|---|---|
| depth.npz | depth | [T, S, S] float16 | true distance from the camera, 0 where empty |
| mask.npz | mask | [T, S, S] uint8 | 255 times the opacity |
| parameters.npz | z | [T, 37] float32 | true parameters: frames differ in expression alone |
| | part | [37] text | what each belongs to: identity, phenotype, expression, appearance |
| | name | [37] text | what it does there |
| | extra | [] text | what the head has that training heads have not; empty if nothing |

z is a latent as drawn with the expression put in its place: unlike those of training data it has
not mean square one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
from PIL import Image

from eg3d_jax.cameras import Cameras, yaw_pitch_camera
from eg3d_jax.errors import InputError
from eg3d_jax.folders import check_writable
from experiments import command
from experiments.command import check_limits
from experiments.heads.anatomy import EXPRESSION, PARAMETERS, PARTS, sample_latents
from experiments.heads.expressions import (
    grimaces,
    mild_attention,
    mild_speech,
    strong_expressions,
    strong_reversed,
)
from experiments.heads.extras import EXTRAS, Extra
from experiments.heads.heads import HeadMaker
from experiments.heads.scene import Pictures, render
from experiments.runs.output_folder import replacing
from inversion.frames.labels import write_labels

SEED_STREAM = 2_000_000  # no training shard or held-out file draws from it


@dataclass(frozen=True, kw_only=True)
class Args:
    """Write sequences of moving heads with their true depth, mask and parameters.

    Attributes:
      folder: gets one folder per sequence
      set: the two shipped demos, or the six heads of the benchmark
      frames: frames a sequence
      side: pixels a side
    """

    folder: Path
    set: Literal["demo", "benchmark"] = "demo"
    frames: int = 60
    side: int = 128


def sweep(frames: int, *, first_yaw: float = -75.0, pitch_phase: float = 0.0) -> Cameras:
    """Cameras [T]: yaw from `first_yaw` degrees to its negative, the pitch sways by 8 degrees."""
    turned = np.linspace(0, 1, frames, dtype=np.float32)
    sway = np.sin(2 * np.pi * (turned + pitch_phase)).astype(np.float32)
    return yaw_pitch_camera(np.radians(first_yaw - 2 * first_yaw * turned), np.radians(8) * sway)


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """Content and filming of a sequence.

    Attributes:
      seed: of the head's latent.
      expression: from time [T] in [0, 1] to expression latents [T, 8].
      extra: name of what it has that no training head has, one of `EXTRAS`; empty for nothing.
      first_yaw: degrees; the last frame's is its negative.
      pitch_phase: of the camera's sway, turns.
    """

    seed: int
    expression: Callable[[np.ndarray], np.ndarray]
    extra: str = ""
    first_yaw: float = -75.0
    pitch_phase: float = 0.0


SETS: dict[str, dict[str, Sequence]] = {
    "demo": {
        "demo_a": Sequence(seed=1, expression=mild_speech),
        "demo_b": Sequence(seed=2, expression=strong_expressions),
    },
    "benchmark": {
        "birthmark": Sequence(seed=42, expression=mild_speech, extra="birthmark"),
        "headband": Sequence(
            seed=22, expression=grimaces, extra="headband", first_yaw=75, pitch_phase=0.25
        ),
        "glasses": Sequence(seed=39, expression=mild_attention, extra="glasses", pitch_phase=0.5),
        "scar": Sequence(seed=40, expression=strong_reversed, extra="scar", pitch_phase=0.75),
        "beard": Sequence(seed=28, expression=strong_expressions, extra="beard", first_yaw=75),
        "tattoo": Sequence(
            seed=34, expression=mild_speech, extra="tattoo", first_yaw=75, pitch_phase=0.5
        ),
    },
}


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s.

    Raises:
      InputError: if nothing would be left of the pictures, or a longer sequence lies there.
    """
    check(args)
    maker = HeadMaker.load()
    for name, sequence in SETS[args.set].items():
        start = time.perf_counter()
        write(args.folder / name, maker, sequence, frames=args.frames, side=args.side)
        size = sum(f.stat().st_size for f in (args.folder / name).iterdir())
        seconds = time.perf_counter() - start
        print(f"{args.folder / name}: {args.frames} frames, {size / 1e6:.2f} MB, {seconds:.0f} s")


def check(args: Args) -> None:
    """Refuse to write no pictures, or a folder that would mix frames of two sequences.

    Raises:
      InputError: naming the option or the frame, and what to do.
    """
    check_limits(args, {"frames": (1, 10_000), "side": (1, 4_096)})
    check_writable(args.folder, option="--folder")
    for name in SETS[args.set]:
        refuse_other_frames(args.folder / name, args.frames)


def refuse_other_frames(folder: Path, frames: int) -> None:
    """Refuse a folder that holds frames other than the first `frames`.

    Raises:
      InputError: naming the frame, and what to do.
    """
    written = {frame_name(i) for i in range(frames)}
    for path in sorted(folder.glob("frame*.png")):
        if path.name not in written:
            raise InputError(
                f"{path} is none of the {frames} frames to be written; remove its folder or give "
                "another --folder"
            )


def write(folder: Path, maker: HeadMaker, sequence: Sequence, *, frames: int, side: int) -> None:
    """Film a sequence and write its folder."""
    z = latents(sequence.seed, sequence.expression(np.linspace(0, 1, frames)))
    cameras = sweep(frames, first_yaw=sequence.first_yaw, pitch_phase=sequence.pitch_phase)
    extra = EXTRAS[sequence.extra] if sequence.extra else None
    save(folder, film(maker, z, cameras, side, extra), cameras, z, sequence.extra)


def latents(seed: int, expression: np.ndarray) -> np.ndarray:
    """Latents [T, 37] of one head with its expression replaced by [T, 8]."""
    z = sample_latents(np.random.default_rng([seed, SEED_STREAM]), 1)
    z = np.repeat(z, len(expression), axis=0)
    z[:, EXPRESSION] = expression
    return z


def film(
    maker: HeadMaker, z: np.ndarray, cameras: Cameras, side: int, extra: Extra | None = None
) -> Pictures:
    """Render one picture of each latent [T, 37] from its own camera, 4 x 4 rays a pixel."""
    poses, lens = np.asarray(cameras.cam2world), np.asarray(cameras.intrinsics[0])
    frames = [
        render(maker.scene(latent, extra), pose[None], lens, side, supersampling=4)
        for latent, pose in zip(z, poses, strict=True)
    ]
    return Pictures(
        image=np.concatenate([frame.image for frame in frames]),
        opacity=np.concatenate([frame.opacity for frame in frames]),
        depth=np.concatenate([frame.depth for frame in frames]),
    )


def save(
    folder: Path, pictures: Pictures, cameras: Cameras, z: np.ndarray, extra: str = ""
) -> None:
    """Write frames, labels, depth, mask and true parameters z [T, 37]: all, or none."""
    names = [frame_name(i) for i in range(len(cameras))]
    with replacing(folder) as staging:
        for frame, image in zip(names, pictures.image, strict=True):
            Image.fromarray(image).save(staging / frame, optimize=True)
        write_labels(staging, names, cameras)
        np.savez_compressed(staging / "depth.npz", depth=pictures.depth)
        np.savez_compressed(staging / "mask.npz", mask=pictures.opacity)
        save_parameters(staging, z, extra)


def save_parameters(folder: Path, z: np.ndarray, extra: str) -> None:
    """Write the true parameters z [T, 37] with their names."""
    part, name = np.array(PARTS), np.array(PARAMETERS)
    np.savez_compressed(folder / "parameters.npz", z=z, part=part, name=name, extra=np.array(extra))


def frame_name(index: int) -> str:
    """File name of a frame, counted from 0."""
    return f"frame{index:04d}.png"


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.heads.sequences", prog=prog, cached=False)


if __name__ == "__main__":
    start()
