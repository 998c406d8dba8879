"""Videos of every kind, written by PyAV where it is installed."""

from fractions import Fraction


def write_video(
    path, frames, *, codec="libx264", pix_fmt="yuv420p", options=None, times=None, fps=10, **tags
):
    """A video of uint8 or uint16 frames.

    `times` are milliseconds; `tags` are its codec's, `title` is the file's, and `turn` and `flips`
    its display matrix.
    """
    import av

    if codec == "libx265":
        # x265 never sets the decoding times of a video shorter than its run of B frames: what lay
        # in memory is written, or, at times, refused.
        options = {"x265-params": "log-level=none:bframes=0"} | (options or {})

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000) if times else Fraction(1, fps)
        if title := tags.pop("title", ""):
            container.metadata["title"] = title
        turn, flips = tags.pop("turn", 0), tags.pop("flips", (False, False))
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        if turn or any(flips):
            stream.set_display_rotation(turn, hflip=flips[0], vflip=flips[1])
        for i, pixels in enumerate(frames):
            kind = {1: "rgb24", 2: "rgb48le"}[pixels.dtype.itemsize]
            frame = av.VideoFrame.from_ndarray(pixels, format=kind)
            frame.pts = times[i] if times else i
            frame.time_base = stream.codec_context.time_base
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path
