"""Means of measured numbers with their uncertainty, by group of frames and by yaw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

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
    """`summary` of each bin of ten degrees of yaw, by the bin's middle, ascending.

    Args:
      yaw_degrees: [T] true angles; bins are [-5, 5) and so on.
      values: [T].
    """
    middles = np.floor(np.asarray(yaw_degrees) / BIN_DEGREES + 0.5) * BIN_DEGREES
    found = {float(m): summary(np.asarray(values)[middles == m]) for m in np.unique(middles)}
    return {middle: value for middle, value in found.items() if value is not None}


def over_runs(summaries: Mapping[str, dict[str, Any] | None]) -> dict[str, Any] | None:
    """`summary` of the means of several runs, each counted once."""
    return summary(np.array([np.nan if s is None else s["mean"] for s in summaries.values()]))
