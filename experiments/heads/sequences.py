"""Short videos of heads that no generator was trained on, in EG3D's folder format.

`python -m experiments.heads.sequences --folder experiments/demo` writes `demo_a` (mild speech) and
`demo_b` (strong expressions). Each holds `frame0000.png` ..., EG3D's `dataset.json`, and the true
`depth.npz` (key `depth`, float16 [T, S, S], 0 where empty) and `mask.npz` (key `mask`, uint8
[T, S, S], 255 times the opacity).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from eg3d_jax.cameras import Cameras, to_label, yaw_pitch_camera
from experiments.heads.anatomy import EXPRESSION, sample_latents
from experiments.heads.heads import HeadMaker
from experiments.heads.scene import Pictures, render

SEED_STREAM = 2_000_000  # no training shard or held-out file draws from it


@dataclass(frozen=True, kw_only=True)
class Args:
    """Write the demo sequences.

    Attributes:
      folder: gets one folder per sequence
      frames: frames a sequence
      side: pixels a side
    """

    folder: Path = Path("experiments/demo")
    frames: int = 60
    side: int = 128


def sweep(frames: int) -> Cameras:
    """[T] cameras: yaw from -75 to 75 degrees while the pitch sways by 8 degrees."""
    time = np.linspace(0, 1, frames, dtype=np.float32)
    return yaw_pitch_camera(
        np.radians(-75 + 150 * time), np.radians(8) * np.sin(2 * np.pi * time).astype(np.float32)
    )


def mild_speech(time: np.ndarray) -> np.ndarray:
    """[T, 8] expression latents at time in [0, 1]: talking, smiling a little, one blink."""
    jaw = 0.3 + 0.6 * np.sin(2 * np.pi * 5 * time) * np.sin(np.pi * time)
    smile = 0.6 - 0.5 * np.cos(2 * np.pi * time)
    lips = 0.4 * np.sin(2 * np.pi * 3 * time)
    return _stack(jaw, smile, lips, 1.9 * _pulse(time, 0.42), 0.3 * lips, gaze=0.4 * lips)


def strong_expressions(time: np.ndarray) -> np.ndarray:
    """[T, 8] expression latents at time in [0, 1]: a frown, surprise, then a broad smile."""
    surprise, laugh = _pulse(time, 0.45, 0.16), _pulse(time, 0.85, 0.22)
    frown = _pulse(time, 0.08, 0.18)
    return _stack(
        1.8 * surprise + 0.9 * laugh,
        2.0 * laugh - 1.5 * frown,
        1.2 * _pulse(time, 0.25, 0.08),
        1.9 * (_pulse(time, 0.2) + _pulse(time, 0.66)) - 1.2 * surprise,
        1.8 * surprise - 1.8 * frown,
        gaze=0.7 * np.sin(2 * np.pi * time),
    )


# Name: the head's seed, its expression over time.
SEQUENCES: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
    "demo_a": (1, mild_speech),
    "demo_b": (2, strong_expressions),
}


def main(args: Args) -> None:
    maker = HeadMaker.load()
    for name, (seed, expression) in SEQUENCES.items():
        z = latents(seed, expression(np.linspace(0, 1, args.frames)))
        cameras = sweep(args.frames)
        save(args.folder / name, film(maker, z, cameras, args.side), cameras)
        size = sum(f.stat().st_size for f in (args.folder / name).iterdir())
        print(f"{args.folder / name}: {args.frames} frames, {size / 1e6:.2f} MB")


def latents(seed: int, expression: np.ndarray) -> np.ndarray:
    """[T, 37]: one head's latent with its expression replaced by [T, 8]."""
    z = sample_latents(np.random.default_rng([seed, SEED_STREAM]), 1)
    z = np.repeat(z, len(expression), axis=0)
    z[:, EXPRESSION] = expression
    return z


def film(maker: HeadMaker, z: np.ndarray, cameras: Cameras, side: int) -> Pictures:
    """One picture of each latent [T, 37] from its own camera, four by four rays a pixel."""
    poses, lens = np.asarray(cameras.cam2world), np.asarray(cameras.intrinsics[0])
    frames = [
        render(maker.scene(latent), pose[None], lens, side, supersampling=4)
        for latent, pose in zip(z, poses, strict=True)
    ]
    return Pictures(
        image=np.concatenate([frame.image for frame in frames]),
        opacity=np.concatenate([frame.opacity for frame in frames]),
        depth=np.concatenate([frame.depth for frame in frames]),
    )


def save(folder: Path, pictures: Pictures, cameras: Cameras) -> None:
    """Write frames, labels, depth and mask."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.asarray(to_label(cameras), np.float64).tolist()
    names = [f"frame{i:04d}.png" for i in range(len(labels))]
    for name, image in zip(names, pictures.image, strict=True):
        Image.fromarray(image).save(folder / name, optimize=True)
    (folder / "dataset.json").write_text(
        json.dumps({"labels": [list(pair) for pair in zip(names, labels, strict=True)]})
    )
    np.savez_compressed(folder / "depth.npz", depth=pictures.depth)
    np.savez_compressed(folder / "mask.npz", mask=pictures.opacity)


def _pulse(time: np.ndarray, centre: float, width: float = 0.035) -> np.ndarray:
    return np.exp(-(((time - centre) / width) ** 2))


def _stack(jaw, smile, pucker, blink, brow, *, gaze) -> np.ndarray:
    still = np.zeros_like(jaw)
    return np.stack([jaw, smile, pucker, blink, brow, still, still, gaze], -1).astype(np.float32)


if __name__ == "__main__":
    main(tyro.cli(Args))
