"""Videos of a head: the turntable's cameras, and mp4 files."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
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
      OSError: if ffmpeg fails, with its words.
    """
    unfinished = path.with_name(f".{path.stem}.unfinished.mp4")
    encoder = None
    try:
        for picture in _checked(pictures):
            even = _even(picture)
            if encoder is None:
                encoder = _Encoder(unfinished, (even.shape[1], even.shape[0]), fps, crf)
            encoder.add(even)
        if encoder is None:
            raise ValueError(f"{path}: there are no pictures to make a video of")
        encoder.finish()
        return unfinished.replace(path)
    finally:
        if encoder is not None:
            encoder.stop()
        unfinished.unlink(missing_ok=True)


class _Encoder:
    """Process of ffmpeg that encodes raw pictures.

    imageio-ffmpeg's own writer forks in a way that JAX's threads make unsafe, and JAX warns of.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: int, crf: int):
        source = f"-f rawvideo -pix_fmt rgb24 -s {size[0]}x{size[1]} -r {fps} -i pipe:0"
        # faststart: a browser begins to play before the whole file is there.
        target = f"-an -c:v libx264 -pix_fmt yuv420p -crf {crf} -movflags +faststart"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error"]
        command += [*source.split(), *target.split(), str(path)]
        self._path = path
        self._said = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            process_group=0,  # Ctrl-C is ours to handle
        )

    def add(self, picture: np.ndarray) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(picture).tobytes())
        except BrokenPipeError:
            self.finish()
            raise

    def finish(self) -> None:
        """Wait until the file is complete; raise OSError with ffmpeg's message if it is not."""
        self._close_input()
        if self._process.wait():
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").strip()
            number = errno.ENOSPC if os.strerror(errno.ENOSPC) in said else errno.EIO
            raise OSError(number, f"ffmpeg could not write it ({said})", str(self._path))

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._close_input()
        self._said.close()

    def _close_input(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()


def _checked(pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    shape = None
    for picture in pictures:
        shape = shape or picture.shape
        if picture.shape != shape or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
            raise ValueError(
                f"a picture is {picture.dtype} {list(picture.shape)}, the first "
                f"{list(shape)}; want uint8 [H, W, 3], all of one size"
            )
        yield picture


def _even(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
