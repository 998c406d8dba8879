"""Labels are disturbed and refined from the command line's side."""

import contextlib
import dataclasses
import io
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from eg3d_jax import checkpoint
from eg3d_jax.cameras import from_label, to_label, yaw_pitch_camera
from eg3d_jax.errors import InputError
from experiments import disturb, refine_cameras
from experiments.disturb import disturbed
from experiments.invert.args import Args
from experiments.invert.batch import RunMonitor
from experiments.invert.plan import options_of, read_plan
from experiments.invert.refine_first import refine_first
from experiments.progress import CommandMonitor, Progress
from experiments.refined_folder import read_moves
from inversion.camera_refinement import refine
from inversion.camera_refinement.joint import RefinementConfig
from inversion.camera_refinement.motion import CameraMotion, CameraPrior, pose_errors, transform
from inversion.frames.camera_files import read_labels
from inversion.frames.folder import read_frames


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
def refined(visible_inputs, frames, wrong, tmp_path_factory):
    """What a refinement was asked for, and what it said."""
    args = refine_cameras.Args(
        frames=wrong, output=tmp_path_factory.mktemp("new") / "refined",
        generator=visible_inputs / "generator", truth=frames, seed=7,
        views=2, joint_steps=3, latent_steps=3, coarse_steps=1, fine_steps=1,
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()) as said:
        refine_cameras.main(args)
    return args, said.getvalue()


@pytest.mark.slow
def test_refined_labels_lie_beside_the_frames(refined, frames, wrong):
    args, said = refined
    assert "error before" in said
    assert "error after" in said
    again = read_frames(args.output, image_side=32)  # a folder of frames like any other
    assert again.names == read_frames(wrong, image_side=32).names
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


def test_what_was_moved_is_read_with_the_frames(refined, wrong, tmp_path):
    args, _ = refined
    frames = read_frames(args.output, image_side=32)
    moves, part = read_moves(frames), read_moves(frames[::-2])
    assert moves is not None
    assert part is not None
    turn, shift = pose_errors(frames.cameras, cameras_in(wrong))
    np.testing.assert_allclose(moves.turn_degrees, turn, atol=0.05)
    np.testing.assert_array_equal(moves.turn_degrees[::-2], part.turn_degrees)
    assert part.names == frames.names[::-2]
    assert moves.shift_percent.shape == shift.shape
    assert read_moves(read_frames(wrong, image_side=32)) is None
    other = dataclasses.replace(frames, names=("other.png", *frames.names[1:]))
    assert read_moves(other) is None


def test_the_library_finds_the_commands_labels_and_prints_nothing(refined, wrong, capsys):
    args, _ = refined
    generator = checkpoint.load(args.generator)
    frames = read_frames(wrong, image_side=generator.config.image_side)
    found = refine.refine_cameras(generator, frames, short(num_views=2), key=jax.random.key(7))
    assert capsys.readouterr() == ("", "")
    labels = np.stack(list(read_labels(args.output).values()))
    np.testing.assert_array_equal(np.asarray(to_label(found.cameras)), labels)


def short(**changes):
    """A refinement of the library of as few steps as the command's."""
    usual = RefinementConfig()
    return RefinementConfig(
        joint=dataclasses.replace(usual.joint, num_steps=3),
        latent=dataclasses.replace(usual.latent, num_steps=3),
        coarse_steps=1, fine_steps=1, **changes,
    )  # fmt: skip


def test_the_commands_options_are_the_librarys(wrong):
    frames = read_frames(wrong, image_side=32)
    steps = {"joint_steps": 3, "latent_steps": 3, "coarse_steps": 1, "fine_steps": 1}
    args = refine_cameras.Args(**steps, views=3, degrees=1.0, steady=False)
    prior = CameraPrior(rotation=np.radians(1.0).item())
    assert args.config(frames) == short(num_views=3, prior=prior, steady=False)


def test_the_commands_defaults_are_the_librarys(wrong):
    frames = read_frames(wrong, image_side=32)
    assert refine_cameras.Args().config(frames) == RefinementConfig()
    settled = refine_cameras.Args().settled(frames)
    assert (settled.degrees, settled.percent, settled.mask_background) == (2.0, 2.0, False)


def test_frames_of_a_video_are_held_to_what_their_preparation_promises(wrong, tmp_path):
    shutil.copytree(wrong, tmp_path / "video")
    made = {"rate": 30.0, "settings": {"track": True}}
    (tmp_path / "video" / "footage.json").write_text(json.dumps(made))
    frames = read_frames(tmp_path / "video", image_side=32)
    settled = refine_cameras.Args().settled(frames)
    assert (settled.degrees, settled.percent, settled.mask_background) == (0.3, 0.5, False)
    assert settled.config(frames) == refine_cameras.Args().config(frames)
    assert settled.config(frames).smooth_errors
    masked = dataclasses.replace(frames, mask=np.ones((len(frames), 32, 32), bool))
    assert refine_cameras.Args().settled(masked).mask_background is True
    given = refine_cameras.Args(degrees=2.0, percent=3.0, mask_background=False).settled(masked)
    assert (given.degrees, given.percent, given.mask_background) == (2.0, 3.0, False)
    # Photos, and footage by landmarks alone, have cameras with errors of their own.
    for made in ({"rate": None, "settings": {"track": True}},
                 {"rate": 30.0, "settings": {"track": False}}, []):  # fmt: skip
        (tmp_path / "video" / "footage.json").write_text(json.dumps(made))
        assert refine_cameras.Args().settled(frames).degrees == 2.0


def test_cameras_are_smoothed_after_each_alignment(refined, tmp_path, monkeypatch):
    turned = []

    def turn_all(cameras, prior):
        rigid = np.tile(np.float32([0, 0, 0, 0, 1, 0]), (len(cameras), 1))
        turned.append(transform(cameras, CameraMotion(rigid=rigid, focal=np.float32(0)), prior))
        return turned[-1]

    monkeypatch.setattr(refine, "smooth", turn_all)
    refine_cameras.main(dataclasses.replace(refined[0], output=tmp_path / "new"))
    assert len(turned) == 2
    written = cameras_in(tmp_path / "new").cam2world
    np.testing.assert_allclose(written, turned[-1].cam2world, atol=1e-4)


def test_of_a_video_the_motions_are_smoothed_and_what_they_share_is_told(
    refined, wrong, tmp_path, monkeypatch
):
    monkeypatch.setattr(refine, "smooth", lambda *_: pytest.fail("cameras were smoothed"))
    monkeypatch.setattr(refine, "smooth_motions", lambda rigid: np.zeros_like(rigid))
    shutil.copytree(wrong, tmp_path / "video")
    made = {"rate": 30.0, "settings": {"track": True}}
    (tmp_path / "video" / "footage.json").write_text(json.dumps(made))
    refine_cameras.main(
        dataclasses.replace(refined[0], frames=tmp_path / "video", output=tmp_path / "new")
    )
    noted = json.loads((tmp_path / "new" / "refinement.json").read_text())
    assert noted["settings"]["degrees"] == 0.3
    turn = pose_errors(cameras_in(tmp_path / "new"), cameras_in(wrong))[0]
    # Nothing is left but what all share, from the first stage.
    assert np.ptp(noted["turn_degrees"]) < 1e-4
    np.testing.assert_allclose(turn, noted["turn_degrees"], atol=0.05)
    assert noted["turn_degrees"][0] > 0


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
    assert options_of(Args(**change)).refine is refined


@pytest.mark.slow
def test_an_inversion_takes_refined_labels_once_they_are_made(
    visible_inputs, wrong, tmp_path, monkeypatch, capsys
):
    """And the jitter stays, if that is asked."""
    monkeypatch.setattr(refine, "smooth", lambda *_: pytest.fail("smoothed"))
    args = Args(
        frames=(wrong,), generator=visible_inputs / "generator", run=tmp_path / "run", views=2
    )
    usual = refine_cameras.Args(  # nine views of four frames are four
        views=9, joint_steps=3, latent_steps=3, coarse_steps=1, fine_steps=1, steady=False
    )
    plan, monitor = read_plan(args), RunMonitor(CommandMonitor(Progress()))
    with monkeypatch.context() as patched:  # what the inversion has loaded is used
        patched.delattr(checkpoint, "load")
        patched.delattr(refine, "load_networks")
        refined = refine_first(plan, monitor.shown, usual).videos[0]
    assert not monitor.seconds  # of the inversion
    copy = tmp_path / "run_frames"
    given, noted = plan.videos[0].settings, json.loads((copy / "refinement.json").read_text())
    sources = ("frame_labels", "frame_pictures", "generator")
    assert noted["source"] == {name: given[name] for name in sources}
    assert noted["settings"]["views"] == 4
    assert refined.folder == copy
    assert np.any(read_labels(copy)["0.png"] != read_labels(wrong)["0.png"])
    np.testing.assert_allclose(refined.frames.cameras.cam2world, cameras_in(copy).cam2world)
    made = (copy / "refinement.json").stat().st_mtime_ns
    again = refine_first(read_plan(args), CommandMonitor(Progress()), usual).videos[0]
    assert again.settings == refined.settings
    assert (copy / "refinement.json").stat().st_mtime_ns == made
    # Of several videos, one that is refused stays so, and one that cannot be refined is inverted
    # as it is.
    several = dataclasses.replace(args, frames=(wrong, tmp_path / "missing"))
    nothing = dataclasses.replace(usual, joint_steps=0)
    plan = read_plan(several)
    kept = refine_first(plan, CommandMonitor(Progress()), nothing)
    assert [video.folder for video in kept.videos] == [wrong]
    assert kept.refused == plan.refused
    assert "the cameras stay as given" in capsys.readouterr().out
