"""Frames of videos of any length, with their true times, by PyAV."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eg3d_jax.errors import InputError
from inversion.footage.tone_mapping import tone_mapped

VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
# Packets that cannot be decoded, in a row, after which a video is given up.
_MANY_DAMAGED = 100
# Seconds that a video may end early, or its last frame last.
_MISSING = 0.5
_PQ, _HLG = 16, 18  # transfer characteristics in the numbers of ITU-T H.273
_WIDE = 9  # colour primaries of BT.2020


def describe(path: Path) -> tuple[int | None, float | None, tuple[str, ...]]:
    """Look at a video's headers: number of pictures, seconds, and what its user should know.

    Numbers that the file does not tell are None, and may be off a little.

    Raises:
      InputError: if it cannot be read or has no pictures, or PyAV is missing.
    """
    with _opened(path) as (container, stream):
        seconds = _length(container, stream)
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        count = stream.frames or (round(seconds * rate) if seconds and rate else None)
        return count or None, seconds, _notes(path, stream)


def video_frames(
    path: Path,
    *,
    start: float | None = None,
    end: float | None = None,
    rate: float | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[float, np.ndarray]]:
    """Decode a video frame by frame: seconds, which grow, and uint8 [height, width, 3] of sRGB.

    Args:
      path: of the video.
      start: seconds before which no frame is wanted.
      end: seconds after which none is.
      rate: most frames a second, chosen by their times.
      say: told of damage that was passed over.

    Raises:
      InputError: if there is no frame at all, or PyAV is missing.
    """
    count, last, whole = 0, 0.0, True
    with _opened(path) as (container, stream):
        begin = float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0
        if start and stream.time_base:
            container.seek(int((begin + start) / stream.time_base), stream=stream)
        due: float | None = None
        for frame, seconds in _timed(_frames(path, container, stream, say), stream, begin):
            if start is not None and seconds < start - 1e-6:
                continue
            if end is not None and seconds > end:
                whole = False
                break
            last = seconds
            # Times on a grid of milliseconds are not evenly spaced.
            if rate is not None and due is not None and seconds < due - 2e-3:
                continue
            if rate is not None:
                due = (
                    seconds + 1 / rate if due is None else max(due + 1 / rate, seconds + 0.5 / rate)
                )
            count += 1
            yield seconds, _upright(frame, stream.sample_aspect_ratio)
        length = _length(container, stream)
    if count and whole and length and length - last > max(_MISSING, 0.05 * length):
        say(
            f"{path.name} is cut off or damaged: it should last {length:.1f} s, but ends at "
            f"{last:.1f} s"
        )
    if not count:
        if start is None and end is None:
            raise InputError(f"{path} has no picture that can be decoded; copy it again")
        lasts = f"; it lasts {length:.1f} s" if length else ""
        until = "its end" if end is None else f"{end:g} s"
        raise InputError(f"{path} has no picture from {start or 0:g} s to {until}{lasts}")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Context of PyAV's container of a video, and its stream of pictures."""
    av = _av()
    if not path.is_file():
        raise InputError(f"{path} {'is no file' if path.exists() else 'does not exist'}")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty; copy the video again")
    # PyAV 18 ends at tags that are not UTF-8, unless told otherwise; 19 knows no such option.
    lenient = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
    try:
        container = av.open(str(path), **lenient)
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(
            f"{path} cannot be read as a video ({_reason(error)}); it is damaged, or was not "
            "written to its end: copy or convert it again"
        ) from None
    with container:
        cover = av.stream.Disposition.attached_pic
        streams = [s for s in container.streams.video if not s.disposition & cover]
        if not streams:
            holds = "sound only" if container.streams.audio else "no pictures"
            raise InputError(f"{path} holds {holds}; give a video that shows a head")
        if streams[0].codec_context is None:
            raise InputError(
                f"{path} has pictures of a kind that cannot be decoded here; convert it to H.264"
            )
        streams[0].thread_type = "AUTO"
        yield container, streams[0]


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise InputError(
            "videos are read by PyAV, which is not installed: pip install 'eg3d-jax[footage]'"
        ) from error
    return av


def _reason(error: BaseException) -> str:
    words = getattr(error, "strerror", None) or str(error)
    return re.sub(r"^\[Errno \d+\] ", "", words).split(":")[0].strip()


def _length(container: Any, stream: Any) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1e6


def _notes(path: Path, stream: Any) -> tuple[str, ...]:
    context, notes = stream.codec_context, []
    transfer = getattr(context, "color_trc", None)
    if transfer in (_PQ, _HLG):
        kind = "PQ, as HDR10" if transfer == _PQ else "HLG"
        notes.append(
            f"{path.name} has high dynamic range ({kind}); its light is mapped to that of usual "
            "screens in a simple way: record without HDR for true colours"
        )
    marked = any(k.lower() == "alpha_mode" and v == "1" for k, v in stream.metadata.items())
    if marked or _has_alpha(context):
        notes.append(f"{path.name} has transparency, which is not read: its colours are taken")
    if getattr(context, "interlaced", False) or getattr(context, "field_order", 0) in (2, 3, 4, 5):
        notes.append(f"{path.name} is interlaced; fast motion will show combs: deinterlace it")
    return tuple(notes)


def _has_alpha(context: Any) -> bool:
    name = getattr(context, "pix_fmt", None) or ""
    return name.startswith(("yuva", "gbrap", "rgba", "bgra", "argb", "abgr", "ya8", "ya16"))


def _frames(path: Path, container: Any, stream: Any, say: Callable[[str], None]) -> Iterator[Any]:
    """Decode a stream, past packets that are damaged."""
    av = _av()
    damaged, in_a_row = 0, 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                break
            frames = packet.decode()
        except (av.error.FFmpegError, OSError) as error:
            damaged, in_a_row = damaged + 1, in_a_row + 1
            if in_a_row >= _MANY_DAMAGED:
                say(f"{path.name} is damaged ({_reason(error)}); it is read no further")
                return
            continue
        for frame in frames:
            if getattr(frame, "is_corrupt", False):
                damaged += 1
                continue
            in_a_row = 0
            yield frame
    if damaged:
        say(f"{path.name} is damaged; {damaged} of its pictures or packets are passed over")


def _timed(frames: Iterator[Any], stream: Any, begin: float) -> Iterator[tuple[Any, float]]:
    """Frames with seconds from the start, which grow; counted where the file does not tell."""
    step = 1 / float(stream.average_rate or stream.guessed_rate or 25)
    last: float | None = None
    for frame in frames:
        seconds = None if frame.time is None else frame.time - begin
        if seconds is None or (last is not None and seconds <= last):
            seconds = 0.0 if last is None else last + step
        last = seconds
        yield frame, seconds


def _upright(frame: Any, aspect: Any) -> np.ndarray:
    """The pixels of a frame as they are to be shown; `aspect` is that of a pixel, or None."""
    transfer = int(frame.color_trc)
    if transfer in (_PQ, _HLG):
        deep = frame.to_ndarray(format="rgb48le")
        pixels = tone_mapped(deep, pq=transfer == _PQ, wide=int(frame.color_primaries) == _WIDE)
    else:
        pixels = frame.to_ndarray(format="rgb24")
    if aspect and aspect != 1 and 0.2 < aspect < 5:
        height, width = pixels.shape[:2]
        size = (max(round(width * float(aspect)), 1), height)
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    return np.ascontiguousarray(_turned(pixels, frame))


def _turned(pixels: np.ndarray, frame: Any) -> np.ndarray:
    """Apply the display matrix: quarter turns and mirror images."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return pixels
    # x' = a x + c y and y' = b x + d y; rows of the matrix are a b u, c d v, x y w.
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].astype(float)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        across, down = a, d
    else:
        pixels, across, down = pixels.swapaxes(0, 1), c, b
    pixels = pixels[:, ::-1] if across < 0 else pixels
    return pixels[::-1] if down < 0 else pixels
