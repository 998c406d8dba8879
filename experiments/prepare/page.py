"""Page by which a person judges prepared footage: what was found, and what is missing."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from experiments.prepare.drawing import drawn_frames, thumbnails
from experiments.progress import clock
from experiments.report.figures import COLOURS, INK, svg
from experiments.report.page import document, figure, image, pairs, section
from inversion.files import flatten_names, to_json, write_atomically
from inversion.footage.prepare import Footage
from inversion.footage.selection import FootageFrame, advice, is_spare
from inversion.wording import degrees

_SHEET, _SHEET_SIDE = 24, 320
_LEFT_OUT, _THUMBNAIL_SIDE = 48, 160
SHEET_STYLE = """<style>
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .9rem; }
.sheet.whole { grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
.sheet img { width: 100%; height: auto; display: block; border-radius: .3rem; }
.sheet figcaption { line-height: 1.3; padding-top: .25rem; }
pre { background: var(--panel); padding: .8rem 1rem; border-radius: .4rem; overflow-x: auto; }
ul.advice { padding-left: 1.2rem; }
</style>"""
_SHEET_CAPTION = (
    "Landmarks green, the person's face laid over them red: where both agree the camera is right. "
    "The axes point to the head's left (red), up (green) and forward (blue). In frames marked as "
    "tracked, where landmarks fail, points tracked in the picture give the camera."
)
_CURVES_CAPTION = (
    "Yaw is positive where the camera sees the head's left cheek, pitch where it looks from above. "
    "The residual is how far landmarks, or tracked points, are from where the head has them, in "
    "pixels of a window of 512; sharpness is in units of the best."
)


def write_page(path: Path, footage: Footage, *, next_command: str) -> Path:
    """Write the page of prepared footage, all pictures embedded."""
    return write_atomically(path, page(footage, next_command=next_command).encode())


def page(footage: Footage, *, next_command: str) -> str:
    """The page as HTML."""
    left_out = [f for f in footage.frames if not f.kept and not is_spare(f.reason)]
    parts = [
        SHEET_STYLE,
        f"<h1>{html.escape(footage.source.name)}</h1>",
        f'<p class="summary">{html.escape(" ".join(sentences(footage)))}</p>',
        section("What to film better", listing(advice(footage.kept))),
        section("What to know", listing(footage.notes)),
        section("Frames", _sheet(footage)),
        section("Directions and quality", figure(_curves(footage), _CURVES_CAPTION)),
        section(f"Left out ({len(left_out)})", _left_out(footage, left_out)),
        section("Next", next_step(next_command)),
        section("Settings and time", _details(footage)),
    ]
    return document(f"{footage.source.name}: prepared footage", parts)


def sentences(footage: Footage) -> list[str]:
    """Describe the frames that are kept."""
    kept, frames = footage.kept, footage.frames
    yaw, pitch = np.array([f.yaw for f in kept]), np.array([f.pitch for f in kept])
    tracked = sum(f.reached == "tracked" for f in kept)
    spare = sum(is_spare(f.reason) for f in frames)
    files = footage.source.files
    of = files[0].name if len(files) == 1 else f"{len(files)} photos"
    if footage.source.rate is not None:
        of = footage.source.name
    turned, nodded = (
        f"{degrees(angles.min())} to {degrees(angles.max())}" for angles in (yaw, pitch)
    )
    said = [
        f"{len(kept)} of {len(frames)} pictures of {of} are kept, from {turned} of yaw and "
        f"{nodded} of pitch."
    ]
    if spare:
        said.append(f"{spare} more are as good, but like these.")
    residuals = [f.residual for f in kept if f.reached == "landmarks"]
    if residuals:
        said.append(
            f"Landmarks are within {np.median(residuals):.1f} pixels of the face (median, of 512)."
        )
    if tracked:
        said.append(f"{tracked} frames were reached by tracking points.")
    return said


def listing(texts: Sequence[str]) -> str:
    """Format sentences as a list; nothing without any."""
    items = "".join(f"<li>{html.escape(text)}</li>" for text in texts)
    return f'<ul class="advice">{items}</ul>' if items else ""


def _sheet(footage: Footage) -> str:
    kept = footage.kept
    shown = [kept[i] for i in evenly(len(kept), _SHEET)]
    cells = [
        cell(pixels, f"{frame.file.removesuffix('.png')}{_time(frame)}", _numbers(frame))
        for frame, pixels in drawn_frames(footage, shown, _SHEET_SIDE)
    ]
    more = (
        f"{len(shown)} of {len(kept)} frames, evenly in order. " if len(shown) < len(kept) else ""
    )
    masked = " What masks leave out is dark." if footage.settings.mask else ""
    note = f'<p class="note">{html.escape(more + _SHEET_CAPTION + masked)}</p>'
    return f'<div class="sheet">{"".join(cells)}</div>{note}'


def _left_out(footage: Footage, frames: Sequence[FootageFrame]) -> str:
    if not frames:
        return ""
    kinds = Counter(frame.reason.split(":")[0] for frame in frames)
    counts = "; ".join(f"{kind} ({count})" for kind, count in kinds.most_common())
    shown = [frames[i] for i in evenly(len(frames), _LEFT_OUT)]
    cells = [
        cell(pixels, f"{_named(frame)}{_time(frame)}", frame.reason)
        for frame, pixels in thumbnails(footage, shown, _THUMBNAIL_SIDE)
    ]
    more = f" {len(shown)} of them:" if len(shown) < len(frames) else ""
    return f'<p>{html.escape(counts)}.{more}</p><div class="sheet whole">{"".join(cells)}</div>'


def cell(pixels: np.ndarray, *lines: str) -> str:
    """Format one picture of a sheet, with lines below it."""
    text = "<br>".join(html.escape(line) for line in lines)
    return f"<figure>{image(pixels, lines[0])}<figcaption>{text}</figcaption></figure>"


def _named(frame: FootageFrame) -> str:
    return f"picture {frame.index}" if frame.seconds is not None else frame.source


def _time(frame: FootageFrame) -> str:
    return f" · {frame.seconds:.2f} s" if frame.seconds is not None else f" · {frame.source}"


def _numbers(frame: FootageFrame) -> str:
    found = f"yaw {degrees(frame.yaw)}, pitch {degrees(frame.pitch)}"
    if np.isfinite(frame.residual):
        found += f", {frame.residual:.1f} px"
    return found + (", tracked" if frame.reached == "tracked" else "")


def evenly(count: int, most: int) -> list[int]:
    """At most so many indices of a list, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def _curves(footage: Footage) -> str:
    frames = [f for f in footage.frames if f.window is not None]
    groups = {
        "kept": [f for f in frames if f.kept],
        "kept, tracked": [f for f in frames if f.kept and f.reached == "tracked"],
        "as good": [f for f in frames if is_spare(f.reason)],
        "left out": [f for f in frames if not f.kept and not is_spare(f.reason)],
    }
    styles = {"kept": COLOURS[1], "kept, tracked": COLOURS[2], "as good": "#9aa4b0",
              "left out": COLOURS[5]}  # fmt: skip
    video = footage.source.video
    along = "time, s" if video else "photo"

    def place(frame: FootageFrame) -> float:
        return frame.index if frame.seconds is None else frame.seconds

    def draw(axes: Sequence[Axes]) -> None:
        panels = (
            (along, "yaw, degrees", place, lambda f: f.yaw),
            ("yaw, degrees", "pitch, degrees", lambda f: f.yaw, lambda f: f.pitch),
            (along, "residual, pixels of 512", place, lambda f: f.residual),
            (along, "sharpness", place, lambda f: f.sharpness),
        )
        for axis, (across, up, x, y) in zip(axes, panels, strict=True):
            for name in ("as good", "kept", "kept, tracked", "left out"):
                found = groups[name]
                axis.plot([x(f) for f in found], [y(f) for f in found], ".", ms=5,
                          color=styles[name], label=name if found else None)  # fmt: skip
            axis.set_xlabel(across)
            axis.set_ylabel(up)
        axes[1].axvline(0, color=INK, alpha=0.3, linewidth=0.8)
        axes[1].set_xlim(-95, 95)
        axes[1].set_ylim(-35, 35)
        axes[0].legend(frameon=False, fontsize=8, labelcolor=INK)

    return svg(draw, panels=4, name="footage")


def next_step(command: str) -> str:
    """Format the command to type next."""
    return (
        f"<pre><code>{html.escape(command)}</code></pre>"
        '<p class="note">For photographs add <code>--generator</code> with weights made by '
        "<code>eg3d-jax convert</code>: the embedded generator knows synthetic heads only.</p>"
    )


def _details(footage: Footage) -> str:
    settings = flatten_names(to_json(footage.settings))
    shown = {name: value for name, value in settings.items() if value is not None}
    seconds = {name: clock(value) for name, value in footage.seconds.items()}
    files = ", ".join(str(path) for path in footage.source.files[:3])
    return pairs({"footage": files, **shown, **seconds})
