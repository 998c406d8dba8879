"""Status of each of several videos, and the summary of all: JSON, a table, a page of links."""

from __future__ import annotations

import fcntl
import html
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from eg3d_jax.errors import InputError
from experiments.progress import clock
from experiments.report.page import STYLE
from experiments.report.summary import GROUPS, Comparison
from experiments.report.tables import markdown
from experiments.runs.folder import RunFolder
from inversion.files import to_json, write_atomically, write_json
from inversion.wording import decimals

_FOLDER, _MARK, _FORMAT = ".outcomes", "videos.json", "eg3d_jax videos 1"
# Of a run kept at a URL what whoever started it writes, as a regular expression.
SUMMARY_FILES = r"[^/]+|\.outcomes/[^/]+\.json"
_HEADING = ("video", "status", "PSNR fitted", "PSNR not fitted", "LPIPS not fitted", "minutes")
_NUMBERS = (("psnr", GROUPS[0], 2), ("psnr", GROUPS[1], 2), ("lpips", GROUPS[1], 3))

Status = Literal["waiting", "done", "stopped early", "failed"]


@dataclass(frozen=True, kw_only=True)
class VideoStatus:
    """Status of one of several videos.

    Attributes:
      video: its name.
      status: 'stopped early' if a stage ended at its last finite state; the result is usable.
      message: why it failed or what stopped; empty if nothing did.
      seconds: wall time, its share of what was done together.
      result: of its last method, as in metrics.json; None if there is no result.
    """

    video: str
    status: Status
    message: str = ""
    seconds: float = 0.0
    result: Mapping[str, Any] | None = None


def finished_status(
    video: str, compared: Comparison, stopped: Sequence[str], seconds: float
) -> VideoStatus:
    """Status of a video that has a result."""
    return VideoStatus(
        video=video,
        status="stopped early" if stopped else "done",
        message="; ".join(stopped),
        seconds=seconds,
        result=to_json(compared.numbers()[-1]),
    )


class SummaryFolder:
    """Folder of a run of several videos: the status of each, one file a video, and their summary.

    Several processes may write: each its videos' files, and the last of them the whole summary.
    """

    def __init__(self, folder: Path, names: Sequence[str]):
        self.folder, self.names = folder, tuple(names)

    @staticmethod
    def has_run(folder: Path) -> bool:
        """Whether a folder holds a run of several videos."""
        return (folder / _MARK).exists()

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Refuse a folder in which these videos must not be inverted; nothing is written.

        Raises:
          InputError: if it holds another run that is neither to be resumed nor overwritten.
        """
        begun = self.has_run(self.folder)
        if RunFolder.has_run(self.folder):
            raise InputError(f"{self.folder} holds a run of one video; choose another --run")
        if begun and not (resume or overwrite):
            raise InputError(
                f"{self.folder} holds a run of several videos already; continue it with --resume, "
                "or choose another --run"
            )
        if resume and not begun:
            raise InputError(
                f"{self.folder} holds no run of several videos to resume; start it without --resume"
            )

    def prepare(self) -> None:
        """Write down, in the folder, which videos it is for."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / _MARK, {"format": _FORMAT, "videos": self.names})

    def clear(self, names: Iterable[str]) -> None:
        """Remove the status of videos of an earlier run."""
        for name in names:
            self._file(name).unlink(missing_ok=True)

    def read(self, name: str) -> VideoStatus:
        """Read the status of a video; 'waiting' if it has not ended yet."""
        try:
            return VideoStatus(**json.loads(self._file(name).read_text()))
        except (OSError, ValueError, TypeError):
            return VideoStatus(video=name, status="waiting")

    def write(self, entry: VideoStatus) -> None:
        """Write the status of a video, and the summary of all anew."""
        with self._locked():
            write_json(self._file(entry.video), entry)
            self._summarise()

    def summarise(self) -> list[VideoStatus]:
        """Write summary.json, summary.md and index.html."""
        with self._locked():
            return self._summarise()

    def _summarise(self) -> list[VideoStatus]:
        entries = [self.read(name) for name in self.names]
        write_json(self.folder / "summary.json", {"videos": entries})
        rows = [_row(entry) for entry in entries]
        write_atomically(self.folder / "summary.md", markdown(_HEADING, rows).encode())
        write_atomically(self.folder / "index.html", _page(self.folder, entries).encode())
        return entries

    def _file(self, name: str) -> Path:
        return self.folder / _FOLDER / f"{name}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Here, as a process may have something to write before the first one prepares the folder.
        (self.folder / _FOLDER).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / _FOLDER / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def table(entries: Sequence[VideoStatus]) -> str:
    """Format the table of all videos as text, with messages of failures below."""
    said = [f"{o.video}: {o.message}\n" for o in entries if o.message]
    return markdown(_HEADING, [_row(entry) for entry in entries]) + "".join(said)


def _row(entry: VideoStatus) -> list[str]:
    groups = (entry.result or {}).get("groups", {})
    cells = [groups.get(group, {}).get(metric) for metric, group, _ in _NUMBERS]
    shown = [
        "–" if value is None else decimals(value, digits)
        for value, (_, _, digits) in zip(cells, _NUMBERS, strict=True)
    ]
    return [entry.video, entry.status, *shown, clock(entry.seconds)]


def _page(folder: Path, entries: Sequence[VideoStatus]) -> str:
    heading = "".join(f"<th>{html.escape(cell)}</th>" for cell in (*_HEADING, ""))
    ended = sum(entry.status != "waiting" for entry in entries)
    bad = sum(entry.status in ("failed", "stopped early") for entry in entries)
    said = f"{ended} of {len(entries)} videos have ended, {bad} of them not as they should."
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{html.escape(folder.name)}</title>\n<style>{STYLE}</style>\n</head>\n<body><main>"
        f'<h1>{html.escape(folder.name)}</h1><p class="summary">{said}</p>\n'
        f'<div class="wide"><table><thead><tr>{heading}</tr></thead>\n<tbody>\n'
        + "\n".join(_page_row(folder, entry) for entry in entries)
        + "\n</tbody></table></div></main></body>\n</html>\n"
    )


def _page_row(folder: Path, entry: VideoStatus) -> str:
    name, *cells = map(html.escape, _row(entry))
    # Of a run kept at a URL the videos' files are not here.
    if entry.result is not None or (folder / entry.video / "report.html").is_file():
        name = f'<a href="{quote(entry.video)}/report.html">{name}</a>'
    note = html.escape(entry.message)
    picture = folder / entry.video / "pictures" / "views.png"
    if entry.result is not None or picture.is_file():
        source = quote(f"{entry.video}/pictures/views.png")
        note += f'<a href="{source}"><img src="{source}" alt="" loading="lazy" height="160"></a>'
    return f"<tr><th>{name}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}<td>{note}</td></tr>"
