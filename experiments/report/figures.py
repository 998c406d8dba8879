"""Figures of a report: curves over yaw and over steps, the path of latents."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from experiments.report.summary import Comparison, MethodResult
from inversion.files import write_atomically
from inversion.wording import degrees

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
    """Make a curve through the mean of each bin, by its middle; no band where limits are None."""
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


# Stands for "the page's text colour" until the SVG is written; no other colour here is near it.
INK = "#010203"
_MAX_POINTS = 300


def yaw_curves(comparison: Comparison) -> str:
    """Plot PSNR and LPIPS of each method over yaw, fitted frames marked by dots."""

    def draw(axes: Sequence[Axes]) -> None:
        panels = (("psnr", "PSNR, dB (higher is better)"), ("lpips", "LPIPS (lower is better)"))
        for axis, (metric, label) in zip(axes, panels, strict=True):
            for method in comparison.methods:
                _yaw_curve(axis, comparison, method, metric)
            for edge in (-comparison.side_degrees, comparison.side_degrees):
                axis.axvline(edge, color=INK, alpha=0.4, linewidth=0.8, linestyle=":")
            axis.set_xlabel("yaw, degrees")
            axis.set_ylabel(label)
        axes[0].legend(frameon=False, fontsize=9, labelcolor=INK)

    return svg(draw, panels=2, name="yaw")


def loss_curves(methods: Sequence[MethodResult]) -> str:
    """Plot loss terms of each method over its steps, logarithmic; empty without losses."""
    shown = [method for method in methods if method.losses]
    terms = list(dict.fromkeys(term for method in shown for term in method.losses))

    def draw(axes: Sequence[Axes]) -> None:
        for axis, method in zip(axes, shown, strict=True):
            for term, values in method.losses.items():
                values = np.asarray(values, np.float64)
                values = np.where(values > 0, values, np.nan)
                steps = np.unique(np.linspace(0, len(values) - 1, _MAX_POINTS).round().astype(int))
                colour = COLOURS[terms.index(term) % len(COLOURS)]
                axis.plot(steps, values[steps], label=term, color=colour, linewidth=1.2)
            axis.set_yscale("log")
            axis.set_title(method.name, fontsize=10, color=INK)
            axis.set_xlabel("step")
            axis.legend(frameon=False, fontsize=8, labelcolor=INK)

    return svg(draw, panels=len(shown), name="loss") if shown else ""


def path_of_latents(w_plus: ArrayLike, yaws: np.ndarray) -> str:
    """Plot the latents in the plane of their two principal directions, in order of angle.

    Args:
      w_plus: [K, L, D], K at least 2.
      yaws: [K] radians.
    """
    flat = np.asarray(w_plus, np.float64).reshape(len(yaws), -1)
    left, scale, _ = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    points = (left * scale)[:, :2]

    def draw(axes: Sequence[Axes]) -> None:
        axes[0].plot(*points.T, "o-", color=COLOURS[0], linewidth=1.2, ms=4)
        for point, yaw in zip(points, np.degrees(yaws), strict=True):
            axes[0].annotate(
                degrees(yaw), point, xytext=(4, 4), textcoords="offset points", fontsize=8,
                color=INK,
            )  # fmt: skip
        axes[0].set_aspect("equal", adjustable="datalim")
        axes[0].set_xlabel("first direction, units of w")
        axes[0].set_ylabel("second direction")

    return svg(draw, panels=1, name="path")


def _yaw_curve(axis: Axes, comparison: Comparison, method: MethodResult, metric: str) -> None:
    counts = sorted({len(m.fitted) for m in comparison.methods})
    style = {
        "color": COLOURS[counts.index(len(method.fitted)) % len(COLOURS)],
        "linestyle": "-" if method.tuned else "--",
        "linewidth": 1.6,
    }
    values = np.asarray(getattr(method, metric), np.float64)
    order = np.argsort(comparison.yaw_degrees, kind="stable")
    order = order[np.isfinite(values[order])]
    axis.plot(comparison.yaw_degrees[order], values[order], label=method.name, **style)
    fitted = [i for i in order if i in method.fitted]
    axis.plot(comparison.yaw_degrees[fitted], values[fitted], "o", color=style["color"], ms=4)


def svg(draw: Callable[[Sequence[Axes]], None], *, panels: int, name: str) -> str:
    """Draw panels, two in a row, as SVG in the page's own text colour, which is `INK` here.

    Args:
      draw: given the axes, one a panel.
      panels: how many.
      name: keeps the identifiers of several drawings on one page apart.
    """
    columns = min(panels, 2)
    rows = -(-panels // columns)
    figure = Figure(figsize=(4.8 * columns, 3.1 * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set_facecolor("none")
        axis.grid(color=INK, alpha=0.12)
        axis.tick_params(colors=INK, which="both", labelsize=9)
        axis.xaxis.label.set_color(INK)
        axis.yaxis.label.set_color(INK)
        for side, spine in axis.spines.items():
            spine.set_color(INK)
            spine.set_visible(side in ("left", "bottom"))
    draw(axes[:panels])
    for axis in axes[panels:]:
        axis.set_visible(False)
    figure.patch.set_alpha(0)
    buffer = io.StringIO()
    # The salt keeps the identifiers of several drawings on one page apart.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"([^>]*?)width="[^"]*"', r"<svg \1\2", text)
    text = re.sub(r'id="([^"]*)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    return text.replace(INK, "currentColor")
