"""Data set of synthetic heads, with latents and cameras, for training a generator.

`python -m experiments.heads.dataset --folder data/heads` writes `held_out.npz`, then
`train_0000.npz`, `train_0001.npz`, ... A shard is complete once it has its name, so a reader may
start before the writer is done; a second run skips shards that exist. Keys of a shard with n
heads, V views a head and the first W of them also at 128 pixels:

| key | shape, type | meaning |
|---|---|---|
| z | [n, 37] float32 | latents, mean square one |
| yaw, pitch | [n, V] float32 | radians, as `yaw_pitch_camera` takes them |
| label | [n, V, 25] float32 | EG3D's camera label |
| image64 | [n, V, 64, 64, 3] uint8 | sRGB on white; 255 is +1 |
| opacity64 | [n, V, 64, 64] uint8 | share of sub-rays that hit, times 255 |
| depth64 | [n, V, 64, 64] float16 | distance along the ray through the pixel centre, 0 if empty |
| image128, opacity128, depth128 | [n, W, 128, 128, ...] | the same for views 0 .. W - 1 |
"""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

import numpy as np

from eg3d_jax.cameras import to_label, yaw_pitch_camera
from eg3d_jax.errors import InputError
from eg3d_jax.folders import check_writable
from experiments import command
from experiments.command import MAX_SEED, check_limits
from experiments.heads.anatomy import sample_latents
from experiments.heads.heads import HeadMaker
from experiments.heads.scene import Scene, render, render_depth, shrink
from experiments.heads.training_data import HELD_OUT
from inversion.files import save_arrays

MAX_YAW, MAX_PITCH = np.radians(85.0), np.radians(25.0)
HELD_OUT_YAWS = np.radians(np.linspace(-75.0, 75.0, 9))
HELD_OUT_STREAM = 1_000_000  # keeps the held-out draws apart from those of any shard


@dataclass(frozen=True, kw_only=True)
class Args:
    """Write the data set, or go on writing it.

    Attributes:
      folder: where the shards go
      shards: number of training shards
      heads: heads a shard
      views: cameras a head
      large_views: how many of them are kept at 128 pixels, too
      held_out: heads of the held-out file, each from nine yaws at pitch 0; 0 for no such file
      seed: seeds latents and cameras, together with the shard's index
      workers: processes; as many as there are cores by default
    """

    folder: Path = Path("data/heads")
    shards: int = 100
    heads: int = 100
    views: int = 10
    large_views: int = 2
    held_out: int = 48
    seed: int = 0
    workers: int | None = None


_LIMITS = {
    "shards": (0, 10_000),  # as many have a name
    "heads": (1, 10_000),
    "views": (1, 1_000),
    "large_views": (0, 1_000),
    "held_out": (0, 10_000),
    "seed": (0, MAX_SEED),
    "workers": (1, 1_000),
}


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    check_limits(args, _LIMITS)
    if args.large_views > args.views:
        raise InputError(f"--large-views {args.large_views} are more than --views {args.views}")
    check_writable(args.folder, option="--folder")
    _maker()  # one process writes the cache of the basis, where there is none
    args.folder.mkdir(parents=True, exist_ok=True)
    wanted: list[int | None] = [None] if args.held_out else []
    wanted += range(args.shards)
    missing = [shard for shard in wanted if not (args.folder / file_name(shard)).exists()]
    # A worker's BLAS threads would only wait for each other: products here are small.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.workers or os.cpu_count(), mp_context=context) as pool:
        for future in as_completed([pool.submit(write, args, shard) for shard in missing]):
            print(f"{time.strftime('%H:%M:%S')} {future.result()}", flush=True)


def write(args: Args, shard: int | None) -> str:
    """Make a training shard, or for None the held-out file -> a line about it."""
    start = time.perf_counter()
    if shard is None:
        draws, large_views = held_out_draws(args.seed, args.held_out), len(HELD_OUT_YAWS)
    else:
        draws = training_draws(args.seed, shard, heads=args.heads, views=args.views)
        large_views = args.large_views
    arrays = render_shard(_maker(), *draws, large_views=large_views)
    save_arrays(args.folder / file_name(shard), arrays)
    return f"{file_name(shard)}: {(time.perf_counter() - start) / len(draws[0]):.3f} s a head"


def file_name(shard: int | None) -> str:
    """File name of a training shard, or for None of the held-out heads."""
    return HELD_OUT if shard is None else f"train_{shard:04d}.npz"


@cache
def _maker() -> HeadMaker:
    return HeadMaker.load()


def training_draws(seed: int, shard: int, *, heads: int, views: int):
    """Draw latents [n, 37], yaws [n, V] and pitches [n, V] of a training shard."""
    rng = np.random.default_rng([seed, shard])
    z = sample_latents(rng, heads)
    yaw = rng.uniform(-MAX_YAW, MAX_YAW, (heads, views)).astype(np.float32)
    pitch = rng.uniform(-MAX_PITCH, MAX_PITCH, (heads, views)).astype(np.float32)
    return z, yaw, pitch


def held_out_draws(seed: int, heads: int):
    """Draw latents [n, 37], yaws [n, 9] and pitches [n, 9] of the held-out file."""
    z = sample_latents(np.random.default_rng([seed, HELD_OUT_STREAM]), heads)
    yaw = np.broadcast_to(HELD_OUT_YAWS.astype(np.float32), (heads, len(HELD_OUT_YAWS)))
    return z, yaw, np.zeros_like(yaw)


def render_shard(maker: HeadMaker, z, yaw, pitch, *, large_views: int) -> dict[str, np.ndarray]:
    """Render the arrays of a shard."""
    cameras = yaw_pitch_camera(yaw, pitch)
    poses, lens = np.asarray(cameras.cam2world), np.asarray(cameras.intrinsics[0, 0])
    heads = [
        render_head(maker.scene(latent), pose, lens, large_views)
        for latent, pose in zip(z, poses, strict=True)
    ]
    pictures = {key: np.stack([head[key] for head in heads]) for key in heads[0]}
    label = np.asarray(to_label(cameras))
    return {"z": z, "yaw": np.array(yaw), "pitch": np.array(pitch), "label": label, **pictures}


def render_head(scene: Scene, poses, lens, large_views: int) -> dict[str, np.ndarray]:
    """Render one head: the first `large_views` at 128 pixels, all of them at 64."""
    large = render(scene, poses[:large_views], lens, 128)
    small = [(shrink(large.image, 2), shrink(large.opacity, 2),
              render_depth(scene, poses[:large_views], lens, 64))]  # fmt: skip
    if large_views < len(poses):
        rest = render(scene, poses[large_views:], lens, 64)
        small.append((rest.image, rest.opacity, rest.depth))
    image, opacity, depth = (np.concatenate(parts) for parts in zip(*small, strict=True))
    return {
        "image64": image,
        "opacity64": opacity,
        "depth64": depth,
        "image128": large.image,
        "opacity128": large.opacity,
        "depth128": large.depth,
    }


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.heads.dataset", prog=prog, cached=False)


if __name__ == "__main__":
    start()
