"""What a command finds in its folders is changed only by a run that may begin or go on there."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from uncompiled_runs import Ready, begin, other_picture

from eg3d_jax.errors import InputError
from experiments.invert import execute
from experiments.invert import main as invert
from experiments.invert.summary_page import SummaryFolder
from experiments.refined_folder import MARK
from experiments.runs.folder import RunLock
from inversion.files import write_json
from inversion.frames.folder import pictures_fingerprint, read_frames, truth_fingerprint


def test_pictures_are_known_by_name_and_bytes_and_truth_apart(frames_folder):
    frames = read_frames(frames_folder, image_side=16)
    found = pictures_fingerprint(frames)
    assert found == pictures_fingerprint(read_frames(frames_folder, image_side=16))
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
    monkeypatch.setattr(execute, "prepare_fitter", no_memory)
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
    mark = copy / MARK  # as it was before sources were noted
    write_json(mark, {"settings": json.loads(mark.read_text())["settings"]})
    with pytest.raises(Ready):
        invert.main(dataclasses.replace(args, resume=True))
    assert refinements == [copy, copy]


def test_a_name_that_is_no_text_is_refused_for_its_video_alone(args):
    strange = args.frames[0].with_name(os.fsdecode(b"caf\xe9"))
    shutil.copytree(args.frames[0], strange)
    assert not invert.main(dataclasses.replace(args, frames=(*args.frames, strange)))
    assert "not named in UTF-8" in SummaryFolder(args.run, ()).read(r"caf\udce9").message
    assert SummaryFolder(args.run, ()).read("a").status == "done"
    with pytest.raises(InputError, match="not named in UTF-8"):
        invert.main(dataclasses.replace(args, frames=(strange,)))
