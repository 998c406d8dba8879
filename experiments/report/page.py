"""Report page of a run: HTML in one readable column, pictures and video embedded."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from experiments.media.pictures import encode_jpeg, encode_png
from experiments.progress import clock
from experiments.report.camera_moves import CameraMoves, moves_table
from experiments.report.figures import loss_curves, yaw_curves
from experiments.report.latent_pictures import (
    MAPS_CAPTION,
    PATH_CAPTION,
    STRIP_CAPTION,
    LatentPictures,
)
from experiments.report.summary import GROUPS, Comparison, MethodResult
from inversion.files import flatten_names, to_json, write_atomically
from inversion.wording import decimals, rounded

STYLE = """
:root { color-scheme: light dark; --ink: #1d2127; --soft: #5b6470; --line: #d9dee4;
  --paper: #ffffff; --panel: #f4f6f8; --accent: #2f7ed8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --soft: #9aa4b0; --line: #363d46; --paper: #15181c; --panel: #1f242a; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; padding-bottom: .3rem;
  border-bottom: 1px solid var(--line); }
p { max-width: 46rem; }
.summary { background: var(--panel); border-left: 4px solid var(--accent);
  padding: .9rem 1.1rem; border-radius: 0 .4rem .4rem 0; max-width: none; }
.note, figcaption { color: var(--soft); font-size: .88rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { padding: .35rem .55rem; border-bottom: 1px solid var(--line); text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; text-align: center; }
tbody th { text-align: left; font-weight: 500; }
td.best { font-weight: 700; color: var(--accent); }
table.pictures th, table.pictures td { border: 0; padding: .2rem; text-align: center; }
table.pictures tbody th { text-align: left; padding-right: .8rem; color: var(--soft);
  font-size: .85rem; }
table.pictures img { display: block; width: 11rem; max-width: 28vw; border-radius: .3rem; }
table.pairs td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
figure { margin: 0; }
figure svg { width: 100%; height: auto; font-family: inherit; }
video { width: 100%; max-width: 40rem; border-radius: .4rem; background: #000; }
details { margin: .5rem 0; }
details > summary { cursor: pointer; font-weight: 500; }
@media print { main { max-width: none; } details { display: block; } }
"""


_EMBEDDED_VIDEO_BYTES = 4 * 2**20
# Small pictures are kept exactly; large ones would make the page heavy.
_PNG_SIDE = 160
_HEADINGS = {"psnr": "PSNR", "psnr_foreground": "head", "lpips": "LPIPS"}
_DIGITS = {"psnr": 2, "psnr_foreground": 2, "lpips": 3}


@dataclass(frozen=True, kw_only=True)
class PictureRow:
    """One line of pictures, uint8 [h, w, 3] each, and the text before it."""

    label: str
    pictures: Sequence[np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Content of the page.

    Attributes:
      title: heading of the page.
      intro: one or two sentences on what was done: which frames, which generator.
      comparison: the methods and their numbers; the summary and the curves follow from it.
      columns: headings of the pictures, e.g. target, inversion, depth.
      rows: pictures of some frames.
      moves: of the frames' cameras by a refinement, or None.
      latents: of several latents, what is shown of them, or None.
      video: the turntable on disk, or None.
      video_caption: what it shows.
      settings: everything the run was started with, nested.
      versions: of packages and machine.
      seconds: wall time by stage.
      notes: further remarks, e.g. what the depth colours mean.
    """

    title: str
    intro: str
    comparison: Comparison
    columns: Sequence[str] = ()
    rows: Sequence[PictureRow] = ()
    moves: CameraMoves | None = None
    latents: LatentPictures | None = None
    video: Path | None = None
    video_caption: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()


def write_report(path: Path, report: Report) -> Path:
    """Write the page; a video of more than 4 MB is linked beside it, anything else embedded."""
    return write_atomically(path, render(report, folder=path.parent).encode())


def render(report: Report, *, folder: Path) -> str:
    """Render the page as HTML.

    Args:
      report: its content.
      folder: where it will lie, for the link to a large video.
    """
    title = html.escape(report.title)
    summary = " ".join(report.comparison.sentences())
    parts = [
        f"<h1>{title}</h1>",
        f"<p>{html.escape(report.intro)}</p>",
        f'<p class="summary">{html.escape(summary)}</p>',
        section("Numbers", _table(report.comparison) + _table_notes(report.comparison)),
        section("Quality over yaw", figure(yaw_curves(report.comparison), _YAW_CAPTION)),
        section("Pictures", _pictures(report)),
        section("Refined cameras", moves_table(report.moves) if report.moves else ""),
        section("Between the latents", _latents(report.latents)),
        section("Turntable", _video(report, folder)),
        section("Losses", figure(loss_curves(report.comparison.methods), _LOSS_CAPTION)),
        section("Remarks", "".join(f"<p>{html.escape(note)}</p>" for note in report.notes)),
        section("Time", _time(report)),
        section("Settings and versions", _details(report)),
    ]
    return document(report.title, parts)


def link_head(report: Path, name: str) -> None:
    """Link the page of the head, which lies in the report's folder, before the first section."""
    text = report.read_text(encoding="utf-8")
    link = f'<p><a href="{html.escape(name)}">Turn the head in the browser.</a></p>\n'
    if link not in text:
        write_atomically(report, text.replace("<section>", f"{link}<section>", 1).encode())


def document(title: str, parts: Sequence[str]) -> str:
    """Format a whole page in the style of all reports: a title, and HTML of its parts."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


_YAW_CAPTION = (
    "The inversion rendered from each frame's camera, compared with the frame. Dots mark the "
    "frames a method was fitted to; solid lines are tuned generators, dashed lines latents alone; "
    "the dotted uprights bound the side views of the table."
)
_LOSS_CAPTION = "Unweighted loss terms of each step, logarithmic."


def section(heading: str, content: str) -> str:
    """Format a part of a page; nothing without content."""
    return f"<section>\n<h2>{heading}</h2>\n{content}\n</section>" if content else ""


def figure(shown: str, caption: str) -> str:
    """Format a drawing or picture, HTML, with its caption; nothing without one."""
    return f"<figure>{shown}<figcaption>{caption}</figcaption></figure>" if shown else ""


def _table(comparison: Comparison) -> str:
    metrics = _shown_metrics(comparison)
    spans = "".join(
        f'<th colspan="{len(metrics)}" scope="colgroup">{_group_heading(comparison, group)}</th>'
        for group in GROUPS
    )
    names = "".join(f'<th scope="col">{_HEADINGS[m]}</th>' for m in metrics) * len(GROUPS)
    body = "".join(_table_row(comparison, method, metrics) for method in comparison.methods)
    return (
        f'<div class="wide"><table><thead><tr><th rowspan="2" scope="col">method</th>{spans}'
        f'<th rowspan="2" scope="col">time</th></tr><tr>{names}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _table_row(comparison: Comparison, method: MethodResult, metrics: Sequence[str]) -> str:
    cells = []
    for group in GROUPS:
        for metric in metrics:
            value = comparison.mean(metric, group, method)
            best = group != "fitted" and _is_best(comparison, metric, group, value)
            text = "–" if value is None else decimals(value, _DIGITS[metric])
            cells.append(f'<td class="best">{text}</td>' if best else f"<td>{text}</td>")
    name = html.escape(method.name)
    return f'<tr><th scope="row">{name}</th>{"".join(cells)}<td>{clock(method.seconds)}</td></tr>'


def _is_best(comparison: Comparison, metric: str, group: str, value: float | None) -> bool:
    means = [comparison.mean(metric, group, method) for method in comparison.methods]
    known = [rounded(mean, _DIGITS[metric]) for mean in means if mean is not None]
    if value is None or len(known) < 2:
        return False
    return rounded(value, _DIGITS[metric]) == (min(known) if metric == "lpips" else max(known))


def _shown_metrics(comparison: Comparison) -> list[str]:
    foreground = any(method.psnr_foreground is not None for method in comparison.methods)
    return [metric for metric in _HEADINGS if foreground or metric != "psnr_foreground"]


def _group_heading(comparison: Comparison, group: str) -> str:
    if group == "fitted" or not comparison.methods:
        return "own fitted frames"
    count = int(comparison.group(group, comparison.methods[0]).sum())
    side = f", |yaw| &gt; {comparison.side_degrees:g}°" if group == GROUPS[2] else ""
    return f"not fitted{side}<br>({count} frames)"


def _table_notes(comparison: Comparison) -> str:
    foreground = "psnr_foreground" in _shown_metrics(comparison)
    head = " “head” is the PSNR of the head's pixels alone." if foreground else ""
    return (
        '<p class="note">Means over frames; PSNR in dB, higher is better; LPIPS lower is better; '
        "the best of each column of frames not fitted is bold. “Not fitted” are the frames that "
        f"none of the methods was fitted to.{head} Time is that of the fitting.</p>"
    )


def _pictures(report: Report) -> str:
    if not report.rows:
        return ""
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in report.columns)
    body = "".join(
        f'<tr><th scope="row">{html.escape(row.label)}</th>'
        + "".join(f"<td>{image(p, row.label)}</td>" for p in row.pictures)
        + "</tr>"
        for row in report.rows
    )
    return (
        f'<div class="wide"><table class="pictures"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _latents(shown: LatentPictures | None) -> str:
    if shown is None:
        return ""
    strip = figure(image(shown.strip, "strip"), STRIP_CAPTION)
    maps = figure(image(shown.maps, "maps"), MAPS_CAPTION)
    return strip + maps + figure(shown.path, PATH_CAPTION)


def image(picture: np.ndarray, text: str) -> str:
    """Embed a picture, uint8 [h, w, 3], with the text that stands for it."""
    small = max(picture.shape[:2]) <= _PNG_SIDE
    kind, data = ("png", encode_png(picture)) if small else ("jpeg", encode_jpeg(picture))
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return f'<img src="{source}" alt="{html.escape(text)}">'


def _video(report: Report, folder: Path) -> str:
    if report.video is None:
        return ""
    if report.video.stat().st_size <= _EMBEDDED_VIDEO_BYTES:
        data = base64.b64encode(report.video.read_bytes()).decode()
        source = f"data:video/mp4;base64,{data}"
    else:
        source = Path(os.path.relpath(report.video, folder)).as_posix()
    return (
        f'<figure><video controls loop autoplay muted playsinline src="{html.escape(source)}">'
        f"</video><figcaption>{html.escape(report.video_caption)}</figcaption></figure>"
    )


def _time(report: Report) -> str:
    if not report.seconds:
        return ""
    seconds = {**report.seconds, "all together": sum(report.seconds.values())}
    return pairs({name: clock(value) for name, value in seconds.items()}) + (
        '<p class="note">Minutes and seconds of wall time, compilation included.</p>'
    )


def _details(report: Report) -> str:
    parts = [("Settings", flatten_names(to_json(report.settings))), ("Versions", report.versions)]
    return "".join(
        f"<details><summary>{name}</summary>{pairs(values)}</details>"
        for name, values in parts
        if values
    )


def pairs(values: Mapping[str, Any]) -> str:
    """Format a table of names and values."""
    rows = "".join(
        f'<tr><th scope="row">{html.escape(str(k))}</th><td>{html.escape(str(v))}</td></tr>'
        for k, v in values.items()
    )
    return f'<div class="wide"><table class="pairs"><tbody>{rows}</tbody></table></div>'
