"""The command that prepares footage: its folder and page, statuses, and what invert makes of it."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import stub_faces
import tyro
from PIL import Image
from stub_faces import scene, with_face
from written_videos import write_video

from eg3d_jax.errors import InputError
from experiments import disturb
from experiments.heads import filming
from experiments.invert import prepare_first as first
from experiments.invert.args import Args as InvertArgs
from experiments.invert.plan import read_plan
from experiments.prepare import main as prepare
from experiments.prepare.drawing import drawn_frames
from experiments.prepare.folder import PreparedFolder
from experiments.progress import CommandMonitor, Progress
from inversion.footage.prepare import FootageSettings, prepare_footage
from inversion.frames.folder import read_frames

DEMO = Path(filming.__file__).parents[1] / "demo" / "demo_a"


@pytest.fixture
def stubs(monkeypatch):
    stub_faces.put_in_place(monkeypatch)


def turning(count=12, **changes):
    yaw = np.linspace(-50, 30, count).round().astype(int)
    return [with_face(scene(), 60 + 3 * i, 60, yaw=int(y), **changes) for i, y in enumerate(yaw)]


def photos(folder, pictures):
    folder.mkdir(parents=True)
    for i, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def args(*footage, output, **changes):
    return prepare.Args(footage=footage, output=output, size=64, **changes)


def test_a_folder_gets_frames_labels_and_a_page(stubs, tmp_path, capsys):
    folder, output = photos(tmp_path / "anna", turning()), tmp_path / "out"
    assert prepare.main(args(folder, output=output)) == 0
    assert sorted(path.name for path in output.iterdir()) == [
        "dataset.json", "footage.json", *(f"frame{i:05d}.png" for i in range(12)),
        "landmarks.npz", "report.html",
    ]  # fmt: skip
    assert len(read_frames(output, image_side=64)) == 12
    *_, last = capsys.readouterr().out.strip().splitlines()
    official = "--generator weights/ffhq512-128"
    assert last == f"Next: eg3d-jax invert --frames {output} --run runs/out_head {official}"


def test_masks_are_left_in_a_folder_of_their_own_and_go_with_the_frames(stubs, tmp_path):
    folder, output = photos(tmp_path / "anna", turning(3)), tmp_path / "out"
    prepare.main(args(folder, output=output, mask=True))
    names = [f"frame{i:05d}.png" for i in range(3)]
    assert sorted(path.name for path in (output / "mask").iterdir()) == names
    assert "What masks leave out is dark." in (output / "report.html").read_text()
    disturb.main(disturb.Args(frames=output, output=tmp_path / "copy"))
    disturb.main(disturb.Args(frames=output, output=tmp_path / "copy", overwrite=True))
    frames = [read_frames(path, image_side=64) for path in (output, tmp_path / "copy")]
    np.testing.assert_array_equal(frames[0].mask, frames[1].mask)
    prepare.main(args(folder, output=output, overwrite=True))
    assert not (output / "mask").exists()
    assert "What masks leave out" not in (output / "report.html").read_text()


def test_what_masks_leave_out_is_dark_on_the_page(stubs, tmp_path):
    folder = photos(tmp_path / "a", [with_face(scene(), 100, 60)])
    footage = prepare_footage(folder, FootageSettings(mask=True))
    ((_, drawn),) = drawn_frames(footage, footage.kept, 200)
    plain = next(footage.crops(size=400))[1][::2, ::2]
    np.testing.assert_allclose(drawn[:30], plain[:30] // 4, atol=12)
    face = drawn[60:140, 55:135].astype(int)
    assert np.median(abs(face - plain[60:140, 55:135])) < 3


def test_the_next_command_can_be_typed(stubs, tmp_path, capsys):
    """It asks for no more views than there are, and names are quoted."""
    folder, output = photos(tmp_path / "anna", turning(3)), tmp_path / "my out"
    prepare.main(args(folder, output=output))
    *_, last = capsys.readouterr().out.strip().splitlines()
    words = shlex.split(last.removeprefix("Next: eg3d-jax invert "))
    given = tyro.cli(InvertArgs, args=words)
    assert given.frames == (output,)
    assert given.views == 3
    assert given.run == Path("runs/my out_head")
    # Of the generators for which the frames are.
    assert given.generator == Path("weights/ffhq512-128")
    prepare.main(args(folder, output=output, world="embedded", overwrite=True))
    *_, last = capsys.readouterr().out.strip().splitlines()
    words = shlex.split(last.removeprefix("Next: eg3d-jax invert "))
    assert tyro.cli(InvertArgs, args=words).generator == InvertArgs().generator
    assert InvertArgs().views == prepare._USUAL_VIEWS


def test_the_page_tells_what_was_found_and_what_is_missing(stubs, tmp_path):
    pictures = [*turning(), scene(seed=5), with_face(scene(), 60, 60, 40)]
    folder, output = photos(tmp_path / "anna", pictures), tmp_path / "out"
    prepare.main(args(folder, output=output))
    page = (output / "report.html").read_text()
    text = re.sub(r"<[^>]+>", " ", page)
    assert "12 of 14 pictures of 14 photos are kept, from -50° to +30° of yaw" in text
    assert "No frame shows the left cheek beyond 30 degrees: turn the head further" in text
    assert "Left out (2)" in text
    assert "no face was found" in text
    assert "its window has 80 pixels of the 128 needed" in text
    assert f"eg3d-jax invert --frames {output}" in text
    assert page.count("<img ") == 14
    assert "12 of 14" in page
    assert "http" not in re.sub(r"http://www.w3.org[^\"]*", "", page)  # nothing is loaded
    for name in ("yaw, degrees", "pitch, degrees", "residual", "sharpness"):
        assert name in text


def test_landmarks_are_drawn_green_and_the_axes_where_the_head_is(stubs, tmp_path):
    footage = prepare_footage(photos(tmp_path / "a", [with_face(scene(), 100, 60)] * 2))
    (_, drawn), _ = drawn_frames(footage, footage.kept, 200)
    plain = next(footage.crops(size=200))[1]
    changed = np.abs(drawn.astype(int) - plain).max(-1) > 60
    # The window is twice the face: landmarks lie in its middle, and there are 26 x 18 of them.
    rows, columns = np.nonzero(changed)
    assert abs(columns.mean() - 95) < 15
    assert 46 <= rows.min() <= 54
    assert changed[50:150, 50:140].mean() > 0.1
    assert not changed[:40].any()


def test_several_people_get_a_folder_each_and_a_bad_one_ends_with_status_1(stubs, tmp_path, capsys):
    people = [photos(tmp_path / "all" / name, turning()) for name in ("anna", "ben")]
    photos(tmp_path / "all" / "empty room", [scene()] * 2)
    output = tmp_path / "out"
    assert prepare.main(args(tmp_path / "all" / "*", output=output)) == 1
    told = capsys.readouterr()
    assert [len(read_frames(output / p.name, image_side=64)) for p in people] == [12, 12]
    assert not (output / "empty room").exists()
    assert told.err.startswith("error: ")
    assert "no face was found (2)" in told.err
    assert (
        told.out.strip()
        .splitlines()[-1]
        .startswith(f"Next: eg3d-jax invert --frames {output / 'anna'} {output / 'ben'} --run")
    )


def test_without_any_face_the_status_is_1_and_nothing_is_written(stubs, tmp_path, capsys):
    folder = photos(tmp_path / "room", [scene()])
    assert prepare.main(args(folder, output=tmp_path / "out")) == 1
    assert "no face was found (1)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_end_midway_leaves_the_earlier_frames(stubs, tmp_path, monkeypatch):
    folder, output = photos(tmp_path / "anna", turning()), tmp_path / "out"
    prepare.main(args(folder, output=output))
    before = {path.name: path.read_bytes() for path in output.iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("experiments.prepare.folder.write_page", full)
    with pytest.raises(OSError, match="No space"):
        prepare.main(args(folder, output=output, frames=3, overwrite=True))
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    monkeypatch.undo()


def test_other_pictures_in_the_folder_are_not_joined(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(InputError, match="holiday.jpg would lie among the frames"):
        PreparedFolder(tmp_path, overwrite=True)


# invert --frames head.mp4


@pytest.fixture
def head(tmp_path):
    pytest.importorskip("av", reason="videos are read by PyAV, of the extra footage")
    return write_video(tmp_path / "head.mkv", turning(), codec="ffv1", pix_fmt="bgr0")


def test_invert_prepares_a_video_beside_the_run_and_only_once(stubs, head, tmp_path, capsys):
    given = InvertArgs(frames=(head,), run=tmp_path / "run", views=3)
    planned = first.plan_preparation(given)
    folder = tmp_path / "run_footage"
    assert planned.args.frames == (folder,)
    assert planned.args.refine_cameras is True
    assert not folder.exists()
    assert not (tmp_path / "run").exists()
    monitor = CommandMonitor(Progress())
    first.prepare_first(planned, monitor)
    assert len(read_frames(folder, image_side=64)) == 12
    written = (folder / "dataset.json").stat().st_mtime_ns
    capsys.readouterr()
    first.prepare_first(planned, monitor)
    assert "holds the frames of head already" in capsys.readouterr().out
    assert (folder / "dataset.json").stat().st_mtime_ns == written
    write_video(head, turning(9), codec="ffv1", pix_fmt="bgr0")
    first.prepare_first(first.plan_preparation(given), monitor)
    assert len(read_frames(folder, image_side=64)) == 9


def test_invert_warns_of_frames_for_other_generators(stubs, head, tmp_path):
    """Those that it prepares itself are for its own."""
    given = InvertArgs(frames=(head,), run=tmp_path / "run", views=3, refine_cameras=False)
    planned = first.plan_preparation(given)
    first.prepare_first(planned, CommandMonitor(Progress()))
    assert len(read_plan(planned.args).videos) == 1
    prepare.main(args(head, output=tmp_path / "video"))
    with pytest.warns(UserWarning, match="video was prepared for .* by --world embedded"):
        read_plan(dataclasses.replace(given, frames=(tmp_path / "video",)))


def test_invert_finds_masks_first_where_it_needs_them(stubs, tmp_path):
    folder = photos(tmp_path / "anna", turning(3))
    given = InvertArgs(frames=(folder,), run=tmp_path / "run", views=3)
    for changes in (
        {"refine_cameras": False},
        {"mask_background": True, "refine_cameras": False},
        {},
    ):
        masked = changes != {"refine_cameras": False}  # a refinement looks at the head alone
        planned = first.plan_preparation(dataclasses.replace(given, **changes))
        first.prepare_first(planned, CommandMonitor(Progress()))
        frames = read_frames(tmp_path / "run_footage", image_side=64)
        assert (frames.mask is not None) == masked


def test_invert_takes_footage_beside_folders_of_frames(stubs, head, tmp_path):
    (tmp_path / "frames").mkdir()
    other = photos(tmp_path / "b", turning(3))
    files = tuple(sorted(other.iterdir()))
    named = (tmp_path / "frames", head, *files)
    given = InvertArgs(frames=named, run=tmp_path / "run", refine_cameras=False)
    planned = first.plan_preparation(given)
    home = tmp_path / "run_footage"
    assert planned.args.frames == (home / "b", home / "head", tmp_path / "frames")
    assert planned.args.refine_cameras is False
    pattern = InvertArgs(frames=(tmp_path / "*.mkv",), run=tmp_path / "run")
    assert list(first.plan_preparation(pattern).people) == [home]


def test_invert_prepares_a_folder_of_photos(stubs, tmp_path, capsys):
    folder = photos(tmp_path / "anna", turning(9))
    planned = first.plan_preparation(InvertArgs(frames=(folder,), run=tmp_path / "run", views=3))
    assert planned.args.frames == (tmp_path / "run_footage",)
    assert planned.args.refine_cameras is True
    first.prepare_first(planned, CommandMonitor(Progress()))
    assert len(read_frames(tmp_path / "run_footage", image_side=64)) == 9
    assert f"{folder}: 9 photos without dataset.json" in capsys.readouterr().out
    ben = photos(tmp_path / "ben", turning(3))
    both = first.plan_preparation(InvertArgs(frames=(tmp_path / "[ab]*",), run=tmp_path / "run"))
    home = tmp_path / "run_footage"
    assert {path: person.files[0].parent for path, person in both.people.items()} == {
        home / "anna": folder, home / "ben": ben,
    }  # fmt: skip


def test_pictures_of_one_still_camera_are_prepared_as_a_video(stubs, tmp_path, capsys):
    """As trackers of heads export them: the cameras tell nothing of the head's motion."""
    folder = photos(tmp_path / "anna", turning())
    pose = np.eye(4).tolist()
    frames = [{"file_path": f"{i}.png", "transform_matrix": pose} for i in range(12)]
    content = {"camera_angle_x": 0.2, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(content))
    assert prepare.main(args(folder, output=tmp_path / "out", fps=25.0)) == 0
    told = json.loads((tmp_path / "out" / "footage.json").read_text())
    assert [f["seconds"] for f in told["frames"]][:3] == pytest.approx([0, 1 / 25, 2 / 25])
    assert "have one camera, which stands still" in capsys.readouterr().out
    assert len(read_frames(tmp_path / "out", image_side=64)) == 12
    planned = first.plan_preparation(InvertArgs(frames=(folder,), run=tmp_path / "run", views=3))
    assert list(planned.people) == [tmp_path / "run_footage"]
    assert planned.args.refine_cameras


def test_footage_may_stand_in_a_list(stubs, tmp_path):
    """A path a line, from the list on, beside folders of frames; no line is passed over."""
    anna, ben = (photos(tmp_path / "raw" / name, turning(7)) for name in ("anna", "ben"))
    (tmp_path / "frames").mkdir()
    (tmp_path / "list.txt").write_text("raw/anna\n\nraw/ben  # the second\nframes\nmissing\n")
    given = InvertArgs(frames=(tmp_path / "list.txt",), run=tmp_path / "run")
    planned, home = first.plan_preparation(given), tmp_path / "run_footage"
    assert {path: person.files[0].parent for path, person in planned.people.items()} == {
        home / "anna": anna, home / "ben": ben,
    }  # fmt: skip
    rest = (tmp_path / "frames", tmp_path / "missing")
    assert planned.args.frames == (home / "anna", home / "ben", *rest)
    (tmp_path / "people.txt").write_text("raw/anna\nraw/ben\n")
    assert prepare.main(args(tmp_path / "people.txt", output=tmp_path / "out")) == 0
    assert len(read_frames(tmp_path / "out" / "ben", image_side=64)) == 7
    (tmp_path / "empty.txt").write_text("# nobody\n")
    for name, reason in (("empty.txt", "names nothing"), ("no.txt", "cannot be read")):
        with pytest.raises(InputError, match=f"{name} {reason}"):
            prepare.main(args(tmp_path / name, output=tmp_path / "out2"))


@pytest.mark.parametrize("labels", ["video/dataset.json", "dataset.json", "video/b/dataset.json"])
def test_invert_leaves_pictures_alone_where_labels_are_near(tmp_path, labels):
    """Those in another folder are named by the error of a folder without any."""
    photos(tmp_path / "video", turning(2))
    (tmp_path / labels).parent.mkdir(exist_ok=True)
    (tmp_path / labels).write_text("{}")
    given = InvertArgs(frames=(tmp_path / "video",), run=tmp_path / "run")
    assert first.plan_preparation(given) == first.Preparation(args=given)


def test_invert_leaves_folders_without_photos_alone(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").touch()
    (tmp_path / "notes" / ".hidden.png").touch()
    given = InvertArgs(frames=(tmp_path / "notes", tmp_path / "*"), run=tmp_path / "run")
    assert first.plan_preparation(given) == first.Preparation(args=given)
    with pytest.raises(InputError, match=r"notes has no dataset.json; put EG3D's camera labels"):
        read_frames(tmp_path / "notes", image_side=64)


def test_invert_refuses_what_it_cannot_go_on_with_before_the_work(head, tmp_path):
    one = photos(tmp_path / "a", turning(1)) / "0.png"
    for changes, reason in (
        ({"frames": (one,)}, r"1 photo\(s\), fewer than the 7 views"),
        ({"frames": (tmp_path / "no.mp4",)}, "no.mp4 does not exist"),
        ({"frames": (head,), "save_steps": 0}, "--save-steps 0"),
        ({"frames": (head,), "resume": True}, "holds no run to resume"),
    ):
        with pytest.raises(InputError, match=reason):
            first.plan_preparation(InvertArgs(run=tmp_path / "run", **changes))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").touch()
    with pytest.raises(InputError, match=r"thesis.txt, which is not of a run"):
        first.plan_preparation(InvertArgs(frames=(head,), run=tmp_path / "run"))


# The real nets and solver, on a film of the demo head.


@pytest.mark.slow
def test_a_film_of_the_demo_head_is_prepared(tmp_path):
    pytest.importorskip("av", reason="videos are read by PyAV, of the extra footage")
    filming.main(
        filming.Args(
            folder=tmp_path, heads=(str(DEMO),), width=480, height=320, window=0.75, wander=0.3
        )
    )
    output = tmp_path / "out"
    film = tmp_path / "demo_a.mp4"
    # Of the world in which that head was made.
    assert prepare.main(args(film, output=output, start=0.65, end=1.2, world="embedded")) == 0
    truth = {
        round(30 * frame["time"]): frame
        for frame in filming.read_truth(tmp_path / "demo_a.json")["frames"]
    }
    told = json.loads((output / "footage.json").read_text())["frames"]
    kept = [(f, truth[round(30 * f["seconds"])]) for f in told if f["kept"]]
    assert len(kept) == len(told) == 17
    # The prototype's errors of frames had a median of 1.3 to 2.9 degrees and a maximum of 4.5; the
    # head has a zero of its own, of some degrees.
    errors = np.array([frame["yaw"] - true["yaw"] for frame, true in kept])
    assert np.median(np.abs(errors - np.median(errors))) < 2
    assert abs(errors).max() < 9
    assert abs(np.median([frame["pitch"] - true["pitch"] for frame, true in kept])) < 5
    windows = [(frame["window"], true["window"]) for frame, true in kept]
    np.testing.assert_allclose([a["side"] / b["side"] for a, b in windows], 1, atol=0.06)
    off = [np.subtract(a["center"], b["center"]) / b["side"] for a, b in windows]
    np.testing.assert_allclose(off, 0, atol=0.06)
