"""A run that is killed at any moment goes on to the very numbers of one that was not."""

import csv
import os
import random
import signal
import socket
import time

import numpy as np
import pytest
from video_runs import arrays, command, finish, make_videos, start

from experiments import states

# In the suite a few; the figure in the closing notes is of KILLS=20.
KILLS = int(os.environ.get("KILLS", "4"))
STEPS = 40
OPTIONS = ("--latent-steps", str(STEPS), "--latents-steps", str(STEPS), "--tuning-steps",
           str(STEPS), "--latents", "2", "--save-steps", "5")  # fmt: skip


@pytest.fixture(scope="module")
def videos(visible_inputs, tmp_path_factory):
    return make_videos(visible_inputs, tmp_path_factory.mktemp("videos"), "ab")


@pytest.fixture(scope="module")
def whole(visible_inputs, videos, tmp_path_factory):
    """A run that nobody disturbed."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    finish(start(command(visible_inputs, videos, run, *OPTIONS)))
    return {video.name: arrays(run / video.name) for video in videos}


def rows(run, video) -> int:
    """Steps logged so far."""
    try:
        with (run / video / "log.csv").open(newline="") as file:
            return sum(1 for _ in csv.reader(file)) - 1
    except OSError:
        return 0


def kill_after(process, run, moment: int, delay: float) -> bool:
    """Kill it once so many steps of both videos are logged; whether it was still there."""
    while process.poll() is None and rows(run, "a") + rows(run, "b") < moment:
        time.sleep(0.002)
    time.sleep(delay)
    alive = process.poll() is None
    process.kill()
    process.communicate()
    return alive


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_same_numbers(
    visible_inputs, videos, whole, tmp_path
):
    """Moments spread over all stages of both videos: each has four, of STEPS steps."""
    draw, total = random.Random(0), 2 * 4 * STEPS
    moments = sorted(draw.randrange(total) for _ in range(KILLS))
    run, killed = tmp_path / "killed", 0
    for moment in moments:
        resume = ["--resume"] if (run / "videos.json").exists() else []
        process = start(command(visible_inputs, videos, run, *OPTIONS, *resume))
        killed += kill_after(process, run, moment, draw.uniform(0, 0.05))
    assert killed == KILLS
    finish(start(command(visible_inputs, videos, run, *OPTIONS, "--resume")))
    assert_same(run, whole)


@pytest.mark.slow
def test_one_of_two_workers_may_die(visible_inputs, videos, whole, tmp_path):
    """The other finishes its video, and both resume to the same numbers."""
    run, workers = tmp_path / "workers", []
    for more in ([], ["--resume"]):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        workers = [
            start(command(visible_inputs, videos, run, *OPTIONS, "--coordinator", address,
                          "--processes", "2", "--process", str(number), *more))
            for number in range(2)
        ]  # fmt: skip
        if not more:
            assert kill_after(workers[1], run, STEPS // 2 + rows(run, "a"), 0.0)
            finish(workers[0])
        else:
            for worker in workers:
                finish(worker)
    assert_same(run, whole)


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(visible_inputs, videos, whole, tmp_path):
    run = tmp_path / "stopped"
    process = start(command(visible_inputs, videos, run, *OPTIONS))
    while process.poll() is None and rows(run, "a") < STEPS // 2 + 2:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    said = finish(process, status=130)
    assert "saved; go on with --resume" in said
    done = states.steps(run / "a" / "state" / "3-views-latent")[-1]
    assert done == rows(run, "a")  # not only every fifth step
    finish(start(command(visible_inputs, videos, run, *OPTIONS, "--resume")))
    assert_same(run, whole)


def assert_same(run, whole):
    for name, wanted in whole.items():
        found = arrays(run / name)
        assert set(found) == set(wanted)
        for key, value in wanted.items():
            assert np.array_equal(found[key], value), f"{name}: {key}"
