"""Runs of one video and of two, in folders that hold something already."""

import dataclasses
import shutil

import pytest
from uncompiled_runs import Ready, done_at_once
from video_runs import make_videos

from experiments.invert import execute, refine_first
from experiments.invert.args import Args
from experiments.invert.plan import read_plan
from experiments.invert.summary_page import SummaryFolder, VideoStatus
from experiments.refined_folder import MARK
from experiments.runs.folder import RunFolder
from inversion.files import write_json


@pytest.fixture
def args(visible_inputs, tmp_path):
    (folder,) = make_videos(visible_inputs, tmp_path, "a")
    return Args(frames=(folder,), generator=visible_inputs / "generator",
                       run=tmp_path / "run", views=3, preset="quick")  # fmt: skip


@pytest.fixture
def several(args, visible_inputs, tmp_path):
    """Of two videos, both done in an earlier run."""
    more = make_videos(visible_inputs, tmp_path / "more", "b")
    args = dataclasses.replace(args, frames=(*args.frames, *more))
    summary = SummaryFolder(args.run, ("a", "b"))
    for video in read_plan(args).videos:
        RunFolder.create(video.run, video.settings).close()
        summary.write(VideoStatus(video=video.name, status="done"))
    summary.prepare()
    return args


@pytest.fixture(autouse=True)
def stubs(monkeypatch):
    """No step is compiled or taken."""

    def prepare_fitter(plan, monitor):
        if not plan.several:
            raise Ready
        return "fitter", 1

    monkeypatch.setattr(execute, "prepare_fitter", prepare_fitter)
    monkeypatch.setattr(execute, "fit_batch", done_at_once)


@pytest.fixture
def refinements(monkeypatch):
    """Labels stay as they are; which copies were made."""
    made = []

    def write(generator, frames, settings, output, *, source, **_):
        made.append(output.path)
        shutil.copytree(frames.folder, output.path, dirs_exist_ok=True)
        write_json(output.path / MARK, {"settings": settings, "source": source})

    monkeypatch.setattr(refine_first, "write_refined", write)
    return made
