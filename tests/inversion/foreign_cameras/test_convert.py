"""Frames with cameras of other programs become folders that can be inverted."""

import json
from pathlib import Path

import numpy as np
import pytest
from foreign_scenes import FORMS, orbit, paint, random_similarity, replaced, scene, write_scene
from PIL import Image
from scipy.spatial.transform import Rotation

import inversion
from eg3d_jax.cameras import to_label
from eg3d_jax.errors import InputError
from inversion.foreign_cameras import convert
from inversion.foreign_cameras.convert import ConversionSettings, convert_frames
from inversion.foreign_cameras.export import scene_of_labels, write_cameras
from inversion.frames.camera_files import read_labels
from inversion.frames.folder import read_frames, read_image
from inversion.frames.labels import LABELS_FILE
from inversion.frames.scene import Lens
from inversion.monitor import Monitor, Stopped

DEMO = Path(__file__).parents[3] / "experiments" / "demo" / "demo_a"
LABELS = orbit([-0.6, -0.2, 0.2, 0.6], [0.1])
BY_CAMERAS = ConversionSettings(size=48, align="cameras")


class Told(Monitor):
    def __init__(self):
        self.said = []

    def say(self, text, video=""):
        self.said.append(text)


@pytest.fixture
def no_faces(monkeypatch):
    """Pictures of one grey, in which the nets would look in vain for longer."""
    monkeypatch.setattr(convert, "_landmarks", lambda nets, pixels: None)


@pytest.mark.parametrize("form", FORMS)
def test_labels_of_every_form_are_those_they_were_made_of(tmp_path, form):
    write_scene(tmp_path / "given", scene(LABELS, moved=random_similarity(7)), form)
    convert_frames(tmp_path / "given", BY_CAMERAS).save(tmp_path / "video")
    frames = read_frames(tmp_path / "video", image_side=32)
    assert frames.names == tuple(f"frame{i:05d}.png" for i in range(4))
    wanted = np.stack(list(LABELS.values()))
    np.testing.assert_allclose(to_label(frames.cameras), wanted, atol=1e-6)
    for i in range(4):  # whole, and each with its own camera
        np.testing.assert_allclose(read_image(frames, i), (10 * i + 5) / 127.5 - 1, atol=1e-6)


def test_what_was_done_is_told_and_written(tmp_path, no_faces):
    write_scene(tmp_path / "given", scene(LABELS, moved=random_similarity(7)), "instant-ngp")
    told = Told()
    converted = convert_frames(tmp_path / "given", monitor=told)
    converted.save(tmp_path / "video")
    assert converted.method == "cameras"
    found = "a face was found in 0 of 4 pictures: the cameras alone tell where the head is"
    assert told.said == list(converted.notes)
    for words in (
        found,
        "aabb_scale",
        "aligned by the cameras alone (lengths times ",
        "kept whole",
    ):
        assert any(words in text for text in told.said), words
    written = json.loads((tmp_path / "video" / "cameras.json").read_text())
    assert written["method"] == "cameras"
    assert written["notes"] == list(converted.notes)
    similarity = written["similarity"]
    back = random_similarity(7)
    assert similarity["scale"] == pytest.approx(1 / back.scale)
    np.testing.assert_allclose(similarity["rotation"], back.rotation.T, atol=1e-6)
    assert [frame["source"] for frame in written["frames"]] == [f"images/{n}" for n in LABELS]
    assert [frame["yaw"] for frame in written["frames"]] == pytest.approx(
        np.degrees([-0.6, -0.2, 0.2, 0.6])
    )


def test_cameras_of_eg3ds_world_stay_as_they_are(tmp_path):
    labels = orbit([-0.1, 0.3, 0.9], [0.2])
    for label in labels.values():
        label[[16, 20]] *= 1.01  # as a refinement leaves them
        label[3] += 0.01
    write_scene(tmp_path / "given", scene(labels), "transforms")
    converted = convert_frames(tmp_path / "given")
    assert converted.method == "none"
    assert "already, and are taken as they are" in converted.notes[0]
    found = np.stack([frame.label for frame in converted.frames])
    np.testing.assert_allclose(found, np.stack(list(labels.values())), atol=1e-9)


def test_wide_pictures_are_cut_to_squares_with_the_head_in_the_middle(tmp_path):
    """Ten pixels wider to each side, they are by the same cameras."""
    given = scene(LABELS, moved=random_similarity(4))
    lenses = tuple(Lens(**{**vars(a), "width": 52, "cx": 26.0}) for a in given.lenses)
    write_scene(tmp_path / "given", replaced(given, lenses=lenses), "transforms")
    for i, name in enumerate(given.names):
        picture = np.zeros((32, 52, 3), np.uint8)
        picture[:, 10:42] = 10 * i + 50
        Image.fromarray(picture).save(tmp_path / "given" / "images" / name)
    convert_frames(tmp_path / "given", BY_CAMERAS).save(tmp_path / "video")
    frames = read_frames(tmp_path / "video", image_side=48)
    wanted = np.stack(list(LABELS.values()))
    np.testing.assert_allclose(to_label(frames.cameras), wanted, atol=1e-6)
    for i in range(4):
        middle = read_image(frames, i)[:, 3:-3]
        np.testing.assert_allclose(middle, (10 * i + 50) / 127.5 - 1, atol=1e-6)


def test_cameras_of_another_distance_are_told_as_eg3ds(tmp_path):
    """Half the focal length: cameras of which none is where the generator looks."""
    given = scene(LABELS, moved=random_similarity(4))
    lenses = tuple(Lens(**{**vars(a), "fx": a.fx / 2, "fy": a.fy / 2}) for a in given.lenses)
    write_scene(tmp_path / "given", replaced(given, lenses=lenses), "transforms")
    converted = convert_frames(tmp_path / "given", BY_CAMERAS)
    assert any("cameras stand 1.35 to 1.35 units from the head" in n for n in converted.notes)
    found = np.stack([frame.label for frame in converted.frames])
    np.testing.assert_allclose(found, np.stack(list(LABELS.values())), atol=1e-6)


def test_frames_are_chosen_evenly_by_yaw_and_the_others_told(tmp_path):
    write_scene(tmp_path / "given", scene(orbit(np.linspace(-0.8, 0.8, 9))), "transforms")
    chosen = convert_frames(tmp_path / "given", ConversionSettings(frames=3, align="cameras"))
    assert [frame.source for frame in chosen.kept] == [f"images/p{i}.png" for i in (0, 4, 8)]
    assert {frame.reason for frame in chosen.frames if not frame.file} == {"others are as good"}
    chosen.save(tmp_path / "video")
    assert len(read_frames(tmp_path / "video", image_side=32)) == 3


def test_pictures_without_the_head_are_left_out(tmp_path):
    """One camera turned by half its distance's angle; the mean of the others holds."""
    given = scene(orbit(np.linspace(-0.6, 0.6, 7)), moved=random_similarity(1))
    c, s = np.cos(0.2), np.sin(0.2)
    poses = given.cam2world.copy()
    poses[3] = poses[3] @ np.array([[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1]])
    write_scene(tmp_path / "given", replaced(given, cam2world=poses), "transforms")
    converted = convert_frames(tmp_path / "given", BY_CAMERAS)
    (left_out,) = (frame for frame in converted.frames if frame.reason)
    assert left_out.source == "images/p3.png"
    assert left_out.reason.endswith("% of the head's square lies outside the picture")
    assert any("1 pictures do not show the head" in note for note in converted.notes)


def timed(folder, moments, cameras):
    """Frames as VHAP exports them: pictures of `cameras` at each of some moments, with masks."""
    labels = orbit(cameras, [0.1])
    write_scene(folder, scene(labels, moved=random_similarity(2)), "transforms")
    path = folder / "transforms.json"
    content = json.loads(path.read_text())
    frames = []
    for t in range(moments):
        for i, frame in enumerate(content["frames"]):
            name = f"{t:05d}_{i:02d}.png"
            paint(folder / "images", [name])
            (folder / "fg_masks").mkdir(exist_ok=True)
            mask = np.zeros((32, 32), np.uint8)
            mask[: 8 + 8 * i] = 255
            Image.fromarray(mask).save(folder / "fg_masks" / name)
            told = {"file_path": f"images/{name}", "fg_mask_path": f"fg_masks/{name}"}
            frames.append(frame | told | {"timestep_index": t, "camera_index": i})
    path.write_text(json.dumps(content | {"frames": frames}))


def test_one_moment_is_taken_of_a_head_that_moves_with_its_masks(tmp_path):
    timed(tmp_path / "given", 3, [-0.4, 0.4])
    converted = convert_frames(tmp_path / "given", BY_CAMERAS)
    assert [frame.source for frame in converted.kept] == [f"images/00000_0{i}.png" for i in (0, 1)]
    assert any("moves between 3 timesteps" in note for note in converted.notes)
    later = convert_frames(
        tmp_path / "given", ConversionSettings(size=48, align="cameras", timestep=2)
    )
    later.save(tmp_path / "video")
    frames = read_frames(tmp_path / "video", image_side=32)
    assert frames.mask is not None
    np.testing.assert_allclose(frames.mask.mean((1, 2)), [8 / 32, 16 / 32])
    with pytest.raises(InputError, match="no timestep 3; there are 0 to 2"):
        convert_frames(tmp_path / "given", ConversionSettings(timestep=3))


def test_a_head_that_moves_before_one_camera_is_footage(tmp_path):
    timed(tmp_path / "given", 3, [0.0])
    with pytest.raises(InputError, match="one camera that stands still.* prepare it as footage"):
        convert_frames(tmp_path / "given")


def test_masks_are_taken_if_all_frames_that_are_kept_have_one(tmp_path):
    timed(tmp_path / "given", 1, [-0.4, 0.0, 0.4])
    (tmp_path / "given" / "fg_masks" / "00000_01.png").unlink()
    converted = convert_frames(tmp_path / "given", BY_CAMERAS)
    assert not converted.has_masks
    said = "no masks are taken, as those of images/00000_01.png are not there: it takes all"
    assert said in converted.notes
    fewer = convert_frames(
        tmp_path / "given", ConversionSettings(size=48, align="cameras", frames=2)
    )
    assert fewer.has_masks
    assert said not in fewer.notes


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": 8}, "size is 8"),
        ({"frames": 0}, "frames is 0"),
        ({"align": "face", "front": "a"}, "it is for align cameras"),
        ({"front": "p9.png"}, r"--front p9.png names no picture of .*, such as images/p0.png"),
        ({"timestep": 1}, "no timestep 1; there are none|tells of none"),
        ({"align": "face"}, "a face was found in 0 of 4 pictures; --align cameras"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(tmp_path, no_faces, changes, says):
    write_scene(tmp_path, scene(LABELS, moved=random_similarity(1)), "transforms")
    with pytest.raises(InputError, match=says):
        convert_frames(tmp_path, ConversionSettings(**changes))


def test_folders_with_other_cameras_are_no_frames_yet(tmp_path):
    write_scene(tmp_path, scene(LABELS), "colmap")
    with pytest.raises(InputError, match=r"of another world, sparse/0; bring .* `eg3d-jax prepare"):
        read_frames(tmp_path, image_side=32)


def test_it_can_be_stopped_and_leaves_no_labels(tmp_path):
    class Stop(Monitor):
        def stop_requested(self):
            return True

    write_scene(tmp_path / "given", scene(LABELS), "transforms")
    converted = inversion.convert_frames(tmp_path / "given", BY_CAMERAS)
    with pytest.raises(Stopped):
        converted.save(tmp_path / "video", monitor=Stop())
    assert not (tmp_path / "video" / LABELS_FILE).exists()
    with pytest.raises(InputError, match="holds files already"):
        converted.save(tmp_path / "video")


def test_a_picture_turned_by_its_tag_is_read_as_its_camera_has_it(tmp_path):
    """COLMAP looks at pictures as they are stored."""
    labels = orbit([-0.4, 0.4], [0.1])
    given = scene(labels, moved=random_similarity(2))
    lenses = tuple(Lens(**{**vars(a), "width": 52, "cx": 26.0}) for a in given.lenses)
    write_scene(tmp_path, replaced(given, lenses=lenses), "colmap")
    tag = Image.Exif()
    tag[0x0112] = 6
    for name in given.names:
        Image.new("RGB", (52, 32), (90, 90, 90)).save(tmp_path / "images" / name, exif=tag)
    stored = convert_frames(tmp_path, BY_CAMERAS)
    assert stored.frames[0].lens.width == 52
    assert stored.frames[0].pixels(48).shape == (48, 48, 3)
    for name in given.names:
        Image.new("RGB", (32, 52), (90, 90, 90)).save(tmp_path / "images" / name, exif=tag)
    shown = convert_frames(tmp_path, BY_CAMERAS)
    np.testing.assert_array_equal(shown.frames[0].label, stored.frames[0].label)
    np.testing.assert_array_equal(shown.frames[0].pixels(48), 90)


@pytest.mark.slow
@pytest.mark.parametrize("world", ["eg3d", "embedded"])
def test_the_demo_head_is_aligned_by_its_face(tmp_path, world):
    """The real nets: the head's frames from a world of their own, into a generator's."""
    labels = read_labels(DEMO)
    chosen = {name: labels[name] for name in list(labels)[21:40:3]}
    sizes, pictures = [(128, 128)] * len(chosen), [DEMO / name for name in chosen]
    given = scene_of_labels(DEMO, chosen, sizes, pictures)
    moved = replaced(given, cam2world=random_similarity(5).move(given.cam2world))
    write_cameras(tmp_path, moved, "colmap")
    converted = convert_frames(tmp_path, ConversionSettings(size=128, world=world))
    assert converted.method == "face"
    turn = converted.similarity.rotation @ random_similarity(5).rotation
    pitch, yaw, roll = Rotation.from_matrix(turn).as_euler("xyz", degrees=True)
    # The bar is a degree or two; what is upright differs from head to head by some more.
    assert abs(yaw) < 2
    assert abs(roll) < 2
    assert abs(pitch - {"eg3d": -4.2, "embedded": 0.0}[world]) < 4
    scale = converted.similarity.scale * random_similarity(5).scale
    assert scale == pytest.approx({"eg3d": 1.364, "embedded": 1.0}[world], rel=0.05)
    assert all(frame.cut is None for frame in converted.frames) == (world == "embedded")
    assert max(f.residual for f in converted.frames if f.residual is not None) < 8
    yaws = [frame.yaw for frame in converted.frames]
    true = [float(np.degrees(np.arctan2(label[3], label[11]))) for label in chosen.values()]
    np.testing.assert_allclose(np.diff(yaws), np.diff(true), rtol=0.1)
