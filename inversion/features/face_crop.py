"""Where the face lies in a picture framed as EG3D's training data are (spec inversion 2.2)."""

from __future__ import annotations

from jax import Array

from inversion.features.resize import area_resize, shrink_to

PICTURE_SIDE, CROP_SIDE = 256, 112
_ROWS, _COLUMNS = slice(35, 223), slice(32, 220)


def identity_crop(image: Array) -> Array:
    """The face in a picture framed as EG3D's training data are (spec inversion 2.2).

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
