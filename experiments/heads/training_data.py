"""Batches of random rays and whole pictures from the shards of `experiments.heads.dataset`."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage

from eg3d_jax.errors import InputError

HELD_OUT = "held_out.npz"  # heads that are not trained on, beside the shards
_KEYS = ("z", "label", "image64", "opacity64", "depth64", "image128", "opacity128")
# The face, world units: rays that hit near it are drawn more often, since faces appear last, and so
# are those beside an outline, where most of the error lies.
_FACE_CENTRE, _FACE_RADIUS = np.array([0.0, 0.0, 0.16], np.float32), 0.13
_OUTLINE_PIXELS = 3


@dataclass
class Shards:
    """Training heads in memory; `refresh` adds shards finished since.

    Attributes:
      folder: of the shards.
      loaded: names of the files read.
      arrays: per key one array a shard.
    """

    folder: Path
    loaded: list[str] = field(default_factory=list)
    arrays: list[dict[str, np.ndarray]] = field(default_factory=list)

    def refresh(self, limit: int | None = None) -> int:
        """Read new shards, in order, at most `limit` in all -> number of heads."""
        for path in sorted(self.folder.glob("train_*.npz"))[:limit]:
            if path.name not in self.loaded:
                shard = read_heads(path, _KEYS)
                shard["chance"], shard["importance"] = pixel_chances(shard)
                self.arrays.append(shard)
                self.loaded.append(path.name)
        if not self.arrays:
            raise InputError(
                f"{self.folder}: no train_*.npz; make some with "
                f"`python -m experiments.heads.dataset --folder {self.folder}`"
            )
        return sum(len(shard["z"]) for shard in self.arrays)


def read_heads(path: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """Read arrays of a held-out file, or of a shard.

    Raises:
      InputError: if it is missing, or has not all of them.
    """
    made_by = "`python -m experiments.heads.dataset` writes such files"
    if not path.exists():
        raise InputError(f"{path} is not there; {made_by}")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {key: file[key] for key in keys}
    except (ValueError, KeyError, EOFError, AttributeError, TypeError, zipfile.BadZipFile):
        raise InputError(f"{path} holds no heads ({', '.join(keys)}); {made_by}") from None


def pixel_chances(shard: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Probability of drawing each pixel relative to an empty one, and its weight in the loss.

    A pixel that is drawn more often than its weight must be weighed down by as much: otherwise the
    generator prefers heads that are too large to heads that are too small.

    Returns:
      chance, importance: [n, V, 64 * 64] uint8 each.
    """
    heads, views, side = shard["depth64"].shape[:3]
    depth = shard["depth64"].astype(np.float32)
    labels = shard["label"].reshape(heads, views, 25)
    lens = labels[0, 0, 16:].reshape(3, 3)  # all cameras of a data set have the same
    centres = (np.arange(side, dtype=np.float32) + 0.5) / side
    v, u = (x.reshape(-1) for x in np.meshgrid(centres, centres, indexing="ij"))
    local = np.stack([(u - 0.5) / lens[0, 0], (v - 0.5) / lens[1, 1], np.ones_like(u)])
    local /= np.linalg.norm(local, axis=0)
    cam2world = labels[..., :16].reshape(heads, views, 4, 4)
    points = cam2world[..., :3, :3] @ local * depth.reshape(heads, views, 1, -1)
    offset = cam2world[..., :3, 3] - _FACE_CENTRE
    distance = np.linalg.norm(points + offset[..., None], axis=2)
    hit = (depth > 0).reshape(heads, views, -1).astype(np.uint8)
    face = hit * (distance < _FACE_RADIUS)
    outline = _near_outline(depth > 0).reshape(hit.shape).astype(np.uint8)
    return 1 + hit + 3 * face + 4 * outline, 2 + hit + 2 * face


def _near_outline(masks: np.ndarray) -> np.ndarray:
    """Mask [n, V, H, W] of pixels within `_OUTLINE_PIXELS` of a silhouette's border."""
    cross = ndimage.generate_binary_structure(2, 1)[None, None]
    grown = ndimage.binary_dilation(masks, cross, iterations=_OUTLINE_PIXELS)
    shrunk = ndimage.binary_erosion(masks, cross, iterations=_OUTLINE_PIXELS, border_value=1)
    return grown != shrunk


def draw_rays(
    shards: Shards, rng: np.random.Generator, *, heads: int, views: int, rays: int
) -> dict[str, np.ndarray]:
    """Draw a batch of random pixels at 64 x 64.

    Returns:
      z [B, z_dim]; labels [B, V, 25]; u, v [B, V, R]; colour [B, V, R, 3] in [-1, 1]; opacity
      [B, V, R] in [0, 1]; depth [B, V, R] world units, 0 where empty; weight [B, V, R] of a ray in
      the mean of a loss: its importance over its chance.
    """
    out: dict[str, list] = {
        key: [] for key in ("z", "labels", "pixel", "colour", "opacity", "depth", "weight")
    }
    for _ in range(heads):
        shard = shards.arrays[rng.integers(len(shards.arrays))]
        h = rng.integers(len(shard["z"]))
        chosen = rng.choice(shard["label"].shape[1], views, replace=False)
        cumulative = np.cumsum(shard["chance"][h, chosen], axis=-1, dtype=np.float32)
        draws = rng.random((views, rays), np.float32) * cumulative[:, -1:] * 0.9999
        pixel = np.stack(
            [np.searchsorted(*row, side="right") for row in zip(cumulative, draws, strict=True)]
        )
        rows = np.arange(views)[:, None]
        out["z"].append(shard["z"][h])
        out["labels"].append(shard["label"][h, chosen])
        out["pixel"].append(pixel)
        counts = [shard[key][h, chosen][rows, pixel] for key in ("importance", "chance")]
        out["weight"].append(counts[0] / counts[1])
        for name, key in (("colour", "image64"), ("opacity", "opacity64"), ("depth", "depth64")):
            whole = shard[key][h, chosen]
            out[name].append(whole.reshape(views, 64 * 64, *whole.shape[3:])[rows, pixel])
    batch = {key: np.stack(values) for key, values in out.items()}
    pixel = batch.pop("pixel")
    batch["u"] = ((pixel % 64) + np.float32(0.5)) / np.float32(64)
    batch["v"] = ((pixel // 64) + np.float32(0.5)) / np.float32(64)
    batch["colour"] = batch["colour"].astype(np.float32) / 127.5 - 1
    batch["opacity"] = batch["opacity"].astype(np.float32) / 255
    batch["depth"] = batch["depth"].astype(np.float32)
    return {key: np.asarray(value, np.float32) for key, value in batch.items()}


def draw_pictures(shards: Shards, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Draw whole pictures, one a head.

    Returns:
      z [B, z_dim]; label [B, 25]; image [B, 128, 128, 3] and raw [B, 64, 64, 3] in [-1, 1]; opacity
      [B, 128, 128] of the image, in [0, 1].
    """
    out: dict[str, list] = {key: [] for key in ("z", "label", "image", "raw", "opacity")}
    for _ in range(count):
        shard = shards.arrays[rng.integers(len(shards.arrays))]
        h, view = rng.integers(len(shard["z"])), rng.integers(shard["image128"].shape[1])
        out["z"].append(shard["z"][h])
        out["label"].append(shard["label"][h, view])
        out["image"].append(shard["image128"][h, view].astype(np.float32) / 127.5 - 1)
        out["opacity"].append(shard["opacity128"][h, view].astype(np.float32) / 255)
        out["raw"].append(shard["image64"][h, view].astype(np.float32) / 127.5 - 1)
    return {key: np.stack(values) for key, values in out.items()}
