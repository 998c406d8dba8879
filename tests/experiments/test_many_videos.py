"""Several videos in one run, as a user starts it, on a generator small enough for a test."""

import gc
import json
import os
import shutil
import sys
from urllib.parse import quote

import jax
import numpy as np
import pytest
import short_runs
import toy_inversion
from video_runs import ROOT, STEPS, arrays, command, finish, make_videos, start, statuses

from eg3d_jax.errors import InputError
from experiments.invert.args import Args
from experiments.invert.execute import SeveralRuns
from experiments.invert.main import main
from experiments.invert.plan import read_plan
from experiments.invert.summary_page import SummaryFolder, VideoStatus, table
from experiments.invert.videos import find_videos, is_one_folder
from experiments.runs.folder import RunLock

LONG = bool(os.environ.get("EG3D_JAX_LONG_TESTS"))


def arguments(inputs, videos, run, **changes) -> Args:
    return short_runs.arguments(inputs, run, frames=tuple(videos), tuning_steps=0, **changes)


@pytest.fixture(scope="module")
def videos(visible_inputs, tmp_path_factory):
    return make_videos(visible_inputs, tmp_path_factory.mktemp("videos"), "abc")


@pytest.fixture(scope="module")
def whole(visible_inputs, videos, tmp_path_factory):
    """A run of three videos, of which the second is broken."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    picture = videos[1] / "1.png"
    content = picture.read_bytes()
    picture.write_bytes(content[:50])
    assert not main(arguments(visible_inputs, videos, run))
    picture.write_bytes(content)
    return run


@pytest.mark.slow
def test_a_broken_video_is_reported_and_the_others_finish(whole):
    assert statuses(whole) == {"a": "done", "b": "failed", "c": "done"}
    assert "cannot be decoded" in (whole / "summary.md").read_text() + str(
        json.loads((whole / "summary.json").read_text())
    )
    page = (whole / "index.html").read_text()
    assert 'href="a/report.html"' in page
    assert 'href="c/report.html"' in page
    assert 'href="b/report.html"' not in page
    assert "cannot be decoded" in page
    assert (whole / "a" / "report.html").is_file()
    assert not (whole / "b").exists()


@pytest.mark.slow
def test_resuming_takes_up_what_failed_and_leaves_what_is_done(
    visible_inputs, videos, whole, tmp_path
):
    run = tmp_path / "resumed"  # a copy: other tests, in whatever order, read the run itself
    shutil.copytree(whole, run)
    before = {name: (run / name / "report.html").stat().st_mtime_ns for name in "ac"}
    with pytest.raises(InputError, match="--resume"):
        main(arguments(visible_inputs, videos, run))
    with pytest.raises(InputError, match="seed was 0, is 1"):
        main(arguments(visible_inputs, videos, run, resume=True, seed=1))
    assert main(arguments(visible_inputs, videos, run, resume=True))
    assert statuses(run) == dict.fromkeys("abc", "done")
    after = {name: (run / name / "report.html").stat().st_mtime_ns for name in "ac"}
    assert after == before


@pytest.mark.slow
def test_a_video_of_many_is_the_same_as_alone(visible_inputs, videos, whole, tmp_path):
    assert main(arguments(visible_inputs, videos[:1], tmp_path / "alone"))
    one, many = arrays(tmp_path / "alone"), arrays(whole / "a")
    assert set(one) == set(many)
    assert all(np.array_equal(one[name], many[name]) for name in one)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_videos(visible_inputs, tmp_path, monkeypatch):
    """What JAX holds when a video ends is the same after each."""
    names = [f"{i:02}" for i in range(50 if LONG else 5)]
    held, report = [], SeveralRuns.report

    def counted(self, entry):
        report(self, entry)
        gc.collect()
        held.append(sum(array.nbytes for array in jax.live_arrays()))

    monkeypatch.setattr(SeveralRuns, "report", counted)
    assert main(
        arguments(visible_inputs, make_videos(visible_inputs, tmp_path, names), tmp_path / "run")
    )
    assert len(held) == len(names)
    assert len(set(held[1:])) == 1


@pytest.mark.slow
def test_batches_over_four_devices_give_what_one_gives(tmp_path):
    """Three videos, all stages of a toy: one of four devices is idle."""
    line = [sys.executable, str(ROOT / "tests" / "toy_inversion.py"), str(tmp_path / "4"), "123"]
    four = start(line, devices=4)
    toy_inversion.invert(tmp_path / "1", "123")
    finish(four)
    for name in "123":
        one, four = (toy_inversion.result(tmp_path / folder, name) for folder in "14")
        assert set(one) == set(four)
        for key, value in one.items():
            np.testing.assert_allclose(four[key], value, atol=1e-5, err_msg=f"{name}: {key}")


@pytest.mark.skipif(not LONG, reason="half a minute; set EG3D_JAX_LONG_TESTS=1")
def test_the_command_uses_four_devices(visible_inputs, videos, whole, tmp_path):
    line = command(visible_inputs, [videos[0], videos[2]], tmp_path / "four", *STEPS)
    said = finish(start(line, devices=4))
    assert "a, c" in said  # together
    assert_close(tmp_path / "four", whole, "ac")


def test_a_folder_in_use_is_refused(visible_inputs, videos, tmp_path):
    lock = RunLock(tmp_path / "run.lock")
    lock.acquire()
    try:
        with pytest.raises(InputError, match="in use by process"):
            main(arguments(visible_inputs, videos, tmp_path))
    finally:
        lock.release()
    assert not (tmp_path / "videos.json").exists()


def test_one_video_is_not_shared(visible_inputs, videos):
    with pytest.raises(InputError, match="--frames names one; name several"):
        read_plan(arguments(visible_inputs, videos[:1], videos[0] / "run", cluster="auto"))


@pytest.mark.parametrize(
    "option", ["videos_at_once", "views_per_step", "views_at_once", "save_steps"]
)
def test_numbers_below_one_are_refused(visible_inputs, videos, tmp_path, option):
    with pytest.raises(InputError, match=f"--{option.replace('_', '-')} 0"):
        main(arguments(visible_inputs, videos, tmp_path / "run", **{option: 0}))
    assert not (tmp_path / "run").exists()


def test_a_seed_that_cannot_be_is_refused(visible_inputs, videos, tmp_path):
    with pytest.raises(InputError, match="seed 99999999999999999999 is outside 0 to 4294967295"):
        read_plan(arguments(visible_inputs, videos, tmp_path / "run", seed=99999999999999999999))


def assert_close(run, other, names):
    for name in names:
        ours, theirs = arrays(run / name), arrays(other / name)
        for key, value in theirs.items():
            np.testing.assert_allclose(ours[key], value, atol=1e-5, err_msg=f"{name}: {key}")


def test_videos_come_from_folders_patterns_and_lists(tmp_path):
    for name in ("x/head", "y/head", "z"):
        (tmp_path / name).mkdir(parents=True)
    text = "x/head  # the first\n\nz\n"
    (tmp_path / "list.txt").write_text(text, encoding="utf-8-sig")  # as some editors do
    assert is_one_folder([tmp_path / "z"])
    assert not is_one_folder([tmp_path / "*"])
    assert not is_one_folder([tmp_path / "list.txt"])
    assert list(find_videos([tmp_path / "*" / "head"])) == ["x-head", "y-head"]
    assert find_videos([tmp_path / "list.txt"]) == {
        "head": tmp_path / "x" / "head",
        "z": tmp_path / "z",
    }
    for sources, message in (
        ([], "--frames names nothing"),
        ([tmp_path / "q*"], "matches no folder"),
        ([tmp_path / "no.txt"], "cannot be read"),
        ([tmp_path / "z", tmp_path / "z"], "twice"),
    ):
        with pytest.raises(InputError, match=message):
            find_videos(sources)


def test_a_status_may_be_written_before_the_folder_is_claimed(tmp_path):
    summary = SummaryFolder(tmp_path, ("a", "b"))
    summary.write(VideoStatus(video="b", status="failed", message="no frames"))
    summary.check(resume=False, overwrite=False)
    summary.prepare()
    assert [o.status for o in summary.summarise()] == ["waiting", "failed"]


def test_links_lead_to_videos_of_any_name(tmp_path):
    name = 'clip #1? 50% "x"'
    (tmp_path / name / "pictures").mkdir(parents=True)
    for file in ("report.html", "pictures/views.png"):
        (tmp_path / name / file).touch()
    summary = SummaryFolder(tmp_path, (name,))
    summary.prepare()
    summary.write(VideoStatus(video=name, status="failed"))
    summary.summarise()
    page = (tmp_path / "index.html").read_text()
    for attribute, file in (("href", "report.html"), ("src", "pictures/views.png")):
        assert f'{attribute}="{quote(name)}/{file}"' in page


def test_outcomes_are_summed_up_as_they_come(tmp_path):
    summary = SummaryFolder(tmp_path, ("a", "<b>"))
    summary.prepare()
    summary.write(VideoStatus(video="<b>", status="failed", message="no <frames>"))
    assert [o.status for o in summary.summarise()] == ["waiting", "failed"]
    assert "&lt;b&gt;" in (tmp_path / "index.html").read_text()
    groups = {"fitted": {"psnr": 21.25}, "not fitted": {"psnr": 20.0, "lpips": 0.5}}
    summary.write(VideoStatus(video="a", status="done", seconds=61.0, result={"groups": groups}))
    assert "| a | done | 21.25 | 20.00 | 0.500 | 1:01 |" in table(summary.summarise())
    with pytest.raises(InputError, match="--resume"):
        summary.check(resume=False, overwrite=False)
    summary.check(resume=False, overwrite=True)
    summary.clear(["a"])
    assert [o.status for o in summary.summarise()] == ["waiting", "failed"]
    with pytest.raises(InputError, match="no run of several"):
        SummaryFolder(tmp_path / "new", ("a",)).check(resume=True, overwrite=False)
