"""Videos of a head: the camera path of the turntable, and mp4 files."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import imageio_ffmpeg
import jax.numpy as jnp
import numpy as np

from eg3d_jax.cameras import FFHQ_FOCAL, Cameras, yaw_pitch_camera


def turntable(
    max_yaw: float,
    num_frames: int,
    *,
    pitch: float = 0.0,
    radius: float = 2.7,
    focal: float = FFHQ_FOCAL,
) -> Cameras:
    """Cameras that swing from one side to the other and back, slow at the turning points.

    A positive yaw looks from the world's +x, like the frames' own cameras; the reference mirrors
    its orbit and overshoots its end (spec inversion 7). The path closes: it may be played in a
    loop.

    Args:
      max_yaw: largest yaw, radians; the path starts at minus this.
      num_frames: length T of the path.
      pitch: radians above the horizon.
      radius: distance from the origin, world units.
      focal: focal length over the image side.

    Returns:
      Cameras [T].
    """
    phase = np.arange(num_frames) * (2 * math.pi / num_frames)
    yaw = jnp.asarray(-max_yaw * np.cos(phase), jnp.float32)
    return yaw_pitch_camera(yaw, jnp.full(num_frames, pitch), radius=radius, focal=focal)


def write_mp4(path: Path, pictures: Iterable[np.ndarray], *, fps: int = 30, crf: int = 18) -> Path:
    """Write a video that plays everywhere: H.264, yuv420p, even sides.

    Args:
      path: of the mp4; it appears when the video is complete.
      pictures: uint8 [H, W, 3], all of one size; odd sides grow by one repeated row or column.
      fps: pictures a second.
      crf: quality, 0 lossless to 51; 18 looks the same as the pictures.

    Raises:
      ValueError: if there is no picture, or one has another shape or type than the first.
    """
    unfinished = path.with_name(f".{path.stem}.unfinished.mp4")
    writer, shape = None, None
    try:
        for picture in pictures:
            shape = shape or picture.shape
            if picture.shape != shape or picture.dtype != np.uint8 or picture.ndim != 3:
                raise ValueError(
                    f"a picture is {picture.dtype} {list(picture.shape)}, the first "
                    f"{list(shape)}; want uint8 [H, W, 3], all of one size"
                )
            even = _even(picture)
            if writer is None:
                writer = _writer(unfinished, (even.shape[1], even.shape[0]), fps, crf)
            writer.send(np.ascontiguousarray(even))
        if writer is None:
            raise ValueError(f"{path}: there are no pictures to make a video of")
        writer.close()
        writer = None
        return unfinished.replace(path)
    finally:
        if writer is not None:
            writer.close()
        unfinished.unlink(missing_ok=True)


def _even(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _writer(path: Path, size: tuple[int, int], fps: int, crf: int):
    writer = imageio_ffmpeg.write_frames(
        str(path),
        size,
        fps=fps,
        codec="libx264",
        pix_fmt_in="rgb24",
        pix_fmt_out="yuv420p",
        quality=None,  # pyright: ignore[reportArgumentType]  # documented: leaves it to -crf
        macro_block_size=2,
        # faststart: a browser begins to play before the whole file is there.
        output_params=["-crf", str(crf), "-preset", "medium", "-movflags", "+faststart"],
    )
    writer.send(None)
    return writer
