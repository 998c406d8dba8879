"""How well a fit shows every frame, the ones it was not fitted to above all."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from eg3d_jax.generator import Renders
from experiments.frames_io import Frames, read_image
from inversion import metrics
from inversion.features.lpips import Lpips


@dataclass(frozen=True, kw_only=True)
class FrameScores:
    """One number a frame, T of them.

    Attributes:
      psnr: dB over the whole picture.
      lpips: distance.
      psnr_foreground: dB over the head, or None without masks.
      depth_error: mean absolute error inside the head, world units, or None without true depth.
    """

    psnr: np.ndarray
    lpips: np.ndarray
    psnr_foreground: np.ndarray | None
    depth_error: np.ndarray | None


_distance = jax.jit(metrics.lpips)


def score(lpips: Lpips, frames: Frames, renders: Renders) -> FrameScores:
    """Compare renderings of all frames' cameras with the frames."""
    side = frames.image_side
    masks = (
        frames.mask if frames.mask is not None and frames.mask.shape[1:] == (side, side) else None
    )
    truth = None if frames.depth is None else shrink_depth(frames.depth, renders.depth.shape[1])
    rows: dict[str, list[float]] = {"psnr": [], "lpips": [], "head": [], "depth": []}
    for i in range(len(frames)):
        image, target = jnp.asarray(renders.image[i]), jnp.asarray(read_image(frames, i))
        rows["psnr"].append(float(metrics.psnr(image, target)))
        rows["lpips"].append(float(_distance(lpips, image, target)))
        if masks is not None:
            rows["head"].append(float(metrics.psnr(image, target, jnp.asarray(masks[i]))))
        if truth is not None:
            error = metrics.depth_error(renders.depth[i], truth[i], truth[i] > 0)
            rows["depth"].append(float(error))
    arrays = {key: np.array(values) if values else None for key, values in rows.items()}
    return FrameScores(
        psnr=np.array(rows["psnr"]),
        lpips=np.array(rows["lpips"]),
        psnr_foreground=arrays["head"],
        depth_error=arrays["depth"],
    )


def shrink_depth(depth: np.ndarray, side: int) -> np.ndarray | None:
    """True depth [T, S, S] at a side that divides S; 0 unless all pixels merged are known."""
    factor, rest = divmod(depth.shape[1], side)
    if rest:
        return None
    blocks = depth.reshape(len(depth), side, factor, side, factor)
    return np.where((blocks > 0).all((2, 4)), blocks.mean((2, 4)), 0.0)


def shrink_mask(mask: np.ndarray, side: int) -> np.ndarray | None:
    """A silhouette [*, S, S] at a side that divides S: inside where half of the pixels are."""
    factor, rest = divmod(mask.shape[-1], side)
    if rest or not factor:
        return None
    blocks = mask.reshape(*mask.shape[:-2], side, factor, side, factor)
    return blocks.mean((-3, -1)) >= 0.5
