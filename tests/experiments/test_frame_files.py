"""Labels and pictures find each other however their paths are written, or it is said why not."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from eg3d_jax.cameras import from_label
from eg3d_jax.errors import InputError
from experiments.refined_folder import check_copy, copy_frames
from inversion.frames.folder import read_frames

LABEL = [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1, 4, 0, 0.5, 0, 4, 0.5, 0, 0, 1]


@pytest.fixture
def make(tmp_path):
    def write(labelled, pictures):
        content = {"labels": [[name, LABEL] for name in labelled]}
        (tmp_path / "dataset.json").write_text(json.dumps(content))
        for number, name in enumerate(pictures):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(path)
        return tmp_path

    return write


def refusal(folder):
    with pytest.raises(InputError) as caught:
        read_frames(folder, image_side=8)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("labelled", "picture"),
    [
        ("./a.png", "a.png"),
        (".\\a.png", "a.png"),
        ("00000\\a.png", "00000/a.png"),
        ("./00000//a.png", "00000/a.png"),
        ("00000\\a.png", "00000\\a.png"),  # a zip of Windows, unpacked by a tool that knows no \
        ("e\u0301.png", "\u00e9.png"),
    ],
)
def test_paths_may_be_written_in_other_ways(make, labelled, picture):
    folder = make([labelled], [picture])
    frames = read_frames(folder, image_side=8)
    assert frames.paths == (folder / picture,)


@pytest.mark.parametrize("name", ["/home/a.png", "../a.png", "x/../../a.png", "C:\\x\\a.png"])
def test_pictures_outside_the_folder_are_refused(make, name):
    message = refusal(make([name], ["a.png"]))
    assert name.replace("\\", "/") in message
    assert "path from there, such as a.png" in message


@pytest.mark.parametrize(
    ("labelled", "pictures", "taken"),
    [
        (["a.jpg", "b.jpg"], ["512/a.jpg", "512/b.jpg"], ["512/a.jpg", "512/b.jpg"]),
        (["a.jpg"], ["512/a.jpg", "preview.png", "256/b.png"], ["512/a.jpg"]),
        (["00/a.jpg", "01/b.jpg"], ["i/00/a.jpg", "i/01/b.jpg"], ["i/00/a.jpg", "i/01/b.jpg"]),
        (["a.jpg", "a_mirror.jpg"], ["512/a.jpg", "512/a_mirror.jpg"], ["512/a.jpg"]),
        (["a.jpg", "a_mirror.jpg"], ["512/a.jpg"], ["512/a.jpg"]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*mirror image")
def test_pictures_one_folder_down_are_taken_with_a_warning(make, labelled, pictures, taken):
    folder = make(labelled, pictures)
    where = taken[0].split("/")[0]
    with pytest.warns(UserWarning, match=f"that dataset.json names lie in {where}/, and are taken"):
        frames = read_frames(folder, image_side=8)
    assert frames.paths == tuple(folder / name for name in taken)
    assert frames.names == tuple(name for name in labelled if "_mirror" not in name)


@pytest.mark.parametrize(
    ("labelled", "pictures", "says"),
    [
        (["a.png", "b.png"], ["512/a.png", "512/b.png", "64/a.png", "64/b.png"], "in 64/, 512/;"),
        (["a.png", "b.png"], ["512/a.png"], "no frames; 512/ holds 1 of these 2 images"),
        (["a.png", "b.png"], ["a.png", "512/b.png"], "512/ holds 1 of these 1 images"),
        (["512/a.png"], ["a.png"], "512/a.png lies in .* as a.png: leave the folder out"),
        (
            ["a.png", "b.png"],
            ["a.jpg", "b.jpg"],
            "only endings differ, a.png is labelled and a.jpg",
        ),
        (["a"], ["a.png"], "only endings differ, a is labelled and a.png"),
        (["A.PNG"], ["a.png"], "A.PNG is labelled and a.png"),
        (["a.bmp"], ["a.bmp"], "no frames; a.bmp is there, but is no png, jpg or webp"),
        (["a.png"], ["b.png"], "give every image one label of exactly its name"),
        (["a.png"], [], "holds no frames; put png, jpg or webp images there"),
    ],
)
def test_what_may_be_meant_is_said(make, labelled, pictures, says):
    assert re.search(says, refusal(make(labelled, pictures)))


@pytest.mark.filterwarnings("ignore:.*lie in 512")
def test_more_pictures_than_labels_one_folder_down_are_refused(make):
    assert "no label for c.png" in refusal(make(["a.png"], ["512/a.png", "512/c.png"]))


def test_labels_in_the_folder_above_or_below_are_named(make):
    folder = make(["a.png"], ["512/a.png"])
    assert f"the folder above it has one; give that folder, {folder}" in refusal(folder / "512")
    (folder / "dataset.json").rename(folder / "512" / "dataset.json")
    assert f"{folder / '512'} has one; give that" in refusal(folder)


@pytest.mark.filterwarnings("ignore:.*lie in 512")
def test_copies_lie_where_their_labels_say(make, tmp_path):
    frames = read_frames(make(["a.png", "x\\b.png"], ["512/a.png", "512/x/b.png"]), image_side=8)
    copy = tmp_path.parent / f"{tmp_path.name}_copy"
    check_copy(frames, copy, "mark.json", overwrite=False)
    copy_frames(frames, copy, from_label([LABEL, LABEL]))
    (copy / "mark.json").write_text("{}")
    again = read_frames(copy, image_side=8)
    assert again.paths == (copy / "a.png", copy / "x" / "b.png")
    assert [Path(p).read_bytes() for p in again.paths] == [p.read_bytes() for p in frames.paths]
    check_copy(frames, copy, "mark.json", overwrite=True)  # none of its pictures is strange
