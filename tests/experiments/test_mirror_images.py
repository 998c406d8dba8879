"""Mirror images whose names are lost are known by their pictures and cameras."""

import json

import numpy as np
import pytest
from PIL import Image

from eg3d_jax.cameras import mirror_image, to_label, yaw_pitch_camera
from inversion.frames.folder import read_frames
from inversion.frames.mirror_images import mirrored, unnamed_mirrors

YAW = (-37.2, -14.0, 11.3, 34.7, 50.1)


def cameras(yaw):
    view = yaw_pitch_camera(np.radians(yaw), np.full(len(yaw), 0.05))
    return np.asarray(to_label(view), np.float64)


def in_turn(items, flip):
    return [x for item in items for x in (item, flip(item))]


def flip_picture(picture):
    return picture[:, ::-1]


def pictures(count):
    rng = np.random.default_rng(0)
    small = [rng.integers(0, 256, (4, 4, 3), dtype=np.uint8) for _ in range(count)]
    return [np.asarray(Image.fromarray(pixels).resize((32, 32))) for pixels in small]


def found(labels, images=None):
    names = [f"{i}.png" for i in range(len(labels))]
    read = None if images is None else dict(zip(names, images, strict=True)).__getitem__
    return sorted(unnamed_mirrors("x.json", dict(zip(names, labels, strict=True)), read))


MIRRORED = in_turn(cameras(YAW), mirror_image)


def test_pictures_and_cameras_that_are_mirror_images_are_left_out():
    images = in_turn(pictures(5), flip_picture)
    with pytest.warns(UserWarning, match="x.json: 5 mirror images .* left out .1.png, 3.png"):
        assert found(MIRRORED, images) == [f"{i}.png" for i in (1, 3, 5, 7, 9)]


def test_some_may_be_missing_and_one_pair_may_be_all():
    images = in_turn(pictures(5), flip_picture)
    kept = [0, 1, 2, 4, 5, 7, 8, 9]
    with pytest.warns(UserWarning, match="3 mirror images"):
        assert found([MIRRORED[i] for i in kept], [images[i] for i in kept]) == [
            "1.png", "4.png", "7.png"]  # fmt: skip
    with pytest.warns(UserWarning, match="1 mirror image of"):
        assert found(MIRRORED[:2], images[:2]) == ["1.png"]


def test_numbers_without_leading_zeros_part_some_pairs():
    names = [f"frame{i}" for i in range(1, 13)]
    labels, images = cameras(np.linspace(-41, 37, 12)), pictures(12)
    all_names = [(f"{n}.png", labels[i], images[i]) for i, n in enumerate(names)]
    all_names += [(f"{n}_mirror.png", mirror_image(label), flip_picture(image))
                  for (n, label, image) in zip(names, labels, images, strict=True)]  # fmt: skip
    all_names.sort(key=lambda entry: entry[0])  # as EG3D's numbering takes them
    _, labels, images = zip(*all_names, strict=True)
    wanted = [f"{i}.png" for i, (name, *_) in enumerate(all_names) if "_mirror" in name]
    with pytest.warns(UserWarning, match="12 mirror images"):
        assert found(labels, images) == sorted(wanted)


def test_cameras_alone_are_told_of():
    with pytest.warns(UserWarning, match="0.png and 1.png, 5 pairs.; if"):
        assert found(MIRRORED) == []
    with pytest.warns(UserWarning, match="5 pairs.*"):
        assert found(np.round(MIRRORED, 5)) == []
    with pytest.warns(UserWarning, match="5 pairs., though their pictures are not"):
        assert found(MIRRORED, pictures(10)) == []
    flat = [np.full((8, 8, 3), 99, np.uint8)] * 10  # their own mirror images, which tells nothing
    with pytest.warns(UserWarning, match="though their pictures are not"):
        assert found(MIRRORED, flat) == []


@pytest.mark.parametrize(
    "yaw",
    [
        (-40, -20, 0, 20, 40),
        (-30, -10, 10, 30),
        (-20, 20),
        (-20, 20) * 4,  # to and fro
        (0,) * 6,
        tuple(30 * np.sin(np.linspace(0, 2 * np.pi, 40, endpoint=False))),
        tuple(np.linspace(-60, 60, 60)),
    ],
)
def test_symmetric_turns_are_no_mirror_images(yaw):
    labels = cameras(yaw)
    assert found(labels) == []
    assert found(labels, pictures(len(yaw))) == []
    assert found(labels, [pictures(1)[0]] * len(yaw)) == []


def test_mirrored_pictures_from_cameras_of_their_own_are_kept():
    assert found(cameras(np.linspace(-40, 35, 10)), in_turn(pictures(5), flip_picture)) == []


def test_names_tell_of_mirror_images_beside_their_originals():
    assert mirrored(["a.png", "a_mirror.png", "b_mirror.png", "c", "c_mirror"]) == {
        "a_mirror.png", "c_mirror"}  # fmt: skip


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_folder_of_numbered_mirror_images_is_read_without_them(tmp_path, ending):
    names = [f"img{i:08d}.{ending}" for i in range(10)]
    for name, image in zip(names, in_turn(pictures(5), flip_picture), strict=True):
        Image.fromarray(image).save(tmp_path / name)
    pairs = [[name, label.tolist()] for name, label in zip(names, MIRRORED, strict=True)]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": pairs}))
    with pytest.warns(UserWarning, match="5 mirror images"):
        frames = read_frames(tmp_path, image_side=16)
    assert frames.names == tuple(names[::2])
    assert [path.name for path in frames.paths] == names[::2]
    np.testing.assert_allclose(to_label(frames.cameras), cameras(YAW), atol=1e-6)
