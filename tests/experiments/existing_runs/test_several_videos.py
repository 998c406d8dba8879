"""Of several videos each keeps what its folder holds, and fails alone."""

import dataclasses
from types import SimpleNamespace
from typing import cast

import pytest
from uncompiled_runs import other_picture, statuses

from eg3d_jax.errors import InputError
from experiments.invert import batch, execute
from experiments.invert import main as invert
from experiments.invert.batch import RunHooks, RunMonitor
from experiments.invert.plan import read_plan
from experiments.invert.summary_page import SummaryFolder
from experiments.progress import CommandMonitor, Progress
from experiments.runs.folder import RunFolder
from inversion.pipeline import Fitter, fit_batch


def test_a_video_that_changed_is_left_out_and_another_option_refused(several):
    other_picture(several.frames[0])
    with pytest.raises(InputError, match="seed was 0, is 1"):
        invert.main(dataclasses.replace(several, seed=1, resume=True))
    assert statuses(several.run) == {"a": "done", "b": "done"}
    assert not invert.main(dataclasses.replace(several, resume=True))
    assert statuses(several.run) == {"a": "failed", "b": "done"}
    assert "frame_pictures was" in SummaryFolder(several.run, ()).read("a").message


def test_a_video_refined_from_other_frames_is_left_out(several, refinements):
    args = dataclasses.replace(several, refine_cameras=True, overwrite=True)
    assert invert.main(args)
    assert refinements == [args.run.with_name("run_frames") / name for name in "ab"]
    other_picture(args.frames[0])
    assert not invert.main(dataclasses.replace(args, overwrite=False, resume=True))
    assert statuses(args.run) == {"a": "failed", "b": "done"}
    assert len(refinements) == 2


def test_a_run_folder_that_cannot_be_is_refused_for_several_videos(several, tmp_path):
    (tmp_path / "file").write_text("")
    for run in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="cannot be written"):
            invert.main(dataclasses.replace(several, run=run))


def test_of_videos_fitted_together_one_that_cannot_be_is_left_out(several, monkeypatch):
    tried, told, left = [], [], []

    def fit(jobs):
        tried.append("".join(job.video.name for job in jobs))
        if "a" in tried[-1]:
            raise ValueError("a state of other shapes")
        return [SimpleNamespace(usable=True, seconds={}) for _ in jobs]

    monkeypatch.setattr(batch, "measure", lambda *_: None)
    monkeypatch.setattr(RunHooks, "done", lambda _, video: left.append(video.name))
    plan, fitter = read_plan(several), cast(Fitter, SimpleNamespace(fit=fit))
    monitor = RunMonitor(CommandMonitor(Progress()))
    hooks = RunHooks(
        fitter, monitor, lambda v: RunFolder.resume(v.run, v.settings), told.append,
        save_steps=50, alone=False,
    )  # fmt: skip
    fit_batch(fitter, plan.videos, hooks)
    assert left == ["b"]
    assert tried[:3] == ["ab", "a", "b"]
    assert [(outcome.video, outcome.status) for outcome in told] == [("a", "failed")]


def test_how_several_videos_ended_is_kept_until_others_can_begin(several, monkeypatch):
    def no_memory(*_):
        raise InputError("no memory")

    monkeypatch.setattr(execute, "prepare_fitter", no_memory)
    with pytest.raises(InputError, match="no memory"):
        invert.main(dataclasses.replace(several, overwrite=True))
    assert statuses(several.run) == {"a": "done", "b": "done"}


def test_ctrl_c_tells_of_resuming_only_once_a_run_has_begun(several, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    several = dataclasses.replace(several, overwrite=True)
    with monkeypatch.context() as patched:
        patched.setattr(execute, "prepare_fitter", interrupted)
        with pytest.raises(KeyboardInterrupt) as before:
            invert.main(several)
    monkeypatch.setattr(execute, "fit_batch", interrupted)
    with pytest.raises(KeyboardInterrupt) as after:
        invert.main(several)
    assert not str(before.value)
    assert "--resume goes on from the last save, or from the start" in str(after.value)
