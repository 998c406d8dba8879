"""What a comparison leaves on disk: the table in three formats, curves, pictures, strips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from experiments.compare.claims import claims, claims_table
from experiments.compare.pictures import ShownHead, write_pictures
from experiments.evaluate.files import METRICS, NO_NETWORK, Evaluated
from experiments.report.figures import Curve, curve_of, save_curves
from experiments.report.tables import latex, markdown, summary, write_csv
from experiments.runs.settings import versions
from inversion.evaluation import frame_groups, mean_over
from inversion.files import write_atomically, write_json
from inversion.frames.folder import Frames
from inversion.wording import decimals

MARK = "comparison.json"
FILES = ("table.md", "numbers.csv", "table.tex", "curves.svg", "curves.png", "views.png",
         "strips.png")  # fmt: skip
# By their names in the tables, of `frame_groups`.
_GROUPS = {"all": "all", "fitted": "fitted", "unseen": "not fitted"}
GROUPS = tuple(_GROUPS)
# Of the run as a whole; how much latents differ is known of several only.
_LATENTS = (
    ("depth_spread", "depth spread", 4),
    ("path_distance", "path step", 1),
    ("path_angle", "path angle", 1),
)
_NAMES = frozenset(name for name, _, _ in METRICS)
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

    def value(self, head: str, method: str, name: str, group: str) -> float:
        """The mean of a metric over a group of frames, or a number of the latents; NaN if unknown.

        Args:
          head: of which run.
          method: of which run.
          name: of `METRICS`, or of what is known of several latents.
          group: of `GROUPS`; 'fitted' frames are those that any method was fitted to.
        """
        run = self.evaluated[head, method]
        if name not in _NAMES:
            found = run.latents.get(name)
            return float("nan") if found is None else found
        if name not in run.columns:
            return float("nan")
        groups = frame_groups(run.yaw_degrees, ~self.unseen(head))
        mean = mean_over(run.columns[name], groups[_GROUPS[group]])
        return float("nan") if mean is None else mean

    @cached_property
    def numbers(self) -> dict[str, dict[str, Any]]:
        """By method, metric and group: mean and interval over the heads, and their deviation."""
        return {
            method: {
                **{n: {g: self._over_heads(method, n, g) for g in GROUPS} for n in self._shown()},
                **{n: self._over_heads(method, n, "all") for n, _, _ in _LATENTS},
            }
            for method in self.methods
        }

    def _over_heads(self, method: str, name: str, group: str) -> dict[str, Any] | None:
        values = np.array([self.value(head, method, name, group) for head in self.heads])
        values = values[~np.isnan(values)]
        found = summary(values)
        if found is not None:
            found["deviation"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return found

    def _shown(self) -> list[str]:
        """Metrics that any run has."""
        runs = self.evaluated.values()
        return [name for name, _, _ in METRICS if any(name in run.columns for run in runs)]

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """The table as text: heading, and a row a method for each group of frames."""
        shown = [m for m in METRICS if m[0] in self._shown()]
        # Said in a column of its own where it was not measured.
        unknown = [] if any(name == "identity" for name, _, _ in shown) else ["identity"]
        heading = ["frames", "method", *(title for _, title, _ in shown), *unknown]
        heading += [title for _, title, _ in _LATENTS]
        rows = []
        for group in GROUPS:
            for method, row in self.numbers.items():
                cells = [_mean(row[n][group], d) for n, _, d in shown]
                cells += [NO_NETWORK] * len(unknown)
                latents = [_mean(row[n], d) if group == GROUPS[0] else "" for n, _, d in _LATENTS]
                rows.append([group, method, *cells, *latents])
        return heading, rows

    def text(self) -> str:
        """The table and what it says of the paper's claims, as Markdown."""
        heads = f"{len(self.heads)} head{'s' * (len(self.heads) > 1)}"
        said = f"Means and standard deviations over {heads}: {', '.join(self.heads)}.\n"
        found = claims(self.methods, self.heads, self.value)
        return "\n".join([markdown(*self.rows()), said, *([claims_table(found)] * bool(found))])


def write_comparison(folder: Path, compared: Compared) -> None:
    """Write all files; comparison.json last, so that it stands for a complete comparison."""
    heading, rows = compared.rows()
    write_atomically(folder / "table.md", compared.text().encode())
    columns = ["head", "method", "frames", *(name for name, _, _ in (*METRICS, *_LATENTS))]
    write_csv(folder / "numbers.csv", columns, _every_number(compared, columns[3:]))
    write_atomically(folder / "table.tex", latex(heading, rows).encode())
    save_curves(folder, _panels(compared))
    write_pictures(folder, compared.methods, _shown_heads(compared))
    content = {
        "heads": compared.heads,
        "methods": compared.numbers,
        "claims": claims(compared.methods, compared.heads, compared.value),
        "runs": {f"{head}, {method}": run for (head, method), run in compared.runs.items()},
        "versions": versions(),
    }
    write_json(folder / MARK, content)


def _every_number(compared: Compared, names: Sequence[str]) -> list[list[Any]]:
    """A row for each run and group."""
    return [
        [head, method, group, *(compared.value(head, method, name, group) for name in names)]
        for head in compared.heads
        for method in compared.methods
        for group in GROUPS
    ]


def _mean(found: Mapping[str, Any] | None, digits: int) -> str:
    if found is None:
        return "-"
    deviation = found["deviation"]
    spread = "" if deviation is None else f" ± {decimals(deviation, digits)}"
    return f"{decimals(found['mean'], digits)}{spread}"


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
