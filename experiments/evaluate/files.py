"""Files of an evaluation: metrics.json, CSV by frame and by yaw, a table, curves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from experiments.report.figures import Curve, curve_of, save_curves
from experiments.report.tables import by_yaw, markdown, over_runs, summary, write_csv
from experiments.runs.settings import versions
from inversion.evaluation import Evaluation, evaluate
from inversion.files import write_atomically, write_json
from inversion.frames.folder import Frames
from inversion.objectives import FeatureNetworks
from inversion.result import Inversion
from inversion.wording import decimals

MARK = "metrics.json"
FILES = ("frames.csv", "by_yaw.csv", "table.md", "curves.svg", "curves.png")
NO_NETWORK = "no network given"
GROUPS = ("all", "fitted", "in between", "beyond")
# Name, heading and digits.
METRICS = (
    ("mse", "MSE", 4),
    ("psnr", "PSNR, dB", 2),
    ("psnr_foreground", "PSNR of the head, dB", 2),
    ("lpips", "LPIPS", 4),
    ("ms_ssim", "MS-SSIM", 4),
    ("identity", "identity", 3),
    ("iou", "mask IoU", 3),
    ("depth_error", "depth error", 4),
    ("normal_error", "normal error, degrees", 2),
)
_CURVES = ("psnr", "lpips", "ms_ssim", "identity", "depth_error", "normal_error")


@dataclass(frozen=True, kw_only=True)
class Evaluated(Evaluation):
    """Evaluation of a run, summarised by group and by yaw.

    Attributes:
      name: of the run.
      identity_network: name of the file of the network of faces, or None.
      provenance: source and licence of the generator.
    """

    name: str
    identity_network: str | None
    provenance: Mapping[str, Any]

    @classmethod
    def of_run(
        cls,
        run: Path,
        inversion: Inversion,
        frames: Frames,
        networks: FeatureNetworks,
        identity: Path | None = None,
    ) -> Evaluated:
        """Measure a run; see `inversion.evaluate`.

        Args:
          run: its folder, for its name.
          inversion: its result.
          frames: to measure on.
          networks: to look through.
          identity: file of their network of faces, if they have one.
        """
        found = evaluate(inversion, frames, networks)
        return cls(
            **{field.name: getattr(found, field.name) for field in dataclasses.fields(found)},
            name=run.resolve().name,
            identity_network=None if identity is None else identity.name,
            provenance={key: inversion.metadata.get(key) for key in ("source", "license")},
        )

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """Groups of frames, [T] each: all; fitted; not fitted between and beyond these."""
        found = super().groups
        return {name: found[name] for name in GROUPS}

    def group_names(self) -> list[str]:
        """Name of each frame's group, [T]."""
        groups = self.groups
        return [next(g for g in GROUPS[1:] if groups[g][i]) for i in range(len(self.names))]

    @cached_property
    def summaries(self) -> dict[str, dict[str, Any]]:
        """Mean, interval and count by metric and group."""
        return {
            name: {group: summary(values[chosen]) for group, chosen in self.groups.items()}
            for name, values in self.columns.items()
        }

    @cached_property
    def yaw_bins(self) -> dict[str, dict[float, dict[str, Any]]]:
        """Mean, interval and count by metric and ten degrees of yaw."""
        return {name: by_yaw(self.yaw_degrees, values) for name, values in self.columns.items()}

    def content(self) -> dict[str, Any]:
        """All numbers, for metrics.json."""
        metrics: dict[str, Any] = dict(self.summaries)
        if self.identity_network is None:
            metrics["identity"] = NO_NETWORK
        return {
            "run": self.name,
            "latents": self.count,
            "identity_network": self.identity_network or NO_NETWORK,
            "generator": dict(self.provenance),
            "metrics": metrics,
            "between_latents": dict(self.latents),
            "by_yaw": self.yaw_bins,
            "versions": versions(),
        }

    def table(self) -> str:
        """Means and intervals as Markdown, a row a metric, a column a group."""
        counts = [f"{group} ({int(mask.sum())})" for group, mask in self.groups.items()]
        rows, summaries = [], self.summaries
        for name, heading, digits in METRICS:
            if name in summaries:
                rows.append([heading, *(_shown(s, digits) for s in summaries[name].values())])
            elif name == "identity":
                rows.append([heading, *[NO_NETWORK] * len(GROUPS)])
        text = markdown(["", *counts], rows)
        shown = {k: "-" if v is None else f"{v:.4g}" for k, v in self.latents.items()}
        return (
            f"{text}\n{self.count} latent{'s' * (self.count > 1)}: depth spread "
            f"{shown['depth_spread']} world units, path: {shown['path_distance']} from view to "
            f"view, turning {shown['path_angle']} degrees (180 is straight)\n"
        )


def write_evaluation(folder: Path, run: Evaluated) -> None:
    """Write one run's files; metrics.json last, so that it stands for a complete evaluation."""
    rows = zip(run.names, run.yaw_degrees, run.group_names(), *run.columns.values(), strict=True)
    write_csv(folder / "frames.csv", ["frame", "yaw_degrees", "group", *run.columns], rows)
    write_csv(folder / "by_yaw.csv", _YAW_COLUMNS, _yaw_rows(run))
    write_atomically(folder / "table.md", run.table().encode())
    save_curves(folder, _panels([run]))
    write_json(folder / MARK, run.content())


def write_overview(folder: Path, runs: Sequence[Evaluated]) -> None:
    """Write the comparison of several runs, in which each counts once."""
    summaries = {run.name: run.summaries for run in runs}
    known = [entry for entry in METRICS if any(entry[0] in s for s in summaries.values())]
    overall: dict[str, Any] = {}
    rows = []
    for group in GROUPS:
        for name, numbers in summaries.items():
            found = [numbers.get(metric, {}).get(group) for metric, _, _ in known]
            shown = [_shown(s, e[2]) for s, e in zip(found, known, strict=True)]
            rows.append([group, name, *shown])
        overall[group] = {
            metric: over_runs({k: s.get(metric, {}).get(group) for k, s in summaries.items()})
            for metric, _, _ in known
        }
        rows.append(
            [group, f"mean of {len(runs)}", *(_shown(overall[group][m], d) for m, _, d in known)]
        )
    text = markdown(["frames", "run", *(heading for _, heading, _ in known)], rows)
    write_atomically(folder / "table.md", text.encode())
    yaw_rows = [row for run in runs for row in _yaw_rows(run)]
    write_csv(folder / "by_yaw.csv", _YAW_COLUMNS, yaw_rows)
    save_curves(folder, _panels(runs))
    write_json(
        folder / MARK,
        {"runs": {run.name: run.content() for run in runs}, "mean_over_runs": overall},
    )


_YAW_COLUMNS = ("run", "metric", "yaw_degrees", "mean", "low", "high", "count")


def _yaw_rows(run: Evaluated) -> list[list[Any]]:
    return [
        [run.name, name, middle, *(s[key] for key in _YAW_COLUMNS[3:])]
        for name, bins in run.yaw_bins.items()
        for middle, s in bins.items()
    ]


def _panels(runs: Sequence[Evaluated]) -> dict[str, list[Curve]]:
    """Curves over yaw, a panel a metric, a curve a run."""
    panels = {}
    for name, heading, _ in METRICS:
        known = [run for run in runs if name in _CURVES and run.yaw_bins.get(name)]
        if known:
            panels[heading] = [curve_of(run.name, run.yaw_bins[name]) for run in known]
    return panels


def _shown(found: Mapping[str, Any] | None, digits: int) -> str:
    if found is None:
        return "-"
    text = decimals(found["mean"], digits)
    if found["low"] is None:
        return text
    return f"{text} [{decimals(found['low'], digits)}, {decimals(found['high'], digits)}]"
