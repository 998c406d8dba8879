"""Cameras of other programs by the commands: prepared, inverted, and written again."""

import json

import numpy as np
import pytest
from foreign_scenes import orbit, paint, random_similarity, replaced, scene, write_scene

from eg3d_jax.cameras import to_label
from eg3d_jax.errors import InputError
from experiments import cameras
from experiments.invert import prepare_first as first
from experiments.invert.args import Args as InvertArgs
from experiments.prepare import main as prepare
from experiments.progress import CommandMonitor, Progress
from inversion.foreign_cameras import convert
from inversion.frames.colmap import read_colmap
from inversion.frames.folder import read_frames

LABELS = orbit([-0.6, -0.2, 0.2, 0.6], [0.1])
WANTED = np.stack(list(LABELS.values()))


@pytest.fixture(autouse=True)
def no_faces(monkeypatch):
    monkeypatch.setattr(convert, "_landmarks", lambda nets, pixels: None)


@pytest.fixture
def given(tmp_path):
    return write_scene(tmp_path / "anna", scene(LABELS, moved=random_similarity(3)), "transforms")


def args(*given, output, **changes):
    return prepare.Args(footage=given, output=output, size=32, **changes)


def labels_of(folder):
    return np.asarray(to_label(read_frames(folder, image_side=32).cameras))


def test_frames_with_cameras_are_prepared(given, tmp_path, capsys):
    output = tmp_path / "out"
    assert prepare.main(args(given, output=output)) == 0
    said = capsys.readouterr().out.strip().splitlines()
    np.testing.assert_allclose(labels_of(output), WANTED, atol=1e-6)
    assert any(line.startswith("aligned by the cameras alone") for line in said)
    assert said[-1] == (f"Next: eg3d-jax invert --frames {output} --run runs/out_head --views 4")
    with pytest.raises(InputError, match="replace it with --overwrite"):
        prepare.main(args(given, output=output))
    assert prepare.main(args(given, output=output, overwrite=True, frames=2)) == 0
    assert len(labels_of(output)) == 2
    assert not (output / "frame00002.png").exists()


def test_several_scenes_get_a_folder_each_and_a_bad_one_ends_with_status_1(tmp_path, capsys):
    for i, form in enumerate(("transforms", "colmap", "metashape")):
        write_scene(tmp_path / "all" / form, scene(LABELS, moved=random_similarity(i)), form)
    parallel = np.stack([np.eye(4), np.eye(4)])
    parallel[1, 0, 3] = 1
    given = replaced(scene(orbit([0.2, 0.2], [0.1])), cam2world=parallel)
    write_scene(tmp_path / "all" / "parallel", given, "colmap")
    output = tmp_path / "out"
    assert prepare.main(args(tmp_path / "all" / "*", output=output)) == 1
    told = capsys.readouterr()
    for form in ("transforms", "colmap", "metashape"):
        np.testing.assert_allclose(labels_of(output / form), WANTED, atol=1e-6)
    assert "axes of its 2 cameras are nearly parallel" in told.err
    assert not (output / "parallel").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fps": 3.0}, "--fps is for footage, and these frames have cameras"),
        ({"keep_all": True}, "--keep-all is for footage"),
        ({"mask": True}, "--mask is for footage"),
        ({"align": "face"}, "a face was found in 0 of 4"),
        ({"front": "no.png"}, "--front no.png names no picture"),
    ],
)
def test_what_frames_with_cameras_do_not_have_is_refused(given, tmp_path, changes, says):
    with pytest.raises(InputError, match=says):
        prepare.main(args(given, output=tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_options_of_cameras_are_refused_for_photos(tmp_path):
    paint(tmp_path / "photos", ["0.png"])
    with pytest.raises(InputError, match="--align is for frames that have cameras, and here are"):
        prepare.main(args(tmp_path / "photos", output=tmp_path / "out", align="face"))


def test_invert_converts_them_beside_the_run_and_only_once(given, tmp_path, capsys):
    wanted = InvertArgs(frames=(given,), run=tmp_path / "run", views=3)
    planned = first.plan_preparation(wanted)
    folder = tmp_path / "run_footage"
    assert planned.args.frames == (folder,)
    assert planned.args.refine_cameras is wanted.refine_cameras
    assert not folder.exists()
    monitor = CommandMonitor(Progress())
    first.prepare_first(planned, monitor)
    np.testing.assert_allclose(labels_of(folder), WANTED, atol=1e-6)
    written = (folder / "dataset.json").stat().st_mtime_ns
    capsys.readouterr()
    first.prepare_first(planned, monitor)
    assert f"holds the frames of {given} already" in capsys.readouterr().out
    assert (folder / "dataset.json").stat().st_mtime_ns == written
    content = json.loads((given / "transforms.json").read_text())
    content["frames"] = content["frames"][1:]
    (given / "transforms.json").write_text(json.dumps(content))
    first.prepare_first(planned, monitor)
    assert len(labels_of(folder)) == 3
    with pytest.raises(InputError, match="3 frames of anna, fewer than the 7 views"):
        first.plan_preparation(InvertArgs(frames=(given,), run=tmp_path / "run", views=7))


def test_invert_takes_them_beside_folders_of_frames(given, tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "dataset.json").write_text("{}")
    named = InvertArgs(frames=(given, tmp_path / "frames"), run=tmp_path / "run", views=3)
    planned = first.plan_preparation(named)
    folder = tmp_path / "run_footage" / "anna"
    assert planned.args.frames == (folder, tmp_path / "frames")
    assert planned.scenes == {folder: given}


@pytest.fixture
def frames(given, tmp_path):
    folder = tmp_path / "video"
    prepare.main(args(given, output=folder))
    return folder


@pytest.mark.parametrize("form", ["transforms.json", "colmap", "colmap-text", "dataset.json"])
def test_cameras_of_frames_go_out_and_come_back(frames, tmp_path, form):
    out, back = tmp_path / "out", tmp_path / "back"
    cameras.main(cameras.Args(run=frames, to=form, output=out))
    if form != "dataset.json":
        prepare.main(args(out, output=back))
        assert "taken as they are" in (back / "cameras.json").read_text()
        assert sorted(p.name for p in (out / "images").iterdir()) == [
            f"frame{i:05d}.png" for i in range(4)
        ]
    np.testing.assert_allclose(
        labels_of(out if form == "dataset.json" else back), labels_of(frames), atol=1e-6
    )
    with pytest.raises(InputError, match="--overwrite"):
        cameras.main(cameras.Args(run=frames, to=form, output=out))
    cameras.main(cameras.Args(run=frames, to="colmap", output=out, overwrite=True))
    assert len(read_colmap(out)) == 4
    assert not (out / "transforms.json").exists()


def test_cameras_of_a_run_are_those_of_its_frames(frames, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    config = {"settings": {}, "frames_folder": str(frames)}
    (run / "config.json").write_text(json.dumps(config))
    cameras.main(cameras.Args(run=run, to="colmap"))
    found = read_colmap(run / "cameras" / "colmap")
    np.testing.assert_allclose(found.cam2world.reshape(4, 16), labels_of(frames)[:, :16], atol=1e-6)
    assert f"4 cameras of {frames} as colmap" in capsys.readouterr().out


def test_runs_that_do_not_name_their_frames_are_refused(frames, tmp_path):
    with pytest.raises(InputError, match=r"no is no folder; name a run"):
        cameras.main(cameras.Args(run=tmp_path / "no"))
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError, match="does not name its frames; give their folder instead"):
        cameras.main(cameras.Args(run=tmp_path / "run"))
    with pytest.raises(InputError, match="say where its cameras go: --output"):
        cameras.main(cameras.Args(run=frames))
    with pytest.raises(InputError, match="is the folder of the frames"):
        cameras.main(cameras.Args(run=frames, output=frames))
