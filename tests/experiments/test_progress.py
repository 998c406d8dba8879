"""Progress is a live bar on a terminal and a few plain lines elsewhere."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from experiments import progress
from experiments.invert import batch
from experiments.invert.batch import RunMonitor
from experiments.progress import CommandMonitor, Progress, clock


def _progress(*, terminal):
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120, soft_wrap=not terminal)
    return Progress(console=console), file


@pytest.fixture
def wait(monkeypatch):
    """Lets seconds pass; no others do."""
    now = [0.0]
    for module in (progress, batch):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def wait(seconds):
        now[0] += seconds

    return wait


def test_plain_output_is_rare_and_ends_with_the_last_step(wait):
    shown, file = _progress(terminal=False)
    with shown.stage("latent", 20) as stage:
        for step in range(1, 21):
            wait(2.0)
            stage.update(step, {"pixel": np.array([9.0, 1 / step])})
    lines = file.getvalue().splitlines()
    assert 3 <= len(lines) <= 8
    assert " left  pixel" in lines[0]
    assert lines[-1] == "latent: step 20/20  pixel 0.05"


def test_a_monitor_shows_what_a_computation_tells(wait):
    shown, file = _progress(terminal=False)
    monitor = CommandMonitor(shown)
    with monitor.task("statistics", "a"):
        wait(1.5)
    with monitor.stages(["a", ""], ["latent", "tuning"], 20, [0, 10]):
        wait(20.0)
        monitor.steps("a", "latent", 0, {"pixel": np.array([0.5, 0.25])})
        monitor.steps("", "tuning", 10, {"pixel": np.arange(10.0)})
    monitor.say("it ended", "a")
    monitor.say("all ended")
    assert file.getvalue().splitlines() == [
        "a: statistics ...",
        "a: statistics: 1.5 s",
        "a: latent: step 2/20, 3:00 left  pixel 0.25",
        "tuning: step 20/20  pixel 9",
        "a: it ended",
        "all ended",
    ]
    assert not monitor.stop_requested()


def test_a_terminal_sees_stage_step_losses_and_time_left():
    shown, file = _progress(terminal=True)
    with shown.stage("latent", 20, done=5) as stage:
        stage.update(20, {"pixel": 0.125})
    output = file.getvalue()
    for text in ("latent", "20/20", "pixel 0.125", "left"):
        assert text in output


def test_a_table_has_a_row_for_each_video_from_start_to_end():
    shown, file = _progress(terminal=True)
    with shown.table(["a", "b"]):
        assert "a: waiting" in _screen(shown, file)
        with shown.stages(["a: latent", "b: latent"], 20, done=[0, 5]) as stages:
            stages[1].update(10, {"pixel": 0.125})
            screen = _screen(shown, file)
            assert "10/20" in screen
            assert "pixel 0.125" in screen
            assert "waiting" not in screen
        with shown.task("a: pictures"), shown.task("of all"):  # the second has no row
            assert "a: pictures" in _screen(shown, file)
        shown.end_row("a", "done")
        shown.end_row("c", "done")  # of no row
        screen = _screen(shown, file)
    assert "a: done" in screen
    assert "b: latent" in screen
    assert screen.count("a: ") == 1


def _screen(shown, file) -> str:
    """What the live lines look like now."""
    file.truncate(file.seek(0))
    next(iter((shown._table or {}).values())).bars.refresh()
    return file.getvalue()


def test_tasks_are_timed_and_named(wait):
    for terminal in (False, True):
        shown, file = _progress(terminal=terminal)
        with shown.task("statistics"):
            shown.say("[not] markup")
            wait(2.0)
        assert "statistics: 2.0 s" in file.getvalue()
        assert "[not] markup" in file.getvalue()


def test_a_failed_task_is_not_reported_as_done():
    shown, file = _progress(terminal=False)
    with pytest.raises(RuntimeError), shown.task("statistics"):
        raise RuntimeError
    assert " s\n" not in file.getvalue()


def test_a_run_knows_the_seconds_of_what_it_was_told(wait):
    monitor = RunMonitor(CommandMonitor(_progress(terminal=False)[0]))
    for _ in range(2):  # of one name they add up
        with monitor.task("statistics", "a"):
            wait(2.0)
    with pytest.raises(RuntimeError), monitor.task("pictures"):
        raise RuntimeError
    monitor.note("a", {"3 views, latent": 5.0})
    # A video whose name begins another's keeps its own.
    monitor.note("a: b", {"3 views, latent": 7.0})
    assert monitor.seconds == {
        "a": {"statistics": 4.0, "3 views, latent": 5.0},
        "": {"pictures": 0.0},
        "a: b": {"3 views, latent": 7.0},
    }


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (83, "1:23"), (59.7, "1:00")])
def test_clock(seconds, text):
    assert clock(seconds) == text
