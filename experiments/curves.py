"""Curves over yaw with their intervals, as files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.disk import write_atomically

COLOURS = ("#e07b39", "#2f7ed8", "#2a9d6f", "#a05cc5", "#c9a227", "#d1495b", "#222222")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line with a band.

    Attributes:
      label: in the legend.
      x: degrees of yaw.
      y: means.
      low, high: of the interval.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def curve_of(label: str, bins: Mapping[float, Mapping[str, Any]]) -> Curve:
    """A curve through the mean of each bin, by its middle; no band where `low`, `high` are None."""
    means = [found["mean"] for found in bins.values()]

    def bound(name: str) -> list[float]:
        return [
            mean if found[name] is None else found[name]
            for mean, found in zip(means, bins.values(), strict=True)
        ]

    return Curve(label=label, x=list(bins), y=means, low=bound("low"), high=bound("high"))


def save_curves(folder: Path, panels: Mapping[str, Sequence[Curve]]) -> None:
    """Write curves.svg and curves.png, a panel a metric."""
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.8 * columns, 3.1 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, (heading, curves) in zip(axes, panels.items(), strict=False):
        for i, curve in enumerate(curves):
            colour = COLOURS[i % len(COLOURS)]
            axis.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0)
            axis.plot(curve.x, curve.y, "o-", color=colour, ms=3, linewidth=1.6, label=curve.label)
        axis.set_xlabel("yaw, degrees")
        axis.set_ylabel(heading)
        axis.grid(alpha=0.2)
    axes[0].legend(frameon=False, fontsize=9)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for kind in ("svg", "png"):
        buffer = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {}
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "curves"}):
            figure.savefig(buffer, format=kind, dpi=130, metadata=metadata)
        write_atomically(folder / f"curves.{kind}", buffer.getvalue())
