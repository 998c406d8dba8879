"""Footage is read, followed, solved for, chosen from and cut; nets and solver are stubs here."""

import json

import numpy as np
import pytest
import stub_faces
from PIL import Image
from stub_faces import scene, with_face
from written_videos import write_video

import inversion
from eg3d_jax.cameras import azimuth
from eg3d_jax.errors import InputError
from inversion.footage import prepare
from inversion.footage.pictures import About
from inversion.footage.prepare import FootageSettings, NoFace, prepare_footage
from inversion.frames.folder import read_frames
from inversion.monitor import Monitor, Stopped


@pytest.fixture(autouse=True)
def stubs(monkeypatch):
    stub_faces.put_in_place(monkeypatch)


def turning(count=31, **changes):
    """A head that turns from -60 to 60 degrees."""
    yaw = np.linspace(-60, 60, count).round().astype(int)
    return [with_face(scene(), 60 + 3 * i, 60, yaw=int(y), **changes) for i, y in enumerate(yaw)]


def film(path, pictures, **options):
    """A video that loses nothing, so that the stubs know its colours."""
    pytest.importorskip("av", reason="videos are read by PyAV, of the extra footage")
    return write_video(path, pictures, codec="ffv1", pix_fmt="bgr0", **options)


@pytest.fixture
def head(tmp_path):
    return film(tmp_path / "head.mkv", turning())


def save_photos(folder, pictures):
    folder.mkdir()
    for i, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"IMG_{i}.png")
    return folder


def test_a_video_becomes_a_folder_that_can_be_inverted(head, tmp_path):
    footage = prepare_footage(head, FootageSettings(frames=13, size=64))
    footage.save(tmp_path / "video")
    frames = read_frames(tmp_path / "video", image_side=64, min_frames=13)
    assert frames.names == tuple(f"frame{i:05d}.png" for i in range(13))
    np.testing.assert_allclose(frames.yaw_degrees, np.linspace(-60, 60, 13), atol=2.5)
    # The labels are those of the pictures: the red of a face in the middle says how it is turned.
    views = footage.views(64)
    middle = np.asarray(views.images[:, 32, 32])
    reds = (middle[:, 0] + 1) * 127.5 - 127
    np.testing.assert_allclose(reds, frames.yaw_degrees, atol=1.5)
    np.testing.assert_allclose(azimuth(views.cameras), azimuth(frames.cameras), atol=1e-6)


def test_what_was_found_is_written_beside_the_frames(head, tmp_path):
    footage = prepare_footage(str(head), FootageSettings(frames=5, size=64))
    footage.save(tmp_path / "video")
    told = json.loads((tmp_path / "video" / "footage.json").read_text())
    assert len(told["frames"]) == 31
    kept = [frame for frame in told["frames"] if frame["kept"]]
    assert [frame["file"] for frame in kept] == [f"frame{i:05d}.png" for i in range(5)]
    assert [frame["seconds"] for frame in told["frames"]] == pytest.approx(np.arange(31) / 10)
    assert all(frame["reason"] for frame in told["frames"] if not frame["kept"])
    first = kept[0]
    assert first["yaw"] == pytest.approx(-60, abs=0.5)
    assert first["window"] == {"center": [60 + 36, 100], "side": 160}
    assert told["settings"]["size"] == 64
    arrays = np.load(tmp_path / "video" / "landmarks.npz")
    # The window is twice the face, so the landmarks fill the middle half of the crop.
    np.testing.assert_allclose(arrays["landmarks"][..., 1].min(1), 16, atol=0.01)
    np.testing.assert_allclose(arrays["landmarks"][..., 1].max(1), 48, atol=0.01)
    np.testing.assert_array_equal(arrays["landmarks"][..., :2], arrays["face"])


def test_masks_lie_beside_the_frames_and_are_read_with_them(tmp_path):
    folder = save_photos(tmp_path / "anna", [with_face(scene(), 100, 60, yaw=i) for i in range(3)])
    footage = prepare_footage(folder, FootageSettings(size=64, mask=True))
    footage.save(tmp_path / "video")
    with Image.open(tmp_path / "video" / "mask" / "frame00001.png") as image:
        assert (image.mode, image.size) == ("L", (64, 64))
    for side in (64, 32):
        frames = read_frames(tmp_path / "video", image_side=side)
        assert frames.mask is not None
        assert frames.mask.shape == (3, side, side)
        # The window is twice the face, whose width is a tenth less. The stub sees no one in pixels
        # along the outline, of which there are 120 of 4096.
        inside = frames.mask[:, side // 2 - side // 4 : side // 2 + side // 4]
        assert frames.mask.sum() == inside.sum()
        np.testing.assert_allclose(frames.mask.mean((1, 2)), 0.9 / 4, atol=0.03)
        views = footage.views(side)
        assert views.mask is not None
        assert (np.asarray(views.mask) != frames.mask).mean() < 0.02
    assert footage.views(64)[:2].mask.shape == (2, 64, 64)
    plain = prepare_footage(folder, FootageSettings(size=64))
    assert plain.views(64).mask is None
    plain.save(tmp_path / "plain")
    assert not (tmp_path / "plain" / "mask").exists()
    assert read_frames(tmp_path / "plain", image_side=64).mask is None


def test_pictures_are_read_again_rather_than_held(head, monkeypatch):
    footage = prepare_footage(head, FootageSettings(frames=3, size=32))
    for value in vars(footage).values():
        assert np.size(value) < 31 * 468 * 3 + 1
    opened = []
    read = prepare.read_pictures
    monkeypatch.setattr(prepare, "read_pictures", lambda *a, **k: opened.append(1) or read(*a, **k))
    assert [pixels.shape for _, pixels in footage.crops()] == [(32, 32, 3)] * 3
    assert opened == [1]


def test_photos_of_one_person_are_all_kept_each_turned_by_itself(tmp_path):
    pictures = turning(5)
    pictures[2] = np.rot90(pictures[2], -1)
    footage = prepare_footage(save_photos(tmp_path / "anna", pictures), FootageSettings(size=64))
    assert [frame.source for frame in footage.kept] == [f"IMG_{i}.png" for i in range(5)]
    assert [frame.turns for frame in footage.kept] == [0, 0, 1, 0, 0]
    for _, pixels in footage.crops():
        assert (pixels[20:44, 20:40, 1] == stub_faces.GREEN).all()


def test_a_part_of_a_video_is_taken(head):
    footage = prepare_footage(head, FootageSettings(start=1.0, end=2.0))
    assert [f.seconds for f in footage.frames] == pytest.approx(np.arange(10, 21) / 10)
    assert len(footage.kept) == 11
    for frame, pixels in footage.crops(size=32):
        assert float(pixels[16, 16, 0]) - 127 == pytest.approx(frame.yaw, abs=1.5)


def test_the_longest_part_between_cuts_is_kept_and_told(tmp_path):
    first = [with_face(scene(seed=1), 40, 60, yaw=i) for i in range(5)]
    second = [with_face(scene(seed=2), 90, 60, yaw=i) for i in range(9)]
    said = []

    class Said(Monitor):
        def say(self, text, video=""):
            said.append(text)

    path = film(tmp_path / "cut.mkv", first + second)
    footage = prepare_footage(path, monitor=Said())
    assert [frame.index for frame in footage.kept] == list(range(5, 14))
    assert all("cut" in frame.reason for frame in footage.frames[:5])
    notes = [note for note in footage.notes if "cut into 2 parts" in note]
    assert len(notes) == 1
    assert "0.50 s to 1.30 s" in notes[0]
    assert notes[0] in said


def test_hidden_and_missing_faces_are_left_out_for_their_reason(tmp_path):
    pictures = turning()
    pictures[15] = with_face(scene(), 105, 60, yaw=0, hidden=True)
    pictures[3] = scene()
    footage = prepare_footage(film(tmp_path / "a.mkv", pictures))
    found = {frame.index: frame.reason for frame in footage.frames if not frame.kept}
    assert found == {
        3: "no face was found",
        15: "the face is half hidden, or turned too far away",
    }


def test_several_faces_are_told(tmp_path):
    pictures = [with_face(picture, 260, 150, 40) for picture in turning(12)]
    footage = prepare_footage(film(tmp_path / "a.mkv", pictures))
    assert any("--person X Y" in note for note in footage.notes)
    np.testing.assert_allclose([f.window.side for f in footage.kept if f.window], 160)
    other = prepare_footage(tmp_path / "a.mkv", FootageSettings(person=(270, 160), keep_all=True))
    np.testing.assert_allclose([f.window.side for f in other.kept if f.window], 80)


def test_long_and_endless_videos_are_read_in_bounds(head, monkeypatch):
    monkeypatch.setattr(prepare, "_MOST", 8)
    footage = prepare_footage(head)
    assert 7 <= len(footage.frames) <= 9
    assert "pictures a second are looked at" in footage.notes[0]
    monkeypatch.setattr(prepare, "about", lambda source: About(count=None, seconds=None))
    footage = prepare_footage(head)
    assert len(footage.frames) == 8
    assert "longer than 8 pictures" in footage.notes[0]


def test_without_a_head_the_reasons_are_told(tmp_path):
    path = film(tmp_path / "room.mkv", [scene()] * 4)
    with pytest.raises(
        NoFace, match=r"room.mkv: no frame of 4 can be used: no face was found \(4\)"
    ):
        prepare_footage(path)
    small = save_photos(tmp_path / "far", [with_face(scene(), 60, 60, 40)] * 2)
    with pytest.raises(NoFace, match=r"far: no frame of 2 .*the head is too small \(2\)"):
        prepare_footage(small)


def test_it_stops_when_asked_to(head):
    class Impatient(Monitor):
        def stop_requested(self):
            return True

    with pytest.raises(Stopped):
        prepare_footage(head, monitor=Impatient())


def test_it_prints_nothing_and_names_no_step_twice(head, tmp_path, capfd):
    steps = []

    class Shown(Monitor):
        def steps(self, video, stage, first, terms):
            steps.append((stage, first))

    prepare_footage(head, monitor=Shown()).save(tmp_path / "video", monitor=Shown())
    assert capfd.readouterr() == ("", "")
    names = list(dict.fromkeys(name for name, _ in steps))
    assert len(names) == 3
    for name in names:
        done = [first for stage, first in steps if stage == name]
        assert done == sorted(done)
    assert ("reading and landmarks", 31) in steps


def test_a_folder_with_files_is_not_written_into(head, tmp_path):
    (tmp_path / "video").mkdir()
    (tmp_path / "video" / "notes.txt").touch()
    with pytest.raises(InputError, match="holds files already"):
        prepare_footage(head).save(tmp_path / "video")
    assert [path.name for path in (tmp_path / "video").iterdir()] == ["notes.txt"]


def test_several_people_are_refused(tmp_path):
    for name in ("a", "b"):
        save_photos(tmp_path / name, [scene()])
    with pytest.raises(InputError, match="several people"):
        prepare_footage([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"fps": 3.0, "frames": 5}, "give one of them"),
        ({"fps": 0.0}, "fps is 0"),
        ({"fps": 31.0}, "fps is 31"),
        ({"frames": 0}, "frames is 0"),
        ({"size": 8}, "size is 8"),
        ({"max_yaw": 0.0}, "max_yaw is 0"),
        ({"start": -1.0}, "start is -1"),
        ({"start": 3.0, "end": 2.0}, "end is 2"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, named):
    with pytest.raises(InputError, match=named):
        FootageSettings(**settings)


def test_the_library_has_it():
    assert inversion.prepare_footage is prepare_footage
    assert inversion.FootageSettings is FootageSettings
