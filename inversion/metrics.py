"""Quality of a reconstructed view: images in [-1, 1] in, a scalar out (spec inversion 8).

Images are clamped to [-1, 1] first, as any display does; the authors' code does not. They are
compared at the size they have; resizing, such as the paper's to 256 pixels, is up to the caller.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from eg3d_jax.cameras import Cameras
from eg3d_jax.rays import cast_rays
from inversion.features.lpips import Lpips

# MS-SSIM (Wang, Simoncelli, Bovik 2003): weight of each scale, finest first.
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03
_MS_SSIM_SIDE = (_WINDOW - 1) * 2 ** (len(_SCALE_WEIGHTS) - 1) + 1


def mse(image: Array, target: Array, mask: Array | None = None) -> Array:
    """Mean squared difference in the [-1, 1] range: four times the value for [0, 1].

    Args:
      image: [H, W, 3], clamped to [-1, 1].
      target: [H, W, 3], likewise.
      mask: [H, W] weights >= 0, such as 0 and 1; all pixels if None.

    Returns:
      Scalar; NaN if the mask is empty.

    Raises:
      ValueError: if shapes differ.
    """
    _require_images(image, target)
    squares = jnp.mean(jnp.square(_clamp(image) - _clamp(target)), axis=-1)
    return _masked_mean(squares, mask)


def psnr(image: Array, target: Array, mask: Array | None = None) -> Array:
    """Peak signal-to-noise ratio in decibels; arguments as in `mse`.

    Returns:
      Scalar, 10 log10(2^2 / mse); infinite for equal images, NaN if the mask is empty.
    """
    return 10.0 * (math.log10(4.0) - jnp.log10(mse(image, target, mask)))


def lpips(network: Lpips, image: Array, target: Array) -> Array:
    """LPIPS distance, a scalar >= 0, of clamped images [H, W, 3]."""
    _require_images(image, target)
    return network.distance(_clamp(image), _clamp(target))


def ms_ssim(image: Array, target: Array) -> Array:
    """Multi-scale structural similarity: five scales, 11-tap Gaussians of sigma 1.5.

    Windows stay inside the image; between scales 2 x 2 means, an odd side padded in front by zeros
    that count in the mean. Negative terms count as zero. Per channel, then averaged.

    Args:
      image: [H, W, 3], clamped to [-1, 1]; both sides more than 160 pixels.
      target: the same shape.

    Returns:
      Scalar in [0, 1]; 1 for equal images.

    Raises:
      ValueError: if shapes differ or the images are too small for five scales.
    """
    _require_images(image, target)
    if min(image.shape[:2]) < _MS_SSIM_SIDE:
        raise ValueError(
            f"images of {image.shape[0]} x {image.shape[1]} pixels are too small for MS-SSIM, "
            f"whose five scales need {_MS_SSIM_SIDE} a side; use a larger render"
        )
    a, b = ((_clamp(x) + 1.0) / 2.0 for x in (image, target))
    result = jnp.ones(image.shape[-1])
    for i, weight in enumerate(_SCALE_WEIGHTS):
        similarity, contrast = _ssim(a, b)
        last = i == len(_SCALE_WEIGHTS) - 1
        result *= jax.nn.relu(similarity if last else contrast) ** weight
        a, b = _halve(a), _halve(b)
    return jnp.mean(result)


def mask_iou(opacity: Array, mask: Array, *, threshold: float = 0.5) -> Array:
    """Intersection over union of two silhouettes.

    Args:
      opacity: [H, W] in [0, 1]; inside where above the threshold.
      mask: [H, W], likewise; booleans will do.
      threshold: between inside and outside.

    Returns:
      Scalar in [0, 1]; 1 if both are empty.

    Raises:
      ValueError: if shapes differ.
    """
    _require_same(opacity, mask, "opacity", "mask")
    a, b = (jnp.asarray(x, jnp.float32) > threshold for x in (opacity, mask))
    union = jnp.sum(a | b)
    return jnp.where(union > 0, jnp.sum(a & b) / jnp.maximum(union, 1), 1.0)


def depth_error(depth: Array, target: Array, mask: Array | None = None) -> Array:
    """Mean absolute difference of depth maps, world units.

    Args:
      depth: [h, w] distance from the camera centre.
      target: [h, w]; where the mask is zero it may be anything, infinite too.
      mask: [h, w] weights >= 0 of the pixels that have a depth; all if None.

    Returns:
      Scalar; NaN if the mask is empty.

    Raises:
      ValueError: if shapes differ.
    """
    _require_same(depth, target, "depth", "target")
    return _masked_mean(jnp.abs(depth - target), mask)


def depth_std(depths: Array, opacities: Array) -> Array:
    """Mean over pixels of the standard deviation of depth over latents (spec inversion 8).

    Pixels count by their least opacity, since there is no surface beside the head; where all is
    opaque, as the official generators are, this is the paper's mean over all pixels.

    Args:
      depths: [K, h, w] from one camera, one map a latent, world units.
      opacities: [K, h, w] in [0, 1].

    Returns:
      Scalar, world units; 0 if all latents agree, NaN if there is nothing.

    Raises:
      ValueError: if the maps are not [K, h, w].
    """
    if depths.ndim != 3:
        raise ValueError(f"depth maps have shape {depths.shape}, wanted [K, h, w] of one camera")
    _require_same(depths, opacities, "depths", "opacities")
    return _masked_mean(jnp.std(depths, axis=0), jnp.min(opacities, axis=0))


def _clamp(image: Array) -> Array:
    return jnp.clip(image, -1.0, 1.0)


def _masked_mean(values: Array, mask: Array | None) -> Array:
    """Mean of [H, W] values over a mask; values of no weight may be infinite."""
    if mask is None:
        return jnp.mean(values)
    _require_same(values, mask, "image", "mask")
    weights = jnp.asarray(mask, values.dtype)
    return jnp.sum(weights * jnp.where(weights > 0, values, 0.0)) / jnp.sum(weights)


def _ssim(a: Array, b: Array) -> tuple[Array, Array]:
    """SSIM [C] of images in [0, 1], and its contrast and structure part alone."""
    c1, c2 = _K1**2, _K2**2
    # Differences of means of squares lose digits where pictures are flat and bright, up to 2e-4 of
    # the result in float32; about the mean colours, which variances do not depend on, they do not.
    centre_a, centre_b = jnp.mean(a, axis=(0, 1)), jnp.mean(b, axis=(0, 1))
    a, b = a - centre_a, b - centre_b
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a = _blur(a * a) - mean_a**2
    variance_b = _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    mean_a, mean_b = mean_a + centre_a, mean_b + centre_b
    contrast = (2 * covariance + c2) / (variance_a + variance_b + c2)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return jnp.mean(luminance * contrast, axis=(0, 1)), jnp.mean(contrast, axis=(0, 1))


def _blur(x: Array) -> Array:
    """Blur [H, W, C] by a Gaussian where the window fits inside."""
    offsets = np.arange(_WINDOW) - _WINDOW // 2
    taps = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (0, 1):
        size = x.shape[axis] - _WINDOW + 1
        parts = (jax.lax.slice_in_dim(x, i, i + size, axis=axis) for i in range(_WINDOW))
        x = sum((tap * part for tap, part in zip(taps, parts, strict=True)), jnp.zeros(()))
    return x


def _halve(x: Array) -> Array:
    height, width = x.shape[:2]
    # As PyTorch pools with padding 1: a window that does not fit at the end is dropped.
    x = jnp.pad(x, [(height % 2, 0), (width % 2, 0), (0, 0)])
    return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).mean(axis=(1, 3))


def _require_images(image: Array, target: Array) -> None:
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"an image has shape {image.shape}, wanted [H, W, 3]; vmap over views")
    _require_same(image, target, "image", "target")


def _require_same(a: Array, b: Array, name_a: str, name_b: str) -> None:
    if a.shape != b.shape:
        raise ValueError(f"{name_a} {a.shape} and {name_b} {b.shape} must be equal in shape")


def depth_normals(depth: Array, camera: Cameras) -> Array:
    """Normals of the surface in a depth map, by central differences of its points.

    Of depth rather than of density: depth averages over a ray, while the gradient of the density
    shows the texels of the planes. Pixels next to a jump in depth get a normal that faces sideways,
    as the rim of a round body does.

    Args:
      depth: [h, h] distance from the camera centre, world units.
      camera: a single camera.

    Returns:
      [h, h, 3] of unit length in world axes, towards the camera; 0 where there is no slope to tell.
    """
    side = depth.shape[0]
    rays = cast_rays(camera, side)
    points = rays.origins + depth.reshape(-1, 1) * rays.directions
    down, right = jnp.gradient(points.reshape(side, side, 3), axis=(0, 1))
    normal = jnp.cross(down, right)  # y x x = -z in OpenCV's axes: towards the camera
    return normal / jnp.maximum(jnp.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)


def colour_normals(normals: ArrayLike, *, opacity: ArrayLike, threshold: float = 0.5) -> np.ndarray:
    """Show normals as colours: red, green and blue rise with x, y and z.

    Of normals in world axes, a point of the head keeps its colour while the camera moves; a face
    seen from anywhere is lilac in front.

    Args:
      normals: [*, h, w, 3] of unit length.
      opacity: [*, h, w] in [0, 1]; where it is below `threshold` the picture is white.
      threshold: see `opacity`.

    Returns:
      uint8 [*, h, w, 3].
    """
    colours = np.round((np.asarray(normals) + 1) * 127.5).clip(0, 255).astype(np.uint8)
    return np.where((np.asarray(opacity) >= threshold)[..., None], colours, np.uint8(255))
