"""Measure the embedded generator on heads that were not in training, given their true latents.

`python -m experiments.heads.score --data data/heads/held_out.npz` prints the figures of the model
card, by yaw and on the whole, and writes contact sheets of the first heads and of the worst.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from eg3d_jax.cameras import Cameras, from_label
from eg3d_jax.folders import check_writable
from eg3d_jax.generator import Renders, TriPlaneGenerator
from experiments import command
from experiments.heads.network import load_head_generator
from experiments.heads.training_data import HELD_OUT, read_heads
from experiments.media.pictures import save_png, tiled, to_uint8
from experiments.subjects import EMBEDDED
from inversion import metrics
from inversion.evaluation import shrink_depth, shrink_mask
from inversion.features.lpips import load_lpips
from inversion.files import write_json

_SHEET_HEADS = 6
_KEYS = ("z", "yaw", "label", "image128", "opacity128", "depth128")


@dataclass(frozen=True, kw_only=True)
class Args:
    """Score a generator of synthetic heads.

    Attributes:
      data: the held-out file of `experiments.heads.dataset`
      generator: folder of the checkpoint
      out: folder for scores.json, sheet.png and worst.png
    """

    data: Path = Path("data/heads") / HELD_OUT
    generator: Path = EMBEDDED
    out: Path = Path("runs/heads_score")


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    check_writable(args.out, option="--out")
    data = read_heads(args.data, _KEYS)
    generator = load_head_generator(args.generator)
    lpips = load_lpips("alexnet")
    rows, shown = [], []
    for i in range(len(data["z"])):
        out = render_head(generator, data["z"][i], from_label(data["label"][i]))
        target = data["image128"][i].astype(np.float32) / 127.5 - 1
        rows.append(head_scores(lpips, out, target, data["opacity128"][i], data["depth128"][i]))
        shown.append(to_uint8(out.image))
    table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    by_error = np.argsort(table["psnr_foreground"].mean(axis=1))
    args.out.mkdir(parents=True, exist_ok=True)
    for name, chosen in (("sheet", range(len(rows))), ("worst", by_error)):
        pairs = [(data["image128"][i], shown[i]) for i in chosen[:_SHEET_HEADS]]
        save_png(args.out / f"{name}.png", paired_rows(pairs))
    yaws = np.degrees(data["yaw"][0]).round().astype(int)
    result = {
        "heads": len(rows),
        "mean": {name: float(np.nanmean(values)) for name, values in table.items()},
        "by_yaw": {
            str(yaw): {name: float(np.nanmean(values[:, k])) for name, values in table.items()}
            for k, yaw in enumerate(yaws)
        },
    }
    write_json(args.out / "scores.json", result)
    print(json.dumps(result["mean"], indent=2))


def held_out_sheet(generator: TriPlaneGenerator, heads: Mapping[str, np.ndarray]) -> np.ndarray:
    """Draw heads of a held-out file in all views: a row true, one row generated."""
    each = zip(heads["z"], heads["label"], heads["image128"], strict=True)
    return paired_rows(
        (image, to_uint8(render_head(generator, z, from_label(label)).image))
        for z, label, image in each
    )


def paired_rows(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Draw heads in pairs of rows, [V, S, S, 3] true above generated."""
    return tiled([row for pair in pairs for row in pair])


@jax.jit
def render_head(generator: TriPlaneGenerator, z: Array, cameras: Cameras) -> Renders:
    """Render the head of latent z [37] from V cameras."""
    return generator.synthesize_views(generator.map_to_ws(z), cameras, views_at_once=3)


def head_scores(lpips, out, target, opacity, depth) -> dict[str, np.ndarray]:
    """Scores of one head from V views: [V] each."""
    inside = opacity >= 128
    mask, small_mask = jnp.asarray(inside), shrink_mask(inside, out.opacity.shape[1])
    image, target = jnp.asarray(out.image), jnp.asarray(target)
    true_depth = shrink_depth(depth.astype(np.float32), out.depth.shape[1])
    assert true_depth is not None
    assert small_mask is not None
    error = jnp.where(true_depth > 0, jnp.abs(out.depth - true_depth), jnp.nan)
    scores = {
        "psnr": jax.vmap(metrics.psnr)(image, target),
        "psnr_foreground": jax.vmap(metrics.psnr)(image, target, mask),
        "lpips": jax.vmap(partial(metrics.lpips, lpips))(image, target),
        "iou": jax.vmap(metrics.mask_iou)(out.opacity, jnp.asarray(small_mask)),
        "depth_error": jnp.nanmean(error, axis=(1, 2)),
    }
    return {name: np.asarray(value) for name, value in scores.items()}


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.heads.score", prog=prog)


if __name__ == "__main__":
    start()
