"""Makespans of queues and splits, against ones that can be worked out."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eg3d_jax.errors import InputError
from experiments.benchmark import workers
from experiments.benchmark.workers import queue_seconds, split_seconds

TIMES = st.lists(st.floats(0.1, 100.0), min_size=1, max_size=30)


def test_a_queue_gives_each_video_to_the_first_that_is_free():
    times = [9.0, 1.0, 2.0, 3.0, 1.0]
    assert queue_seconds(times, [1.0, 1.0], start=5.0) == 5.0 + 9.0
    assert split_seconds(times, [1.0, 1.0], start=5.0) == 5.0 + 12.0
    # The second takes twice as long: it is free at 2, 6, 12, the first at 9.
    assert queue_seconds(times, [1.0, 2.0], start=0.0) == 12.0


@given(TIMES, st.integers(1, 9))
def test_a_queue_is_within_twice_the_best_there_can_be(times, count):
    """Graham's bound for list scheduling: 2 - 1 / m of the optimum."""
    least = max([*times, sum(times) / count])
    found = queue_seconds(times, [1.0] * count, start=0.0)
    assert least * (1 - 1e-9) <= found <= (2 - 1 / count) * least * (1 + 1e-9)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 3))
def test_no_assignment_is_faster_than_the_least_of_all(times, count):
    best = min(
        max(sum(t for t, w in zip(times, who, strict=True) if w == one) for one in range(count))
        for who in itertools.product(range(count), repeat=len(times))
    )
    for found in (queue_seconds, split_seconds):
        assert found(times, [1.0] * count, start=0.0) >= best


def test_the_command_reads_the_times_of_a_run(tmp_path, capsys):
    entries = [{"video": str(i), "status": "done", "seconds": 3600.0} for i in range(3)]
    entries.append({"video": "bad", "status": "failed", "seconds": 0.0})
    (tmp_path / "summary.json").write_text(json.dumps({"videos": entries}))
    workers.main(workers.Args(run=tmp_path, videos=8, workers=(1, 3), start=0.0))
    said = capsys.readouterr().out
    assert "| 1 | 8.00 | 8.00 | 0% | 100% |" in said
    assert "| 3 | 3.00 | 3.00 | 0% | 89% |" in said  # 8 / 3 of 3 hours


def test_a_folder_without_times_is_refused(tmp_path):
    with pytest.raises(InputError, match="no summary of several videos"):
        workers.main(workers.Args(run=tmp_path))
    (tmp_path / "summary.json").write_text('{"videos": []}')
    with pytest.raises(InputError, match="no times of videos that are done"):
        workers.main(workers.Args(run=tmp_path))
    with pytest.raises(InputError, match="--slow"):
        workers.main(workers.Args(run=tmp_path, slow=2.0))
