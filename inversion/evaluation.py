"""How well an inversion shows every frame, and how far its latents are apart (spec inversion 8)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from eg3d_jax.cameras import Cameras, to_label
from eg3d_jax.generator import Renders, TriPlaneGenerator
from inversion import metrics
from inversion.features.arcface import ArcFace
from inversion.features.networks import load_networks
from inversion.frames.folder import Frames, read_image
from inversion.latents import Latents, step_lengths, turning_angles
from inversion.metrics import depth_normals
from inversion.objectives import FeatureNetworks
from inversion.result import Inversion, render_views

# The paper compares pictures of 256 pixels; MS-SSIM needs 161 for its five scales.
PAPER_SIDE = 256
# What is measured of a frame, and by which names.
PICTURES = ("mse", "psnr", "lpips", "ms_ssim", "identity")
HEADS = ("psnr_foreground", "iou")
SURFACES = ("depth_error", "normal_error")
ALL_MEASURES = (*PICTURES, *HEADS, *SURFACES)
_EQUAL_LABELS = 1e-4  # labels pass through float32 and text


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """An inversion with all that was measured of it on T frames.

    Attributes:
      names: of the frames.
      yaw_degrees: [T], 0 frontal.
      fitted: [T] frames that the inversion was fitted to.
      columns: [T] each, see `measure_frames`.
      latents: see `measure_latents`.
      count: number of latents.
    """

    names: Sequence[str]
    yaw_degrees: np.ndarray
    fitted: np.ndarray
    columns: Mapping[str, np.ndarray]
    latents: Mapping[str, float | None]
    count: int

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """[T] each, by name; see `frame_groups`."""
        return frame_groups(self.yaw_degrees, self.fitted)

    def mean(self, measure: str, group: str = "not fitted") -> float | None:
        """Mean of a measure over the frames of a group that tell; None if none does."""
        return mean_over(self.columns[measure], self.groups[group])


def evaluate(
    inversion: Inversion, frames: Frames, networks: FeatureNetworks | None = None
) -> Evaluation:
    """Render the view of every frame and measure it, and the latents (spec inversion 8).

    Args:
      inversion: of the head in the frames.
      frames: those fitted, and others; fitted ones are known by name and camera.
      networks: LPIPS for the generator's size, if None; with a network of faces for identity.
    """
    generator, latents = inversion.generator, inversion.latents
    networks = networks or load_networks(generator.config.image_side)
    renders = render_views(generator, latents, frames.cameras)
    return Evaluation(
        names=frames.names,
        yaw_degrees=frames.yaw_degrees,
        fitted=fitted_frames(inversion, frames),
        columns=measure_frames(networks, frames, renders),
        latents=measure_latents(generator, latents, inversion.cameras),
        count=len(latents),
    )


def fitted_frames(inversion: Inversion, frames: Frames) -> np.ndarray:
    """[T] which frames an inversion was fitted to: those of its names and cameras.

    Where its names are not known, or the frames are of another folder, the cameras alone tell.
    """
    ours = np.asarray(to_label(frames.cameras))
    distance = np.abs(ours[:, None] - inversion.labels[None]).max(axis=-1)
    same = distance < _EQUAL_LABELS
    if set(inversion.names) & set(frames.names):
        same &= np.array(frames.names)[:, None] == np.array(inversion.names)[None]
    return same.any(axis=1)


def frame_groups(
    yaw_degrees: np.ndarray,
    fitted: np.ndarray,
    *,
    unseen: np.ndarray | None = None,
    side_degrees: float = 40.0,
) -> dict[str, np.ndarray]:
    """Frames by how far they are from those fitted, [T] each.

    Args:
      yaw_degrees: [T], 0 frontal.
      fitted: [T] whether a frame was fitted.
      unseen: [T] frames that count as not fitted; those not `fitted` if None. Where methods are
        compared, those that none was fitted to, so that their means compare.
      side_degrees: a frame beyond this absolute yaw shows the head from the side.

    Returns:
      'all'; 'fitted'; 'not fitted'; of these 'in between' the fitted angles and 'beyond' them, and
      'side, not fitted'.
    """
    seen, inside = yaw_degrees[fitted], np.zeros_like(fitted)
    if len(seen):
        inside = (yaw_degrees > seen.min()) & (yaw_degrees < seen.max())
    unseen = ~fitted if unseen is None else unseen
    return {
        "all": np.ones_like(fitted),
        "fitted": fitted,
        "not fitted": unseen,
        "in between": unseen & inside,
        "beyond": unseen & ~inside,
        "side, not fitted": unseen & (np.abs(yaw_degrees) > side_degrees),
    }


def mean_over(values: np.ndarray | None, chosen: np.ndarray) -> float | None:
    """Mean of the values [T] chosen that are numbers; None if there are none."""
    if values is None:
        return None
    found = np.asarray(values, np.float64)[chosen]
    found = found[~np.isnan(found)]
    return float(found.mean()) if len(found) else None


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


def measure_frames(
    networks: FeatureNetworks,
    frames: Frames,
    renders: Renders,
    *,
    side: int | None = PAPER_SIDE,
    measures: Collection[str] = ALL_MEASURES,
) -> dict[str, np.ndarray]:
    """Compare renderings of all frames' cameras with the frames (spec inversion 8).

    Pictures larger than `side` are reduced to that (linear, antialiased), smaller ones stay as they
    are but for MS-SSIM and identity, which see them at 256 pixels. Heads alone are compared at full
    size.

    Args:
      networks: LPIPS, and a network of faces or none.
      frames: T of them.
      renders: [T], of the frames' cameras.
      side: pixels at which whole pictures are compared at most; None for full size.
      measures: which of `ALL_MEASURES`.

    Returns:
      [T] each: mse, psnr, lpips, ms_ssim; psnr_foreground and iou with masks; identity, the cosine
      between face embeddings, with a network of faces; depth_error (world units) and normal_error
      (degrees), means inside the head, with true depth. NaN where a frame does not tell.
    """
    truth = None
    if frames.depth is not None and not {*SURFACES}.isdisjoint(measures):
        truth = shrink_depth(frames.depth, renders.depth.shape[1])
    rows: dict[str, list[float]] = {}
    for i in range(len(frames)):
        image, target = jnp.asarray(renders.image[i]), jnp.asarray(read_image(frames, i))
        row = _compare(networks, image, target, side, measures)
        if frames.mask is not None and not {*HEADS}.isdisjoint(measures):
            row |= _masked(frames.mask[i], image, target, jnp.asarray(renders.opacity[i]))
        if truth is not None:
            row |= _surface(jnp.asarray(renders.depth[i]), jnp.asarray(truth[i]), frames.cameras[i])
        for name, value in row.items():
            if name in measures:
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


_lpips, _ms_ssim = jax.jit(metrics.lpips), jax.jit(metrics.ms_ssim)


def _compare(
    networks: FeatureNetworks,
    image: Array,
    target: Array,
    side: int | None,
    measures: Collection[str],
) -> dict[str, Array | float]:
    """Scores of whole pictures."""
    if side is not None and image.shape[0] > side:
        image, target = (_resized(jnp.clip(x, -1.0, 1.0), side) for x in (image, target))
    row: dict[str, Array | float] = {}
    if "mse" in measures:
        row["mse"] = metrics.mse(image, target)
    if "psnr" in measures:
        row["psnr"] = metrics.psnr(image, target)
    if "lpips" in measures:
        row["lpips"] = _lpips(networks.lpips, image, target)
    if "ms_ssim" in measures or (networks.identity is not None and "identity" in measures):
        large = (image, target)
        if image.shape[0] != PAPER_SIDE:
            large = [_resized(jnp.clip(x, -1.0, 1.0), PAPER_SIDE) for x in large]
        if "ms_ssim" in measures:
            row["ms_ssim"] = _ms_ssim(*large)
        if networks.identity is not None and "identity" in measures:
            row["identity"] = _cosine(networks.identity, *large)
    return row


@jax.jit
def _cosine(network: ArcFace, image: Array, target: Array) -> Array:
    return jnp.sum(network(image) * network(target))


@partial(jax.jit, static_argnums=1)
def _resized(image: Array, side: int) -> Array:
    return jax.image.resize(image, (side, side, 3), "linear", antialias=True)


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
