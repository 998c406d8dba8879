"""Draw what was found in frames: landmarks, the face laid over them, the head's axes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

from eg3d_jax.cameras import FFHQ_FOCAL
from inversion.footage.prepare import Footage
from inversion.footage.selection import FootageFrame

_GREEN, _RED = (40, 200, 90), (235, 60, 50)
# From the middle of the head, world units: to its left, up and forward.
_AXES = {(235, 80, 60): (0.2, 0, 0), (60, 190, 80): (0, 0.2, 0), (70, 120, 245): (0, 0, 0.3)}
_MIDDLE = np.array([0.0, 0.0, 0.1])
_FINER = 2  # drawn so many times as large


def drawn_frames(
    footage: Footage, frames: Sequence[FootageFrame], side: int
) -> Iterator[tuple[FootageFrame, np.ndarray]]:
    """Draw landmarks green, the face red and the axes of the head on frames: uint8 [s, s, 3].

    What masks leave out is darkened.
    """
    large = _FINER * side
    for frame, pixels in footage.crops(frames, size=large):
        assert frame.window is not None
        low = frame.window.center - frame.window.side / 2
        scale = large / frame.window.side
        image = Image.fromarray(pixels)
        if footage.settings.mask:
            mask = Image.fromarray(footage.mask(frame, pixels))
            image = Image.composite(image, Image.fromarray(pixels // 4), mask)
        draw = ImageDraw.Draw(image)
        for points, colour, radius in (
            (footage.points[frame.index], _RED, 2.4),
            (footage.landmarks[frame.index, :, :2], _GREEN, 1.8),
        ):
            for x, y in (points - low) * scale:
                if np.isfinite(x + y):
                    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        _draw_axes(draw, frame.cam2world, _simple_matrix(FFHQ_FOCAL), large)
        yield frame, np.asarray(image.resize((side, side), Image.Resampling.BOX))


def thumbnails(
    footage: Footage, frames: Sequence[FootageFrame], side: int
) -> Iterator[tuple[FootageFrame, np.ndarray]]:
    """Whole pictures of frames, reduced to a longest side, and the windows of those with one."""
    for frame, pixels in footage.pictures(frames):
        image = Image.fromarray(pixels)
        scale = side / max(image.size)
        width, height = (max(round(n * scale), 1) for n in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
        if frame.window is not None:
            low = (frame.window.center - frame.window.side / 2) * scale
            corners = [*low, *(low + frame.window.side * scale)]
            ImageDraw.Draw(image).rectangle(corners, outline=_RED, width=2)
        yield frame, np.asarray(image)


def with_axes(pixels: np.ndarray, label: np.ndarray, side: int) -> np.ndarray:
    """Draw the head's axes on a picture with EG3D's label [25]: uint8 [side, side, 3]."""
    large = _FINER * side
    image = Image.fromarray(pixels).resize((large, large), Image.Resampling.LANCZOS)
    label = np.asarray(label, np.float64)
    pose, intrinsics = label[:16].reshape(4, 4), label[16:].reshape(3, 3)
    _draw_axes(ImageDraw.Draw(image), pose, intrinsics, large)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def _simple_matrix(focal: float) -> np.ndarray:
    """Intrinsics [3, 3] over the side of a picture whose axis is in the middle."""
    return np.array([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])


def _draw_axes(
    draw: ImageDraw.ImageDraw, cam2world: np.ndarray, intrinsics: np.ndarray, side: int
) -> None:
    def seen(point: np.ndarray) -> np.ndarray:
        place = intrinsics @ (cam2world[:3, :3].T @ (point - cam2world[:3, 3]))
        return place[:2] / place[2] * side

    for colour, direction in _AXES.items():
        ends = [*seen(_MIDDLE), *seen(_MIDDLE + direction)]
        draw.line(ends, fill=colour, width=2 * _FINER)
