"""Labels are disturbed and refined from the command line's side."""

import contextlib
import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eg3d_jax.cameras import from_label, yaw_pitch_camera
from experiments import camera_refinement, disturb, invert, refine_cameras
from experiments.camera_files import read_labels
from experiments.disturb import disturbed
from experiments.errors import InputError
from experiments.frames_io import load_frames
from experiments.inversion_plan import choose_refinement
from experiments.progress import Progress
from experiments.refined_frames import refine_first
from inversion.camera_motion import CameraMotion, moved, pose_errors


def cameras_in(folder):
    return from_label(np.stack(list(read_labels(folder).values())))


@pytest.fixture(scope="module")
def frames(visible_inputs):
    return visible_inputs / "frames"


@pytest.fixture(scope="module")
def wrong(frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("disturbed") / "frames"
    disturb.main(disturb.Args(frames=frames, output=folder, degrees=2.0, percent=1.0))
    return folder


def test_disturbed_labels_are_off_by_no_more_than_asked(frames, wrong):
    turn, shift = pose_errors(cameras_in(wrong), cameras_in(frames))
    assert 0.1 < np.max(turn) <= 2.0 + 1e-3
    assert json.loads((wrong / "disturbance.json").read_text())["settings"]["degrees"] == 2.0
    assert 0.001 < np.max(shift) <= 0.01 + 1e-5
    assert (wrong / "0.png").read_bytes() == (frames / "0.png").read_bytes()


def test_amounts_are_spread_evenly_up_to_the_largest():
    cameras = yaw_pitch_camera(np.zeros(2000), 0.0)
    turn, shift = pose_errors(disturbed(cameras, 3.0, 3.0, seed=0), cameras)
    # Quartiles of 2,000 uniform numbers have a deviation of 0.01 of the range.
    for amounts in (np.asarray(turn) / 3.0, np.asarray(shift) / 0.03):
        np.testing.assert_allclose(np.quantile(amounts, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75],
                                   atol=0.05)  # fmt: skip


@pytest.fixture(scope="module")
def turned():
    """What `turn_all` gave."""
    return []


@pytest.fixture(scope="module")
def turn_all(turned):
    """In place of `steadied`: turns all cameras once more."""

    def turn_all(cameras, spread):
        rigid = np.tile(np.float32([0, 0, 0, 0, 1, 0]), (len(cameras), 1))
        turned.append(moved(cameras, CameraMotion(rigid=rigid, focal=np.float32(0)), spread))
        return turned[-1]

    return turn_all


@pytest.fixture(scope="module")
def refined(visible_inputs, frames, wrong, turn_all, tmp_path_factory):
    """What a refinement was asked for, and what it said."""
    args = refine_cameras.Args(
        frames=wrong, output=tmp_path_factory.mktemp("new") / "refined",
        generator=visible_inputs / "generator", truth=frames,
        views=2, joint_steps=3, latent_steps=3, coarse_steps=1, fine_steps=1,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.setattr(camera_refinement, "steadied", turn_all)
        refine_cameras.main(args)
    return args, said.getvalue()


def test_refined_labels_lie_beside_the_frames(refined, frames, wrong):
    args, said = refined
    assert "error before" in said
    assert "error after" in said
    again = load_frames(args.output, image_side=32)  # a folder of frames like any other
    assert again.names == load_frames(wrong, image_side=32).names
    turn, _ = pose_errors(again.cameras, cameras_in(wrong))
    numbers = json.loads((args.output / "refinement.json").read_text())
    # All frames moved, and as far as is told; angles this small are known to 0.05 degrees.
    assert min(numbers["turn_degrees"]) > 0
    np.testing.assert_allclose(turn, numbers["turn_degrees"], atol=0.05)
    np.testing.assert_allclose(
        numbers["errors"]["before"]["turn_degrees"],
        pose_errors(cameras_in(wrong), cameras_in(frames))[0], atol=1e-3,
    )  # fmt: skip
    with Image.open(f"{args.output}.png") as picture:
        assert min(picture.size) > 3 * 32
    with pytest.raises(InputError, match="--overwrite"):
        refine_cameras.main(args)


def test_what_shakes_is_taken_out_after_each_alignment(refined, turned):
    assert len(turned) == 2
    written = cameras_in(refined[0].output).cam2world
    np.testing.assert_allclose(written, turned[-1].cam2world, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"degrees": 0.0}, "--degrees"),
        ({"focal_percent": float("nan")}, "--focal-percent"),
        ({"views": 0}, "--views"),
        ({"views": 99}, "fewer than the 99 views"),
        ({"latent_steps": 0}, "--latent-steps"),
        ({"coarse_steps": 0}, "--coarse-steps"),
        ({"fine_steps": 0}, "--fine-steps"),
        ({"seed": 2**32}, "seed 4294967296 is outside"),
    ],
)
def test_bad_input_is_refused(visible_inputs, wrong, tmp_path, change, said):
    usual = {"views": 2, "generator": visible_inputs / "generator"}
    args = refine_cameras.Args(frames=wrong, output=tmp_path / "new", **(usual | change))
    with pytest.raises(InputError, match=said):
        refine_cameras.main(args)
    assert not (tmp_path / "new").exists()


def test_the_frames_own_folder_and_foreign_pictures_are_left_alone(frames, tmp_path):
    with pytest.raises(InputError, match="choose another --output"):
        disturb.main(disturb.Args(frames=frames, output=frames))
    Image.new("RGB", (8, 8)).save(tmp_path / "mine.png")
    with pytest.raises(InputError, match="none of the frames"):
        disturb.main(disturb.Args(frames=frames, output=tmp_path))
    with pytest.raises(InputError, match="--degrees 400"):
        disturb.main(disturb.Args(frames=frames, output=tmp_path, degrees=400.0))
    with pytest.raises(InputError, match="seed -1 is outside"):
        disturb.main(disturb.Args(frames=frames, output=tmp_path, seed=-1))
    assert read_labels(frames)


@pytest.mark.parametrize("foreign", ["the frames themselves", "mine.PNG"])
def test_labels_stay_where_a_copy_is_refused(visible_inputs, wrong, tmp_path, foreign):
    """Also of an earlier call's folder that may be replaced."""
    own = tmp_path / "own"
    shutil.copytree(wrong, own)
    (own / "refinement.json").write_text("{}")
    frames = own if foreign != "mine.PNG" else wrong
    if frames is wrong:
        shutil.copy(wrong / "0.png", own / foreign)
    for change in (disturb, refine_cameras):
        args = change.Args(frames=frames, output=own, overwrite=True)
        if change is refine_cameras:
            args = dataclasses.replace(args, generator=visible_inputs / "generator", views=2)
        with pytest.raises(InputError, match="choose another --output"):
            change.main(args)
        assert (own / "dataset.json").read_bytes() == (wrong / "dataset.json").read_bytes()


def test_a_picture_beside_the_folder_is_not_replaced_unasked(visible_inputs, wrong, tmp_path):
    (tmp_path / "new.png").write_text("mine")
    args = refine_cameras.Args(
        frames=wrong, output=tmp_path / "new", generator=visible_inputs / "generator", views=2
    )
    with pytest.raises(InputError, match="new.png exists; replace it with --overwrite"):
        refine_cameras.main(args)
    assert not args.output.exists()
    assert (tmp_path / "new.png").read_text() == "mine"


def test_truth_must_name_the_same_frames(visible_inputs, wrong, tmp_path):
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": [["other.png", [0.0] * 25]]}))
    args = refine_cameras.Args(
        frames=wrong, output=tmp_path / "new", generator=visible_inputs / "generator",
        views=2, truth=tmp_path,
    )  # fmt: skip
    with pytest.raises(InputError, match="no label for 0.png"):
        refine_cameras.main(args)


@pytest.mark.parametrize(
    ("change", "refined"),
    [
        ({}, False),  # the embedded heads, whose labels are exact
        ({"preset": "paper"}, True),
        ({"generator": Path("weights/ffhq512-128")}, True),
        ({"generator": Path("weights/ffhq512-128"), "preset": "quick"}, False),
        ({"generator": Path("weights/ffhq512-128"), "refine_cameras": False}, False),
        ({"refine_cameras": True}, True),
    ],
)
def test_labels_are_refined_where_footage_is_real_or_if_asked(change, refined):
    assert choose_refinement(invert.Args(**change)) is refined


def test_an_inversion_takes_refined_labels_once_they_are_made(
    visible_inputs, wrong, tmp_path, monkeypatch, capsys
):
    """And what shakes stays in, if that is asked."""
    monkeypatch.setattr(camera_refinement, "steadied", lambda *_: pytest.fail("steadied"))
    args = invert.Args(
        frames=(wrong,), generator=visible_inputs / "generator", run=tmp_path / "run", views=2
    )
    usual = refine_cameras.Args(  # nine views of four frames are four
        views=9, joint_steps=3, latent_steps=3, coarse_steps=1, fine_steps=1, steady=False
    )
    refined = refine_first(args, invert.prepare(args), Progress(), usual).videos[0]
    copy = tmp_path / "run_frames"
    assert refined.folder == copy
    assert np.any(read_labels(copy)["0.png"] != read_labels(wrong)["0.png"])
    np.testing.assert_allclose(refined.frames.cameras.cam2world, cameras_in(copy).cam2world)
    made = (copy / "refinement.json").stat().st_mtime_ns
    again = refine_first(args, invert.prepare(args), Progress(), usual).videos[0]
    assert again.settings == refined.settings
    assert (copy / "refinement.json").stat().st_mtime_ns == made
    # Of several videos, one that is refused stays so, and one that cannot be refined is inverted
    # as it is.
    several = dataclasses.replace(args, frames=(wrong, tmp_path / "missing"))
    nothing = dataclasses.replace(usual, joint_steps=0)
    plan = invert.prepare(several)
    kept = refine_first(several, plan, Progress(), nothing)
    assert [video.folder for video in kept.videos] == [wrong]
    assert kept.refused == plan.refused
    assert "the cameras stay as given" in capsys.readouterr().out
