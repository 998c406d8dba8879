"""Convert renders to pictures: 8-bit colours, depth as colours, labelled grids, PNG files."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jax.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from inversion.files import write_atomically

_INK = (40, 40, 40)


def to_uint8(image: ArrayLike) -> np.ndarray:
    """Convert images in [-1, 1] to 8 bits: round((x + 1) * 127.5), clamped; NaN is black.

    The reference truncates (spec inversion 7). Rounding undoes the reading of frames exactly and
    is on average half a grey level brighter than truncation.
    """
    scaled = np.nan_to_num((np.asarray(image, np.float32) + 1) * 127.5, nan=0.0)
    return np.round(np.clip(scaled, 0, 255)).astype(np.uint8)


def colour_depth(
    depth: ArrayLike,
    *,
    near: float,
    far: float,
    opacity: ArrayLike | None = None,
    threshold: float = 0.5,
) -> np.ndarray:
    """Show depth as colours of one fixed range, so that pictures compare.

    Args:
      depth: [*, h, w] world units.
      near: depth of the brightest colour, world units.
      far: depth of the darkest colour, world units.
      opacity: [*, h, w] in [0, 1]; where it is below `threshold` the picture is white.
      threshold: see `opacity`.

    Returns:
      uint8 [*, h, w, 3]; white also where depth is 0 (no depth known) or not finite.
    """
    if not near < far:
        raise ValueError(f"near={near} must be less than far={far}")
    distance = np.asarray(depth, np.float32)
    known = np.isfinite(distance) & (distance > 0)
    if opacity is not None:
        known &= np.asarray(opacity) >= threshold
    closeness = np.clip((far - np.where(known, distance, far)) / (far - near), 0, 1)
    colours = matplotlib.colormaps["viridis"](closeness, bytes=True)[..., :3]
    return np.where(known[..., None], colours, np.uint8(255))


def resized(picture: np.ndarray, side: int) -> np.ndarray:
    """Resize a uint8 [h, w, 3] picture; enlarged without blur if by a whole factor."""
    height, width = picture.shape[:2]
    if (height, width) == (side, side):
        return picture
    whole = height == width and side % width == 0
    how = Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(picture).resize((side, side), how))


def grid(
    rows: Sequence[Sequence[np.ndarray]],
    *,
    columns: Sequence[str] = (),
    labels: Sequence[str] = (),
    side: int | None = None,
) -> np.ndarray:
    """Arrange square pictures in a grid on white, with headings.

    Args:
      rows: uint8 [h, w, 3] pictures; all rows of one length.
      columns: heading of each column, or none.
      labels: text left of each row, or none.
      side: side of a cell, pixels; the largest picture's if not given.

    Returns:
      uint8 [H, W, 3].

    Raises:
      ValueError: if the rows differ in length, or texts and cells in number.
    """
    _check_grid(rows, columns, labels)
    cell = side or max(picture.shape[0] for row in rows for picture in row)
    font = ImageFont.load_default(size=max(11, cell // 10))
    gap = max(2, cell // 32)
    left = max((int(font.getlength(text)) + 2 * gap for text in labels), default=0)
    top = max(16, cell // 6) if columns else 0
    size = left + len(rows[0]) * (cell + gap) - gap, top + len(rows) * (cell + gap) - gap
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for x, text in enumerate(columns):
        middle = left + x * (cell + gap) + cell // 2
        draw.text((middle, top // 2), text, fill=_INK, font=font, anchor="mm")
    for y, row in enumerate(rows):
        corner = top + y * (cell + gap)
        if labels:
            draw.text((gap, corner + cell // 2), labels[y], fill=_INK, font=font, anchor="lm")
        for x, picture in enumerate(row):
            image = Image.fromarray(resized(picture, cell))
            canvas.paste(image, (left + x * (cell + gap), corner))
    return np.asarray(canvas)


def tiled(rows: Iterable[Iterable[np.ndarray]]) -> np.ndarray:
    """Tile pictures of one size beside and below each other, without borders or words."""
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])


def encode_png(picture: np.ndarray) -> bytes:
    """Encode a uint8 [H, W, 3] picture as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def encode_jpeg(picture: np.ndarray, quality: int = 92) -> bytes:
    """Encode a uint8 [H, W, 3] picture as JPEG, colours at full resolution."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "jpeg", quality=quality, subsampling=0)
    return buffer.getvalue()


def save_png(path: Path, picture: np.ndarray) -> Path:
    """Write a uint8 [H, W, 3] picture as PNG, atomically."""
    return write_atomically(path, encode_png(picture))


def _check_grid(
    rows: Sequence[Sequence[np.ndarray]], columns: Sequence[str], labels: Sequence[str]
) -> None:
    lengths = [len(row) for row in rows]
    if not lengths or not lengths[0] or len(set(lengths)) > 1:
        raise ValueError(f"rows have lengths {lengths}; want one, not 0")
    if (columns and len(columns) != lengths[0]) or (labels and len(labels) != len(rows)):
        raise ValueError(
            f"{len(columns)} headings and {len(labels)} labels for {len(rows)} rows of {lengths[0]}"
        )
