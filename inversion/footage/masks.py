"""Masks of the person in a crop: head and body are in, the background and other people are not."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy import ndimage

from inversion.footage.nets import Net
from inversion.footage.windows import Window


def person_mask(
    net: Net, pixels: np.ndarray, face: np.ndarray, outside: np.ndarray | None = None
) -> np.ndarray:
    """Find the person whose face is known.

    Args:
      net: of `load_person_net`.
      pixels: uint8 [S, S, 3] of a crop.
      face: [468, 2] points of the person's face, pixels of the crop; NaN where unknown.
      outside: bool [S, S], what is not of the picture but continues it; nothing if None.

    Returns:
      uint8 [S, S], 255 where the person is, 0 elsewhere, between them along the outline. Of several
      people who do not touch, the one with most of the points; all where no point is on anyone.
    """
    side = len(pixels)
    small = _resized(Image.fromarray(pixels), net.graph.side)
    (found,) = net((np.asarray(small) / np.float32(255))[None])
    mask = np.asarray(_resized(Image.fromarray(found[0, ..., 0]), side))
    mask = _of_one(mask, face)
    if outside is not None:
        mask = np.where(outside, 0, mask)
    return np.round(255 * np.clip(mask, 0, 1)).astype(np.uint8)


def _of_one(mask: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Leave those regions of a mask [S, S] out that are not of the person with the face."""
    regions = np.empty(mask.shape, np.int32)
    count = ndimage.label(mask >= 0.5, output=regions)
    x, y = face[np.isfinite(face).all(-1)].astype(int).T
    seen = (x >= 0) & (y >= 0) & (x < len(mask)) & (y < len(mask))
    hits = np.bincount(regions[y[seen], x[seen]], minlength=1)
    hits[0] = 0
    if count == 1 or not hits.any():
        return mask
    # The soft outline of a person goes with the nearest.
    nearest = np.empty((2, *mask.shape), np.int32)
    ndimage.distance_transform_edt(
        regions == 0, return_distances=False, return_indices=True, indices=nearest
    )
    return np.where(regions[tuple(nearest)] == hits.argmax(), mask, 0)


def outside_picture(window: Window, height: int, width: int, side: int) -> np.ndarray:
    """Which pixels [side, side] of a window's crop lie outside its picture."""
    places = (np.arange(side) + 0.5) / side - 0.5
    x, y = (center + places * window.side for center in window.center)
    return ((y < 0) | (y > height))[:, None] | ((x < 0) | (x > width))[None]


def _resized(image: Image.Image, side: int) -> Image.Image:
    return image.resize((side, side), Image.Resampling.BILINEAR)
