"""Folders of frames that cannot be used are refused in one sentence."""

import json

import numpy as np
import pytest

from eg3d_jax.errors import InputError
from inversion.frames.folder import check_images, read_frames


def _refusal(folder, **options):
    with pytest.raises(InputError) as caught:
        read_frames(folder, **{"image_side": 16, **options})
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_wrong_folders_are_refused(tmp_path):
    assert "does not exist" in _refusal(tmp_path / "nowhere")
    assert "has no dataset.json" in _refusal(tmp_path)
    (tmp_path / "file").write_text("")
    assert "is not a folder" in _refusal(tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"labels": null}', "holds no labels"),
        ('{"labels": []}', "holds no labels"),
        ("[1]", "holds no labels"),
        ('{"labels": [["a.png"]]}', "entry 0 of labels"),
        ('{"labels": {"a.png": 3}}', "must be a list of 25"),
    ],
)
def test_wrong_label_files_are_refused(frames_folder, text, says):
    (frames_folder / "dataset.json").write_text(text)
    assert says in _refusal(frames_folder)


def test_labels_and_images_must_match_one_to_one(frames_folder, labels, write_labels):
    removed = labels.pop("frame2.png")
    write_labels(labels)
    message = _refusal(frames_folder)
    assert "11 labels for 12 images" in message
    assert "no label for frame2.png" in message
    write_labels(labels | {"frame2.png": removed, "other.png": removed})
    assert "no image for other.png" in _refusal(frames_folder)
    pairs = [[name, label] for name, label in (labels | {"frame2.png": removed}).items()]
    (frames_folder / "dataset.json").write_text(json.dumps({"labels": [*pairs, pairs[0]]}))
    assert "more than one label for frame1.png" in _refusal(frames_folder)


def test_a_folder_without_images_is_refused(frames_folder, labels):
    for name in labels:
        (frames_folder / name).unlink()
    assert "holds no frames" in _refusal(frames_folder)


def _nan(label):
    label[5] = float("nan")


def _huge(label):
    label[5] = 10**400


def _text(label):
    label[5] = "one"


def _short(label):
    label.pop()


def _scaled(label):
    label[:3] = [2 * v for v in label[:3]]


def _mirrored(label):
    for i in (0, 4, 8):
        label[i] = -label[i]


def _transposed(label):
    label[:16] = np.reshape(label[:16], (4, 4)).T.ravel().tolist()


def _no_focal(label):
    label[16] = 0.0


def _negative_focal(label):
    label[20] = -4.0


def _in_pixels(label):
    label[16:22] = [512 * v for v in label[16:22]]


def _bad_intrinsics(label):
    label[24] = 0.5


def _opengl(label):
    for i in (1, 5, 9, 2, 6, 10):
        label[i] = -label[i]


def _beside(label):
    for i in (3, 7, 11):
        label[i] += 3 * label[i % 4 - 3 + (i // 4) * 4]


def _inside(label):
    label[3], label[7], label[11] = 0.1, 0.0, 0.2


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_nan, "holds nan at index 5"),
        (_huge, "finite"),
        (_text, "want a number"),
        (_short, "has 24 numbers"),
        (_scaled, "not orthonormal"),
        (_mirrored, "determinant -1"),
        (_transposed, "transposed?"),
        (_no_focal, "focal length is 0"),
        (_negative_focal, "focal length is -4"),
        (_in_pixels, "look like pixels"),
        (_bad_intrinsics, "fx skew cx"),
        (_opengl, "looks away"),
        (_beside, "outside the image"),
        (_inside, "inside the head"),
    ],
)
def test_impossible_cameras_are_refused(frames_folder, labels, write_labels, spoil, says):
    spoil(labels["frame7.png"])
    write_labels(labels)
    message = _refusal(frames_folder)
    assert says in message
    assert "frame7.png" in message


def test_cameras_of_another_scale_are_refused(frames_folder, labels, write_labels):
    for label in labels.values():
        for i in (3, 7, 11):
            label[i] *= 10
    write_labels(labels)
    assert "27 units from the origin" in _refusal(frames_folder, ray_range=(2.25, 3.3))


def test_too_few_frames_are_refused(frames_folder):
    assert "has 12 frames, fewer than the 13 views" in _refusal(frames_folder, min_frames=13)


@pytest.mark.parametrize("length", [0, 20, 300])
def test_a_truncated_image_is_refused_before_any_work(frames_folder, length):
    path = frames_folder / "frame4.png"
    path.write_bytes(path.read_bytes()[:length])
    assert "frame4.png" in _refusal(frames_folder)


def test_damage_behind_the_header_is_found_when_decoding(frames_folder):
    path = frames_folder / "frame4.png"
    data = bytearray(path.read_bytes())
    data[100:200] = bytes(100)
    path.write_bytes(data)
    assert "cannot be decoded" in _refusal(frames_folder)
    frames = read_frames(frames_folder, image_side=16, decode_all=False)
    check_images(frames, [0, 1])
    with pytest.raises(InputError, match="frame4.png"):
        check_images(frames, [0, 3])


def test_wrong_truth_is_refused(frames_folder):
    path = frames_folder / "depth.npz"
    np.savez(path, other=np.zeros(3))
    assert "no array named depth" in _refusal(frames_folder)
    np.savez(path, depth=np.zeros((3, 4, 4)))
    assert "[12, side, side]" in _refusal(frames_folder)
    np.savez(path, depth=np.zeros((12, 8, 4)))
    assert "float64 [12, 8, 4]; it must be numbers [12, side, side]" in _refusal(frames_folder)
    with path.open("wb") as file:
        np.save(file, np.zeros((12, 4, 4)))
    assert "depth.npz is a lone array, no archive" in _refusal(frames_folder)
    np.savez(path, depth=np.full((12, 4, 4), np.inf))
    assert "not finite" in _refusal(frames_folder)
    path.write_bytes(path.read_bytes()[:40])
    assert "truncated or damaged" in _refusal(frames_folder)
