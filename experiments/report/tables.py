"""Means of measured numbers with their uncertainty, by group of frames and by yaw."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from inversion.files import write_atomically

_RESAMPLES, _LEVEL = 2000, 0.95
BIN_DEGREES = 10.0


def summary(values: np.ndarray) -> dict[str, Any] | None:
    """Mean and 95 % interval of independent numbers, NaNs left out.

    Percentile bootstrap of the mean with fixed draws. Neighbouring frames of a video are alike, so
    an interval over frames is about the frames of that video, not about other heads.

    Returns:
      mean, low, high and count, low and high None where there is no interval: of one number, or if
      one is infinite. None of no number.
    """
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    found: dict[str, Any] = {"mean": float(values.mean()), "low": None, "high": None}
    if len(values) > 1 and np.all(np.isfinite(values)):
        interval = stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=_RESAMPLES,
            confidence_level=_LEVEL,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        found |= {"low": float(interval.low), "high": float(interval.high)}
    return {**found, "count": len(values)}


def by_yaw(yaw_degrees: np.ndarray, values: np.ndarray) -> dict[float, dict[str, Any]]:
    """Compute `summary` of each bin of ten degrees of yaw, by the bin's middle, ascending.

    Args:
      yaw_degrees: [T] true angles; bins are [-5, 5) and so on.
      values: [T].
    """
    middles = np.floor(np.asarray(yaw_degrees) / BIN_DEGREES + 0.5) * BIN_DEGREES
    found = {float(m): summary(np.asarray(values)[middles == m]) for m in np.unique(middles)}
    return {middle: value for middle, value in found.items() if value is not None}


def over_runs(summaries: Mapping[str, dict[str, Any] | None]) -> dict[str, Any] | None:
    """Compute `summary` of the means of several runs, each counted once."""
    return summary(np.array([np.nan if s is None else s["mean"] for s in summaries.values()]))


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a tabular with booktabs' rules."""

    def line(cells: Sequence[str]) -> str:
        escaped = (cell.replace("&", r"\&").replace("%", r"\%").replace("_", r"\_")
                   for cell in cells)  # fmt: skip
        return " & ".join(escaped) + r" \\"

    body = [line(heading), r"\midrule", *map(line, rows)]
    columns = "l" + "r" * (len(heading) - 1)
    start, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    return "\n".join([start, r"\toprule", *body, r"\bottomrule", end, ""])


def write_csv(path: Path, heading: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV, floats of any kind with all their digits, None as an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heading)
    for row in rows:
        writer.writerow(float(x) if isinstance(x, float) else x for x in row)
    write_atomically(path, text.getvalue().encode())
