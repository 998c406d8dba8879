"""Means, their intervals, and bins of yaw."""

import numpy as np
import pytest

from experiments.report.tables import by_yaw, over_runs, summary


def test_the_interval_of_the_mean_is_about_two_standard_errors():
    values = np.random.default_rng(1).standard_normal(400)
    found = summary(values)
    assert found["mean"] == pytest.approx(values.mean())
    assert found["count"] == 400
    # 2,000 resamples find the ends of the interval to a few hundredths of its width.
    width = 2 * 1.96 * values.std() / 20
    assert found["high"] - found["low"] == pytest.approx(width, rel=0.1)
    assert found["low"] < found["mean"] < found["high"]
    assert summary(values) == found


def test_few_and_unknown_numbers():
    assert summary(np.array([np.nan])) is None
    assert summary(np.array([])) is None
    assert summary(np.array([3.0, np.nan])) == {"mean": 3.0, "low": None, "high": None, "count": 1}
    equal = summary(np.array([2.0, 2.0, 2.0]))
    assert (equal["mean"], equal["low"], equal["high"]) == (2.0, 2.0, 2.0)


def test_bins_are_ten_degrees_about_their_middle():
    yaw = np.array([-15.1, -15.0, -5.0, 4.9, 5.0, 14.9])
    found = by_yaw(yaw, np.array([1.0, 2.0, 3.0, 5.0, 7.0, np.nan]))
    assert {middle: s["mean"] for middle, s in found.items()} == {-20: 1, -10: 2, 0: 4, 10: 7}


def test_each_run_counts_once():
    found = over_runs({"long": {"mean": 1.0}, "short": {"mean": 3.0}, "without": None})
    assert (found["mean"], found["count"]) == (2.0, 2)
