"""Tables as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments.disk import write_atomically


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A tabular with booktabs' rules."""

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
