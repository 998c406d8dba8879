"""Videos on a Ray cluster of this machine: whoever is killed, all end with the same numbers."""

import functools
import os
import random
import signal
import time
from contextlib import nullcontext

import library_calls
import numpy as np
import object_store
import pytest
import toy_inversion
from ray_nodes import nodes
from toy_inversion import SAVE_STEPS, STAGES, result
from toy_processes import assert_same, ended, rows, starter, unfinished
from video_runs import STEPS, arrays, command, finish, make_videos, start, statuses

from eg3d_jax.errors import EXIT_BAD_INPUT, EXIT_INTERRUPTED
from experiments.runs.mirror import Mirror
from inversion.fitting import states

LONG_ASKED = bool(os.environ.get("EG3D_JAX_LONG_TESTS"))
LONG = pytest.mark.skipif(not LONG_ASKED, reason="a minute; set EG3D_JAX_LONG_TESTS=1")
KILLS = 10 if LONG_ASKED else 2
NAMES, TOY_STEPS = "1234", 48
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket():
    """An object store's URL; None where there is none."""
    with object_store.bucket() if object_store.installed() else nullcontext() as found:
        yield found


@pytest.fixture(scope="module")
def cluster(bucket):  # which the nodes learn of when they start
    with nodes() as found:
        found.add()
        found.add()
        yield found


@pytest.fixture(scope="module")
def begin():
    return starter()


@pytest.fixture(scope="module")
def undisturbed(begin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    ended(begin(toy_inversion.main, str(folder), NAMES, TOY_STEPS))
    return {name: result(folder, name) for name in NAMES}


@pytest.fixture
def driver(begin, cluster, tmp_path):
    """Starts the one that hands the videos out."""

    def start(names=NAMES, **options):
        run = functools.partial(toy_inversion.on_cluster, **options)
        return begin(run, str(tmp_path), names, TOY_STEPS, cluster.address)

    return start


def worker_of(run, name) -> int:
    """Process that works on a video."""
    return int((run / name / "pid").read_text())


def wait_for(what, process):
    """Until something is so, while a process lives."""
    while not what():
        assert process.is_alive()
        time.sleep(0.002)


def assert_undisturbed(run, undisturbed, names=NAMES):
    for name in names:
        assert_same(result(run, name), undisturbed[name])


def at_work(run, killed=None, *, saving: bool = False) -> str | None:
    """A video whose worker has begun it, came further than those killed, and has much to do.

    Further by more than a save, or the third kill would be the end of it.
    """
    for name in NAMES:
        done = rows(run, name)
        if (run / name / "pid").exists() and done < STAGES * TOY_STEPS * 3 // 4:
            further = done - (killed or {}).get(name, -3 * SAVE_STEPS)
            if further > 2 * SAVE_STEPS and (not saving or unfinished(run / name)):
                return name
    return None


def test_workers_killed_at_random_moments_lose_nothing(driver, undisturbed, tmp_path):
    """Every second kill meets a save on its way."""
    draw, process, met, killed = random.Random(0), driver(), 0, {}
    for number in range(KILLS):
        saving = number % 2 == 1
        wait_for(lambda: at_work(tmp_path, killed), process)
        time.sleep(draw.random())
        wait_for(lambda: at_work(tmp_path, killed, saving=saving), process)  # noqa: B023
        name = at_work(tmp_path, killed, saving=saving) or at_work(tmp_path, killed) or ""
        pid, killed[name] = worker_of(tmp_path, name), rows(tmp_path, name)
        (tmp_path / name / "pid").unlink()
        os.kill(pid, signal.SIGKILL)
        met += unfinished(tmp_path / name)
        wait_for(lambda: said(tmp_path).count("another goes on") > number, process)  # noqa: B023
    ended(process)
    assert said(tmp_path).count("another goes on from the last save") == KILLS
    assert met > 0
    assert_undisturbed(tmp_path, undisturbed)


def said(run) -> str:
    path = run / "said"  # which the driver makes when it has begun
    return path.read_text() if path.exists() else ""


@LONG
def test_a_node_may_die_and_another_join_late(driver, cluster, undisturbed, tmp_path):
    """Three videos, two nodes, and a third that comes and goes."""
    process = driver("123")
    wait_for(lambda: said(tmp_path).count("is ready") == 2, process)
    late = cluster.add()
    wait_for(lambda: said(tmp_path).count("is ready") == 3, process)
    wait_for(lambda: len(list(tmp_path.glob("*/pid"))) == 3, process)
    cluster.kill(late)
    ended(process)
    assert said(tmp_path).count("another goes on") == 1
    assert_undisturbed(tmp_path, undisturbed, "123")


@LONG
def test_a_killed_driver_is_continued_by_the_same_command_and_ctrl_c_saves_everywhere(
    driver, undisturbed, tmp_path
):
    process = driver("12")
    wait_for(lambda: rows(tmp_path, "1") > 2 or rows(tmp_path, "2") > 2, process)
    process.kill()
    process.join()
    before = [rows(tmp_path, name) for name in "12"]
    process = driver("12")
    wait_for(lambda: [rows(tmp_path, name) for name in "12"] > before, process)
    os.kill(process.pid, signal.SIGINT)
    ended(process, EXIT_INTERRUPTED)
    for name in filter(lambda name: (tmp_path / name / "state").exists(), "12"):
        saved = [states.steps(path)[-1] for path in (tmp_path / name / "state").iterdir()]
        assert sum(saved) == rows(tmp_path, name)
    assert sum(rows(tmp_path, name) for name in "12") < 2 * STAGES * TOY_STEPS
    ended(driver("12"))
    assert_undisturbed(tmp_path, undisturbed, "12")


@LONG
def test_a_disk_that_is_full_at_a_workers_last_save_is_an_error_status(
    driver, undisturbed, tmp_path
):
    """And with room for it, the same command goes on from the save before."""
    ended(driver("12", full=True), EXIT_BAD_INPUT)
    assert not list(tmp_path.glob("*/result.npz"))
    assert any(rows(tmp_path, name) == STAGES * TOY_STEPS for name in "12")
    ended(driver("12"))
    assert_undisturbed(tmp_path, undisturbed, "12")


@LONG
@pytest.mark.parametrize("kept", ["disk", "url", "bucket"])
def test_the_command_shares_videos_and_reports_a_broken_one(
    visible_inputs, cluster, bucket, tmp_path, kept
):
    """With the numbers of a run without a cluster."""
    if kept == "bucket" and bucket is None:
        pytest.skip(object_store.WANTED)
    videos = make_videos(visible_inputs, tmp_path, "abc")
    finish(start(command(visible_inputs, [videos[0]], tmp_path / "alone", *STEPS)))
    picture = videos[1] / "1.png"
    content = picture.read_bytes()
    picture.write_bytes(content[:50])
    run, options = tmp_path / "run", (*STEPS, "--cluster", cluster.address)
    named = {"disk": run, "url": f"file://{run}", "bucket": f"{bucket}/runs/all"}[kept]

    def invert(*more, status=0):
        said = finish(start(command(visible_inputs, videos, named, *options, *more)), status=status)
        if kept == "bucket":
            Mirror(run, named).fetch()
        return said

    said = invert(status=1)
    assert statuses(run) == {"a": "done", "b": "failed", "c": "done"}
    assert said.count("b refused: ") == 1
    assert "cannot be decoded" in (run / "index.html").read_text()
    picture.write_bytes(content)
    assert len((run / "a" / "log.csv").read_text().splitlines()) == 4
    said = invert("--resume")
    assert statuses(run) == dict.fromkeys("abc", "done")
    assert "b: done, 1 of 1" in said
    one, many = arrays(tmp_path / "alone"), arrays(run / "a")
    assert all(np.array_equal(one[name], many[name]) for name in one)


@LONG
def test_the_library_gives_what_it_gives_without_a_cluster(begin, cluster, tmp_path):
    """Also of a video that cannot be fitted."""
    ended(begin(library_calls.compare, cluster.address, str(tmp_path)))
    assert (tmp_path / "same").is_file()
