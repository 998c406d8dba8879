"""How well a fit shows every frame, the ones it was not fitted to above all."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from eg3d_jax.cameras import Cameras
from eg3d_jax.generator import Renders, TriPlaneGenerator
from inversion import metrics
from inversion.features.lpips import Lpips
from inversion.frames.folder import Frames, read_image
from inversion.latents import Latents, step_lengths, turning_angles
from inversion.metrics import depth_normals
from inversion.objectives import FeatureNetworks


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


# The paper compares pictures of 256 pixels; MS-SSIM needs 161 for its five scales.
_SIDE = 256


def measure_frames(
    networks: FeatureNetworks, frames: Frames, renders: Renders
) -> dict[str, np.ndarray]:
    """Compare renderings of all frames' cameras with the frames (spec inversion 8).

    Pictures larger than 256 pixels are reduced to that (linear, antialiased), smaller ones stay as
    they are but for MS-SSIM, which sees them enlarged. Heads alone are compared at full size.

    Args:
      networks: LPIPS, and a network of faces or none.
      frames: T of them.
      renders: [T], of the frames' cameras.

    Returns:
      [T] each: mse, psnr, lpips, ms_ssim; psnr_foreground and iou with masks; identity, the cosine
      between face embeddings, with a network of faces; depth_error (world units) and normal_error
      (degrees), means inside the head, with true depth. NaN where a frame does not tell.
    """
    truth = None if frames.depth is None else shrink_depth(frames.depth, renders.depth.shape[1])
    rows: dict[str, list[float]] = {}
    for i in range(len(frames)):
        image, target = jnp.asarray(renders.image[i]), jnp.asarray(read_image(frames, i))
        row = dict(_compare(networks, image, target))
        if frames.mask is not None:
            row |= _masked(frames.mask[i], image, target, jnp.asarray(renders.opacity[i]))
        if truth is not None:
            row |= _surface(jnp.asarray(renders.depth[i]), jnp.asarray(truth[i]), frames.cameras[i])
        for name, value in row.items():
            rows.setdefault(name, []).append(float(value))
    return {name: np.array(values) for name, values in rows.items()}


def measure_latents(
    generator: TriPlaneGenerator, latents: Latents, cameras: Cameras
) -> dict[str, float | None]:
    """How far the latents of a run are from one another.

    Args:
      generator: tuned.
      latents: K of them.
      cameras: [V] of the fitted views.

    Returns:
      depth_spread: standard deviation of depth over the K latents, mean over solid pixels and the
      V views, world units; path_distance between neighbours in W+; path_angle, degrees, 180 for a
      straight path. None where there are too few latents.
    """
    lengths, angles = step_lengths(latents.w_plus), turning_angles(latents.w_plus)
    angles = angles[np.isfinite(angles)]
    several = len(latents) > 1
    return {
        "depth_spread": _depth_spread(generator, latents.w_plus, cameras) if several else None,
        "path_distance": float(lengths.mean()) if several else None,
        "path_angle": float(angles.mean()) if len(angles) else None,
    }


@jax.jit
def _compare(networks: FeatureNetworks, image: Array, target: Array) -> dict[str, Array]:
    image, target = (jnp.clip(x, -1.0, 1.0) for x in (image, target))
    if image.shape[0] > _SIDE:
        image, target = _resized(image), _resized(target)
    large = (image, target) if image.shape[0] == _SIDE else (_resized(image), _resized(target))
    row = {
        "mse": metrics.mse(image, target),
        "psnr": metrics.psnr(image, target),
        "lpips": metrics.lpips(networks.lpips, image, target),
        "ms_ssim": metrics.ms_ssim(*large),
    }
    if networks.identity is not None:
        row["identity"] = jnp.sum(networks.identity(large[0]) * networks.identity(large[1]))
    return row


def _resized(image: Array) -> Array:
    return jax.image.resize(image, (_SIDE, _SIDE, 3), "linear", antialias=True)


def _masked(
    mask: np.ndarray, image: Array, target: Array, opacity: Array
) -> dict[str, Array | float]:
    """Scores over the head and of its outline; NaN where the mask is of another size."""
    whole, small = mask.shape == image.shape[:2], shrink_mask(mask, len(opacity))
    return {
        "psnr_foreground": metrics.psnr(image, target, jnp.asarray(mask)) if whole else np.nan,
        "iou": np.nan if small is None else metrics.mask_iou(opacity, jnp.asarray(small)),
    }


@jax.jit
def _surface(depth: Array, truth: Array, camera: Cameras) -> dict[str, Array]:
    """Errors of depth and of normals where the truth is known."""
    known = truth > 0
    padded = jnp.pad(known, 1)
    # A normal looks at four neighbours, all of which must be of the head.
    inner = known & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    ours, theirs = (depth_normals(x, camera) for x in (depth, truth))
    angle = 2 * jnp.arctan2(
        jnp.linalg.norm(ours - theirs, axis=-1), jnp.linalg.norm(ours + theirs, axis=-1)
    )
    return {
        "depth_error": metrics.depth_error(depth, truth, known),
        "normal_error": jnp.degrees(_mean_where(angle, inner)),
    }


def _mean_where(values: Array, chosen: Array) -> Array:
    return jnp.sum(jnp.where(chosen, values, 0.0)) / jnp.sum(chosen)


def _depth_spread(generator: TriPlaneGenerator, w_plus: Array, cameras: Cameras) -> float:
    planes = _planes(generator, w_plus)
    views = [cameras[i] for i in range(len(cameras))]
    return float(np.mean([_spread_from(generator, planes, camera) for camera in views]))


@jax.jit
def _planes(generator: TriPlaneGenerator, w_plus: Array) -> Array:
    return jax.lax.map(generator.tri_planes, w_plus)


@jax.jit
def _spread_from(generator: TriPlaneGenerator, planes: Array, camera: Cameras) -> Array:
    seen = jax.lax.map(lambda planes: generator.render(planes, camera), planes)
    return metrics.depth_spread(seen.depth, seen.opacity)
