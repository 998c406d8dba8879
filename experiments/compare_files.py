"""What a comparison leaves on disk: the table in three formats, curves, pictures, strips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from experiments.compare_pictures import ShownHead, write_pictures
from experiments.curves import Curve, curve_of, save_curves
from experiments.disk import write_atomically, write_json
from experiments.evaluation_files import METRICS, NO_NETWORK, Evaluated
from experiments.frames_io import Frames
from experiments.statistics import over_runs, summary
from experiments.tables import latex, markdown, write_csv
from experiments.versions import versions

MARK = "comparison.json"
FILES = ("table.md", "table.csv", "table.tex", "curves.svg", "curves.png", "views.png",
         "strips.png")  # fmt: skip
# Of the run as a whole; how much latents differ is known of several only.
_LATENTS = (
    ("depth_spread", "depth spread", 4),
    ("path_distance", "path step", 1),
    ("path_angle", "path angle", 1),
)
_CURVES = ("psnr", "lpips", "ms_ssim", "identity")


@dataclass(frozen=True, kw_only=True)
class Compared:
    """All runs of a comparison, measured.

    Attributes:
      heads, methods: names, in the order of tables and pictures.
      evaluated: the numbers of each (head, method).
      runs: their folders.
      frames: by head, its frames.
    """

    heads: Sequence[str]
    methods: Sequence[str]
    evaluated: Mapping[tuple[str, str], Evaluated]
    runs: Mapping[tuple[str, str], Path]
    frames: Mapping[str, Frames]

    def unseen(self, head: str) -> np.ndarray:
        """[T] frames of a head that no method was fitted to, the same for all methods."""
        return ~np.any([self.evaluated[head, m].fitted for m in self.methods], axis=0)

    @cached_property
    def numbers(self) -> dict[str, dict[str, Any]]:
        """By method: means over heads on all frames, on unseen ones, and of the latents."""
        found: dict[str, dict[str, Any]] = {}
        for method in self.methods:
            runs = {head: self.evaluated[head, method] for head in self.heads}
            row: dict[str, Any] = {}
            for name, _, _ in METRICS:
                known = {head: run for head, run in runs.items() if name in run.columns}
                every = {h: run.summaries[name]["all"] for h, run in known.items()}
                unseen = {h: summary(run.columns[name][self.unseen(h)]) for h, run in known.items()}
                if known:
                    row[name] = {"all": over_runs(every), "unseen": over_runs(unseen)}
            for name, _, _ in _LATENTS:
                values = [run.latents[name] for run in runs.values()]
                row[name] = summary(np.array([np.nan if v is None else v for v in values]))
            found[method] = row
        return found

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """The table as text: heading and a row a method."""
        shown = [m for m in METRICS if any(m[0] in row for row in self.numbers.values())]
        # Said in a column of its own where it was not measured.
        unknown = [] if any(name == "identity" for name, _, _ in shown) else ["identity"]
        heading = ["method"]
        heading += [f"{title}{where}" for _, title, _ in shown for where in ("", ", unseen")]
        heading += [*unknown, *(title for _, title, _ in _LATENTS)]
        rows = []
        for method, row in self.numbers.items():
            cells = [method]
            cells += [_mean(row[n][g], d) for n, _, d in shown for g in ("all", "unseen")]
            cells += [NO_NETWORK] * len(unknown)
            rows.append(cells + [_mean(row[name], digits) for name, _, digits in _LATENTS])
        return heading, rows

    def table(self) -> str:
        """Markdown."""
        heads = f"{len(self.heads)} head{'s' * (len(self.heads) > 1)}"
        return f"{markdown(*self.rows())}\nMeans over {heads}: {', '.join(self.heads)}.\n"


def write_comparison(folder: Path, compared: Compared) -> None:
    """Write all files; comparison.json last, so that it stands for a complete comparison."""
    heading, rows = compared.rows()
    write_atomically(folder / "table.md", compared.table().encode())
    write_csv(folder / "table.csv", heading, rows)
    write_atomically(folder / "table.tex", latex(heading, rows).encode())
    save_curves(folder, _panels(compared))
    write_pictures(folder, compared.methods, _shown_heads(compared))
    content = {
        "heads": compared.heads,
        "methods": compared.numbers,
        "runs": {f"{head}, {method}": run for (head, method), run in compared.runs.items()},
        "versions": versions(),
    }
    write_json(folder / MARK, content)


def _mean(found: Mapping[str, Any] | None, digits: int) -> str:
    return "-" if found is None else f"{found['mean']:.{digits}f}"


def _panels(compared: Compared) -> dict[str, list[Curve]]:
    """Each method's mean over the heads by yaw, every head counting once a bin; no bands."""
    panels = {}
    for name, heading, _ in METRICS:
        curves = []
        for method in compared.methods if name in _CURVES else ():
            runs = [compared.evaluated[head, method] for head in compared.heads]
            bins = [run.yaw_bins.get(name, {}) for run in runs]
            means = {
                middle: float(np.mean([found[middle]["mean"] for found in bins if middle in found]))
                for middle in sorted(set().union(*bins))
            }
            if means:
                plain = {m: {"mean": mean, "low": None, "high": None} for m, mean in means.items()}
                curves.append(curve_of(method, plain))
        if curves:
            panels[heading] = curves
    return panels


def _shown_heads(compared: Compared) -> list[ShownHead]:
    return [
        ShownHead(
            frames=compared.frames[head],
            runs=[compared.runs[head, method] for method in compared.methods],
            unseen=compared.unseen(head),
        )
        for head in compared.heads
    ]
