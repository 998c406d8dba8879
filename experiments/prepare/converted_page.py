"""Page by which a person judges frames whose cameras were brought into EG3D's world."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes

from experiments.prepare.drawing import with_axes
from experiments.prepare.page import SHEET_STYLE, cell, evenly, listing, next_step
from experiments.report.figures import COLOURS, INK, svg
from experiments.report.page import document, figure, pairs, section
from inversion.files import write_atomically
from inversion.foreign_cameras.convert import SPARE, ConvertedFrame, ConvertedFrames
from inversion.wording import degrees

_SHEET, _SIDE = 24, 320
_METHODS = {
    "face": "by the face in the pictures",
    "cameras": "by the cameras alone",
    "none": "in EG3D's world already",
}
_CAPTION = (
    "The axes point to the head's left (red), up (green) and forward (blue), from the middle of "
    "the head: where they do so on all frames, the cameras are right."
)
_DIRECTIONS = (
    "Directions from which the head is seen. Yaw is positive where the camera sees the head's left "
    "cheek, pitch where it looks from above."
)


def write_converted_page(path: Path, converted: ConvertedFrames, *, next_command: str) -> Path:
    """Write the page, all pictures embedded."""
    parts = [
        SHEET_STYLE,
        f"<h1>{html.escape(_title(converted))}</h1>",
        f'<p class="summary">{html.escape(_sentence(converted))}</p>',
        section("What was done", listing(converted.notes)),
        section("Frames", _sheet(converted.kept, converted.settings.size)),
        section("Directions", figure(_directions(converted.kept), _DIRECTIONS)),
        section("Left out", listing(_left_out(converted.frames))),
        section("Next", next_step(next_command)),
        section("Cameras", _details(converted)),
    ]
    page = document(f"{_title(converted)}: frames with cameras", parts)
    return write_atomically(path, page.encode())


def _title(converted: ConvertedFrames) -> str:
    source = converted.scene.source
    return (source if source.is_dir() else source.parent).resolve().name


def _sentence(converted: ConvertedFrames) -> str:
    yaw, pitch = ([getattr(f, name) for f in converted.kept] for name in ("yaw", "pitch"))
    turned, nodded = (f"{degrees(min(a))} to {degrees(max(a))}" for a in (yaw, pitch))
    return (
        f"{len(converted.kept)} of {len(converted.frames)} pictures with cameras of "
        f"{converted.scene.form}, aligned {_METHODS[converted.method]}, from {turned} of yaw and "
        f"{nodded} of pitch."
    )


def _sheet(kept: Sequence[ConvertedFrame], size: int) -> str:
    cells = []
    for i in evenly(len(kept), _SHEET):
        frame = kept[i]
        numbers = f"yaw {degrees(frame.yaw)}, pitch {degrees(frame.pitch)}"
        if frame.residual is not None:
            numbers += f", {frame.residual:.1f} px"
        drawn = with_axes(frame.pixels(min(size, _SIDE)), frame.label, _SIDE)
        name = frame.file.removesuffix(".png")
        cells.append(cell(drawn, f"{name} · {Path(frame.source).name}", numbers))
    return f'<div class="sheet">{"".join(cells)}</div><p class="note">{html.escape(_CAPTION)}</p>'


def _directions(kept: Sequence[ConvertedFrame]) -> str:
    yaw = [frame.yaw for frame in kept]

    def draw(axes: Sequence[Axes]) -> None:
        panels = (
            ("yaw, degrees", "pitch, degrees", yaw, [frame.pitch for frame in kept]),
            ("frame", "yaw, degrees", range(len(kept)), yaw),
        )
        for axis, (across, up, x, y) in zip(axes, panels, strict=True):
            axis.plot(x, y, ".", ms=6, color=COLOURS[1])
            axis.set_xlabel(across)
            axis.set_ylabel(up)
        axes[0].axvline(0, color=INK, alpha=0.3, linewidth=0.8)

    return svg(draw, panels=2, name="directions")


def _left_out(frames: Sequence[ConvertedFrame]) -> list[str]:
    return [f"{f.source}: {f.reason}" for f in frames if f.reason not in ("", SPARE)]


def _details(converted: ConvertedFrames) -> str:
    found = converted.similarity
    rows = " / ".join(" ".join(f"{v:.4f}" for v in row) for row in found.rotation)
    return pairs(
        {
            "cameras": str(converted.scene.source),
            "lengths times": f"{found.scale:.6g}",
            "turned by": rows,
            "shifted by": " ".join(f"{v:.4f}" for v in found.shift),
        }
    )
