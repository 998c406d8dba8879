"""What a command finds in its folders is changed only by a run that may begin or go on there."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from PIL import Image
from video_runs import make_videos

from experiments import inversion_batches, invert, refine_cameras
from experiments.disk import write_json
from experiments.errors import InputError
from experiments.fitting import Fitter
from experiments.frames_io import load_frames
from experiments.inversion_batches import Inverter
from experiments.inversion_plan import prepare
from experiments.outcomes import Outcome, Outcomes
from experiments.processes import Share
from experiments.progress import Progress
from experiments.run_lock import RunLock
from experiments.runs import RunFolder
from experiments.settings import pictures_fingerprint, truth_fingerprint


class Ready(Exception):
    """The command got as far as the steps."""


class Done:
    """In place of an inverter: all videos succeed at once."""

    def __init__(self, plan, fitter, progress, open_run, report):
        self.open_run, self.report = open_run, report

    def invert(self, batch):
        for video in batch:
            self.open_run(video).close()
            self.report(Outcome(video=video.name, status="done"))


@pytest.fixture
def args(visible_inputs, tmp_path):
    (folder,) = make_videos(visible_inputs, tmp_path, "a")
    return invert.Args(frames=(folder,), generator=visible_inputs / "generator",
                       run=tmp_path / "run", views=3, preset="quick")  # fmt: skip


@pytest.fixture
def several(args, visible_inputs, tmp_path):
    """Of two videos, both done in an earlier run."""
    more = make_videos(visible_inputs, tmp_path / "more", "b")
    args = dataclasses.replace(args, frames=(*args.frames, *more))
    outcomes = Outcomes(args.run, ("a", "b"))
    for video in prepare(args).videos:
        RunFolder.create(video.run, video.settings).close()
        outcomes.write(Outcome(video=video.name, status="done"))
    outcomes.claim()
    return args


@pytest.fixture(autouse=True)
def stubs(monkeypatch):
    """No step is compiled or taken."""

    def prepare_fitter(args, plan, progress):
        if not plan.several:
            raise Ready
        return "fitter", 1

    monkeypatch.setattr(invert, "prepare_fitter", prepare_fitter)
    monkeypatch.setattr(invert, "Inverter", Done)


@pytest.fixture
def refinements(monkeypatch):
    """Labels stay as they are; which copies were made."""
    made = []

    def refine(wanted):
        made.append(wanted.output)
        shutil.copytree(wanted.frames, wanted.output, dirs_exist_ok=True)
        write_json(wanted.output / refine_cameras.MARK, {"settings": wanted})

    monkeypatch.setattr(refine_cameras, "main", refine)
    return made


def begin(args) -> Path:
    """A finished run of one video; its result."""
    with RunFolder.create(args.run, prepare(args).videos[0].settings) as run:
        (run.result / "latents.npz").write_text("")
    return run.result / "latents.npz"


def other_picture(folder):
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / "1.png")


def statuses(run):
    return {name: Outcomes(run, ()).read(name).status for name in "ab"}


def test_pictures_are_known_by_name_and_bytes_and_truth_apart(frames_folder):
    frames = load_frames(frames_folder, image_side=16)
    found = pictures_fingerprint(frames)
    assert found == pictures_fingerprint(load_frames(frames_folder, image_side=16))
    renamed = dataclasses.replace(frames, names=("other.png", *frames.names[1:]))
    assert found != pictures_fingerprint(renamed)
    assert truth_fingerprint(frames) is None
    masked = dataclasses.replace(frames, mask=np.ones((12, 4, 4), bool))
    assert found == pictures_fingerprint(masked)
    assert truth_fingerprint(masked)
    other_picture(frames_folder)  # of a name that is no frame's
    frames.paths[0].write_bytes((frames_folder / "1.png").read_bytes())
    assert found != pictures_fingerprint(frames)


def test_a_run_of_other_pictures_is_not_resumed(args):
    begin(args)
    resumed = dataclasses.replace(args, resume=True, views_at_once=1, rays_at_once=64)
    with pytest.raises(Ready):
        invert.main(resumed)
    other_picture(args.frames[0])
    with pytest.raises(InputError, match="frame_pictures was"):
        invert.main(resumed)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({}, "no memory"),
        ({"rays_at_once": 30}, "--rays-at-once 30 must divide the 64 rays of a view, as 16 does"),
        ({"rays_at_once": 100, "latents": 2}, "must divide the 1024 rays"),  # of compared depths
        ({"rays_at_once": 100}, "no memory"),  # all at once
    ],
)
def test_an_earlier_run_is_removed_only_if_another_can_begin(args, monkeypatch, change, error):
    def no_memory(*_):
        raise InputError("no memory")

    result = begin(args)
    monkeypatch.setattr(invert, "prepare_fitter", no_memory)
    with pytest.raises(InputError, match=error):
        invert.main(dataclasses.replace(args, overwrite=True, **change))
    assert result.exists()


def test_labels_are_refined_only_where_a_run_may_begin_or_go_on(args, refinements):
    args = dataclasses.replace(args, refine_cameras=True)
    with pytest.raises(InputError, match="no run to resume"):
        invert.main(dataclasses.replace(args, resume=True))
    args.run.mkdir()
    with RunLock(args.run / "run.lock"), pytest.raises(InputError, match="in use"):
        invert.main(args)
    begin(args)
    with pytest.raises(InputError, match="holds a run already"):
        invert.main(args)
    assert not refinements


def test_refined_labels_are_used_again_for_the_same_frames_only(args, refinements, monkeypatch):
    args = dataclasses.replace(args, refine_cameras=True)
    args.run.mkdir()
    monkeypatch.chdir(args.run)
    here = dataclasses.replace(args, run=Path())
    for run in (args, here):
        with pytest.raises(Ready):
            invert.main(run)
    copy = args.run.with_name("run_frames")
    assert refinements == [copy]
    other_picture(args.frames[0])
    with pytest.raises(Ready):
        invert.main(args)
    assert refinements == [copy, copy]
    assert (copy / "1.png").read_bytes() == (args.frames[0] / "1.png").read_bytes()
    begin(dataclasses.replace(args, frames=(copy,)))
    other = dataclasses.replace(args, resume=True, seed=1)
    with pytest.raises(InputError, match="run_frames was started with other settings: seed was 0"):
        invert.main(other)
    mark = copy / refine_cameras.MARK  # as it was before sources were noted
    write_json(mark, {"settings": json.loads(mark.read_text())["settings"]})
    with pytest.raises(Ready):
        invert.main(dataclasses.replace(args, resume=True))
    assert refinements == [copy, copy]


def test_a_video_that_changed_is_left_out_and_another_option_refused(several):
    other_picture(several.frames[0])
    with pytest.raises(InputError, match="seed was 0, is 1"):
        invert.main(dataclasses.replace(several, seed=1, resume=True))
    assert statuses(several.run) == {"a": "done", "b": "done"}
    assert not invert.main(dataclasses.replace(several, resume=True))
    assert statuses(several.run) == {"a": "failed", "b": "done"}
    assert "frame_pictures was" in Outcomes(several.run, ()).read("a").message


def test_a_video_refined_from_other_frames_is_left_out(several, refinements):
    args = dataclasses.replace(several, refine_cameras=True, overwrite=True)
    assert invert.main(args)
    assert refinements == [args.run.with_name("run_frames") / name for name in "ab"]
    other_picture(args.frames[0])
    assert not invert.main(dataclasses.replace(args, overwrite=False, resume=True))
    assert statuses(args.run) == {"a": "failed", "b": "done"}
    assert len(refinements) == 2


def test_a_name_that_is_no_text_is_refused_for_its_video_alone(args):
    strange = args.frames[0].with_name(os.fsdecode(b"caf\xe9"))
    shutil.copytree(args.frames[0], strange)
    assert not invert.main(dataclasses.replace(args, frames=(*args.frames, strange)))
    assert "not named in UTF-8" in Outcomes(args.run, ()).read(r"caf\udce9").message
    assert Outcomes(args.run, ()).read("a").status == "done"
    with pytest.raises(InputError, match="not named in UTF-8"):
        invert.main(dataclasses.replace(args, frames=(strange,)))


def test_a_run_folder_that_cannot_be_is_refused_for_several_videos(several, tmp_path):
    (tmp_path / "file").write_text("")
    for run in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="cannot be written"):
            invert.main(dataclasses.replace(several, run=run))


def test_of_videos_fitted_together_one_that_cannot_be_is_left_out(several, monkeypatch):
    tried, told = [], []

    def fit(jobs):
        tried.append("".join(job.prefix[0] for job in jobs))
        if "a" in tried[-1]:
            raise ValueError("a state of other shapes")
        return [SimpleNamespace(unusable=False) for _ in jobs]

    monkeypatch.setattr(inversion_batches, "measure", lambda *_: None)
    monkeypatch.setattr(Inverter, "_leave", lambda _, one: one.video.name)
    plan, fitter = prepare(several), cast(Fitter, SimpleNamespace(fit=fit))
    inverter = Inverter(
        plan, fitter, Progress(), lambda v: RunFolder.resume(v.run, v.settings), told.append
    )
    assert inverter.invert(plan.videos) == ["b"]
    assert tried[:3] == ["ab", "a", "b"]
    assert [(outcome.video, outcome.status) for outcome in told] == [("a", "failed")]


def test_every_process_refuses_a_folder_that_holds_a_run(several, monkeypatch):
    monkeypatch.setattr(invert, "join_processes", lambda *_: Share(1, 2))
    with pytest.raises(InputError, match="holds a run of several videos already"):
        invert.main(several)
    assert statuses(several.run) == {"a": "done", "b": "done"}


def test_each_process_forgets_its_own_videos_only(several, monkeypatch):
    monkeypatch.setattr(Done, "invert", lambda *_: None)
    monkeypatch.setattr(invert, "join_processes", lambda *_: Share(0, 2))
    assert not invert.main(dataclasses.replace(several, overwrite=True))
    assert statuses(several.run) == {"a": "waiting", "b": "done"}


def test_how_several_videos_ended_is_kept_until_others_can_begin(several, monkeypatch):
    def no_memory(*_):
        raise InputError("no memory")

    monkeypatch.setattr(invert, "prepare_fitter", no_memory)
    with pytest.raises(InputError, match="no memory"):
        invert.main(dataclasses.replace(several, overwrite=True))
    assert statuses(several.run) == {"a": "done", "b": "done"}


def test_ctrl_c_tells_of_resuming_only_once_a_run_has_begun(several, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    several = dataclasses.replace(several, overwrite=True)
    with monkeypatch.context() as patched:
        patched.setattr(invert, "prepare_fitter", interrupted)
        with pytest.raises(KeyboardInterrupt) as before:
            invert.main(several)
    monkeypatch.setattr(Done, "invert", interrupted)
    with pytest.raises(KeyboardInterrupt) as after:
        invert.main(several)
    assert not str(before.value)
    assert "--resume goes on from the last save, or from the start" in str(after.value)
