"""Crop faces, and shrink images by averaging areas, as PyTorch's 'area' mode does."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array


def area_resize(image: Array, side: int | tuple[int, int]) -> Array:
    """Average-pool to any size; output cell k covers floor(k n / m) ... ceil((k + 1) n / m) - 1.

    Cells of equal weight, so a pixel that two cells share counts fully in both: this is what
    PyTorch computes, not an exact integral over area (spec inversion 2.1, 2.2).

    Args:
      image: [H, W, C].
      side: m, the new height and width, or (height, width).

    Returns:
      [height, width, C].

    Raises:
      ValueError: if the image has not three axes or the size is not positive.
    """
    if image.ndim != 3:
        raise ValueError(
            f"an image to resize has shape {image.shape}, wanted [H, W, C]; vmap over a batch"
        )
    height, width = (side, side) if isinstance(side, int) else side
    if min(height, width) < 1:
        raise ValueError(f"new size {(height, width)} of an image must be positive")
    return _pool(_pool(image, height, 0), width, 1)


def shrink_to(image: Array, side: int | None) -> Array:
    """Average a square image down to `side` if it is larger, else return it unchanged.

    Args:
      image: [H, W, 3].
      side: largest side that passes unchanged; None for any.

    Raises:
      ValueError: if the shape is not [H, W, 3], or a larger image is not square.
    """
    if image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(
            f"an image has shape {image.shape}, wanted [H, W, 3] in [-1, 1]; vmap over a batch"
        )
    if side is None or max(image.shape[:2]) <= side:
        return image
    if image.shape[0] != image.shape[1]:
        raise ValueError(
            f"an image of {image.shape[0]} x {image.shape[1]} pixels is to be shrunk to {side} x "
            f"{side}, which would distort it; crop it to a square first"
        )
    return area_resize(image, side)


def _pool(x: Array, new: int, axis: int) -> Array:
    old = x.shape[axis]
    if old == new:
        return x
    if old % new == 0:
        shape = (*x.shape[:axis], new, old // new, *x.shape[axis + 1 :])
        return jnp.mean(x.reshape(shape), axis=axis + 1)
    return jnp.moveaxis(jnp.tensordot(_weights(old, new), x, axes=(1, axis)), 0, axis)


def _weights(old: int, new: int) -> Array:
    """[new, old] rows that average the input cells under each output cell."""
    k, source = np.arange(new)[:, None], np.arange(old)
    first, last = k * old // new, -(-(k + 1) * old // new)
    inside = (source >= first) & (source < last)
    return jnp.asarray(inside / inside.sum(axis=1, keepdims=True), jnp.float32)


PICTURE_SIDE, CROP_SIDE = 256, 112
_ROWS, _COLUMNS = slice(35, 223), slice(32, 220)


def identity_crop(image: Array) -> Array:
    """Crop the face from a picture framed as EG3D's training data are (spec inversion 2.2).

    Args:
      image: [H, H, 3] in [-1, 1] of at least 256 pixels a side; larger ones are averaged down.

    Returns:
      [112, 112, 3], range unchanged.

    Raises:
      ValueError: if the image is smaller, or larger and not square.
    """
    image = shrink_to(image, PICTURE_SIDE)
    if image.shape[:2] != (PICTURE_SIDE, PICTURE_SIDE):
        raise ValueError(
            f"an image of {image.shape[0]} x {image.shape[1]} pixels is too small for the identity "
            f"loss, whose crop is laid out for {PICTURE_SIDE} x {PICTURE_SIDE}; use larger "
            "images, or leave the network of faces out"
        )
    return area_resize(image[_ROWS, _COLUMNS], CROP_SIDE)
