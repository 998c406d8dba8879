"""A run that is killed at any moment goes on to the very numbers of one that was not."""

import os
import random
import signal
import time

import pytest
import toy_inversion
from toy_inversion import STAGES, STEPS, result
from toy_processes import assert_same, ended, rows, starter, unfinished
from video_runs import arrays, command, finish, make_videos, start

from inversion.fitting import states

LONG_ASKED = bool(os.environ.get("EG3D_JAX_LONG_TESTS"))
KILLS, TOTAL = 20 if LONG_ASKED else 4, 2 * STAGES * STEPS
LONG = pytest.mark.skipif(
    not LONG_ASKED,
    reason="takes minutes; set EG3D_JAX_LONG_TESTS=1 to kill the command itself",
)


@pytest.fixture(scope="module")
def toys():
    """Starts `toy_inversion.main`."""
    begin = starter()
    return lambda folder, names: begin(toy_inversion.main, str(folder), names)


@pytest.fixture(scope="module")
def undisturbed(toys, tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    ended(toys(folder, "12"), seconds=120)
    return {name: result(folder, name) for name in "12"}


def kill_after(process, run, names, moment: int, *, saving: bool = False) -> bool:
    """Kill a process once so many steps are logged, or at its next save; whether it was there."""
    while process.is_alive() and rows(run, names) < moment:
        time.sleep(0.002)
    while process.is_alive() and saving and not unfinished(run):
        time.sleep(0.001)
    alive = process.is_alive()
    process.kill()
    process.join()
    return alive


@pytest.mark.slow
def test_killed_at_random_moments_of_every_stage_it_ends_with_the_same_numbers(
    toys, undisturbed, tmp_path
):
    """Every second kill meets a save on its way."""
    draw, killed, met = random.Random(0), 0, 0
    for number in range(KILLS):
        moment = int(TOTAL * (number + draw.random()) / (KILLS + 1))
        process, saving = toys(tmp_path, "12"), number % 2 == 1
        killed += kill_after(process, tmp_path, "12", moment, saving=saving)
        met += unfinished(tmp_path)
    assert killed == KILLS
    assert met > 0
    ended(toys(tmp_path, "12"), seconds=120)
    for name, wanted in undisturbed.items():
        assert_same(result(tmp_path, name), wanted)


@pytest.mark.slow
def test_ctrl_c_saves_the_last_step(toys, undisturbed, tmp_path):
    process = toys(tmp_path, "12")
    while process.is_alive() and rows(tmp_path, "1") < 2:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 1  # of KeyboardInterrupt in a bare process
    done = states.steps(tmp_path / "1" / "state" / "3-views-latent")[-1]
    assert done == rows(tmp_path, "1") < STEPS
    ended(toys(tmp_path, "12"), seconds=120)
    assert_same(result(tmp_path, "1"), undisturbed["1"])


@LONG
def test_the_command_killed_at_random_moments_ends_with_the_same_numbers(visible_inputs, tmp_path):
    options = ("--latent-steps", "40", "--latents-steps", "40", "--tuning-steps", "40",
               "--latents", "2", "--save-steps", "5")  # fmt: skip
    videos = make_videos(visible_inputs, tmp_path, "ab")
    finish(start(command(visible_inputs, videos, tmp_path / "whole", *options)))
    draw, run = random.Random(0), tmp_path / "killed"
    for number in range(KILLS):
        more = ["--resume"] if (run / "videos.json").exists() else []
        process = start(command(visible_inputs, videos, run, *options, *more))
        while process.poll() is None and rows(run, "ab") < int(320 * (number + draw.random()) / 21):
            time.sleep(0.002)
        assert process.poll() is None
        process.kill()
        process.communicate()
    process = start(command(visible_inputs, videos, run, *options, "--resume"))
    while process.poll() is None and rows(run, "b") < 158:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    assert "saved; go on with --resume" in finish(process, status=130)
    finish(start(command(visible_inputs, videos, run, *options, "--resume")))
    for name in "ab":
        assert_same(arrays(run / name), arrays(tmp_path / "whole" / name))
