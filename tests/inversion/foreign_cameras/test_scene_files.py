"""Cameras of other programs are read as they write them; what is damaged is named."""

import json
import warnings
from dataclasses import replace
from pathlib import Path

import foreign_scenes
import numpy as np
import pytest
from foreign_scenes import FORMS, orbit, paint, random_similarity, replaced, scene, write_scene
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from eg3d_jax.errors import InputError
from inversion.foreign_cameras.export import labels_of_scene
from inversion.frames.colmap import read_colmap, write_colmap
from inversion.frames.metashape import read_metashape
from inversion.frames.scene import Lens
from inversion.frames.scene_files import find_cameras, read_scene
from inversion.frames.transforms import read_transforms, write_transforms

yaws = st.lists(st.floats(-3, 3), min_size=1, max_size=4)
seeds = st.integers(0, 2**16)
coefficients = st.floats(-0.3, 0.3).filter(lambda x: x == 0 or abs(x) > 1e-6)
in_a_folder = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def lenses(draw, forms=(0, 1, 2, 4, 5, 8)):
    """Lenses with any of OpenCV's coefficients, the last of which is not zero."""
    count = draw(st.sampled_from(forms))
    fisheye = count == 4 and draw(st.booleans())
    values = [draw(coefficients) for _ in range(count)]
    if values:
        values[-1] = values[-1] or 0.1
    width, height = draw(st.integers(1, 9000)), draw(st.integers(1, 9000))
    numbers = [draw(st.floats(0.5, 1e4)) for _ in range(4)]
    return Lens(
        width=width,
        height=height,
        fx=numbers[0],
        fy=numbers[1],
        cx=numbers[2],
        cy=numbers[3],
        distortion=tuple(values),
        fisheye=fisheye,
    )


def random_scene(yaw, seed, lens):
    found = scene(orbit(yaw), moved=random_similarity(seed))
    return replaced(found, lenses=(lens,) * len(found))


def assert_same(found, wanted):
    assert found.names == wanted.names
    np.testing.assert_allclose(found.cam2world, wanted.cam2world, atol=1e-9)
    for a, b in zip(found.lenses, wanted.lenses, strict=True):
        assert (a.width, a.height, a.fisheye) == (b.width, b.height, b.fisheye)
        assert a.distortion == b.distortion
        np.testing.assert_allclose(a.matrix, b.matrix, rtol=1e-12)


@in_a_folder
@given(yaws, seeds, lenses())
def test_transforms_come_back(tmp_path, yaw, seed, lens):
    wanted = random_scene(yaw, seed, lens)
    write_transforms(tmp_path / "transforms.json", wanted)
    assert_same(read_transforms(tmp_path / "transforms.json"), wanted)


@in_a_folder
@given(yaws, seeds, lenses(), st.booleans())
def test_colmap_models_come_back(tmp_path_factory, yaw, seed, lens, binary):
    folder, wanted = tmp_path_factory.mktemp("model"), random_scene(yaw, seed, lens)
    write_colmap(folder, wanted, binary=binary)
    assert_same(read_colmap(folder), wanted)


@in_a_folder
@given(yaws, st.floats(1, 9), st.integers(1, 5000), st.integers(1, 5000))
def test_labels_come_back_through_transforms_and_colmap(tmp_path, yaw, focal, width, height):
    labels = orbit(yaw)
    for i, label in enumerate(labels.values()):
        label[[16, 20]] = focal, focal * 1.1
        label[[18, 21]] = 0.4 + 0.01 * i, 0.55
    given_scene = foreign_scenes.scene_of_labels(tmp_path, labels, [(width, height)] * len(labels))
    write_transforms(tmp_path / "transforms.json", given_scene)
    write_colmap(tmp_path, given_scene)
    for found in (read_transforms(tmp_path / "transforms.json"), read_colmap(tmp_path)):
        back = labels_of_scene(found)
        for name, label in labels.items():
            np.testing.assert_allclose(back[name], label, atol=1e-9)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("count", [0, 2, 4, 8, "fisheye"])
def test_pycolmap_reads_what_is_written_and_writes_what_is_read(tmp_path, binary, count):
    pycolmap = pytest.importorskip("pycolmap", reason="COLMAP's own reader is the package pycolmap")
    values = (0.1, -0.05, 0.01, 0.02, 0.03, -0.01, 0.02, 0.01)
    lens = Lens(width=800, height=600, fx=900, fy=910, cx=390, cy=310,
                distortion=values[: 4 if count == "fisheye" else count],
                fisheye=count == "fisheye")  # fmt: skip
    wanted = random_scene([-0.4, 0.1, 0.7], 3, lens)
    (tmp_path / "a").mkdir()
    write_colmap(tmp_path / "a", wanted, binary=binary)
    theirs = pycolmap.Reconstruction(tmp_path / "a")
    assert theirs.num_images() == 3
    for image in theirs.images.values():
        place = wanted.names.index(image.name)
        pose = np.vstack([image.cam_from_world().inverse().matrix(), [0, 0, 0, 1]])
        np.testing.assert_allclose(pose, wanted.cam2world[place], atol=1e-9)
        # A point is seen at the same pixel.
        point = np.array([0.1, -0.05, 1.0])
        seen = image.camera.img_from_cam(point)
        if not lens.pinhole:
            pytest.importorskip("cv2", reason="lenses are OpenCV's, of the extra footage")
        from inversion.foreign_cameras.cuts import to_pixels

        np.testing.assert_allclose(seen, to_pixels(point[None], lens)[0], atol=1e-6)
    (tmp_path / "b").mkdir()
    theirs.write_binary(tmp_path / "b") if binary else theirs.write_text(tmp_path / "b")
    assert_same(read_colmap(tmp_path / "b"), wanted)


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_found_and_read_with_its_pictures(tmp_path, form):
    wanted = scene(orbit([-0.5, 0.0, 0.5]), moved=random_similarity(1))
    write_scene(tmp_path, wanted, form)
    found = read_scene(tmp_path)
    assert [Path(name).stem for name in found.names] == ["p0", "p1", "p2"]
    np.testing.assert_allclose(found.cam2world, wanted.cam2world, atol=1e-9)
    np.testing.assert_allclose(found.lenses[0].matrix, wanted.lenses[0].matrix, rtol=1e-9)
    assert found.lenses[0].pinhole
    for i, path in enumerate(found.pictures):
        assert path == tmp_path / "images" / f"p{i}.png"
    source = find_cameras(tmp_path)
    assert source is not None
    assert read_scene(source).names == found.names


def test_what_programs_keep_for_themselves_is_ignored_with_its_reason(tmp_path):
    write_scene(tmp_path, scene(orbit([0.0, 0.3])), "instant-ngp")
    (note,) = read_scene(tmp_path).notes
    assert note == "aabb_scale of transforms.json is ignored, the box of instant-ngp's renderer"
    (tmp_path / "transforms.json").unlink()
    write_scene(tmp_path, scene(orbit([0.0, 0.3])), "metashape")
    assert read_scene(tmp_path).notes == ("1 pictures were not aligned, and are left out",)


def test_other_parts_of_a_blender_scene_are_told(tmp_path):
    write_scene(tmp_path, scene(orbit([0.0, 0.3])), "blender")
    content = (tmp_path / "transforms_train.json").read_text()
    (tmp_path / "transforms_test.json").write_text(content)
    (note,) = read_scene(tmp_path).notes
    assert note.startswith("the frames of transforms_test.json are left")
    assert len(read_scene(tmp_path / "transforms_test.json")) == 2


def test_pictures_of_another_size_scale_their_cameras(tmp_path):
    wanted = scene(orbit([0.0, 0.3]))
    write_scene(tmp_path, wanted, "colmap")
    paint(tmp_path / "images", wanted.names, side=64)
    found = read_scene(tmp_path)
    assert found.lenses[0] == wanted.lenses[0].resized(64, 64)
    assert found.lenses[0].fx == 2 * wanted.lenses[0].fx
    assert "2 pictures have another size" in found.notes[0]
    Image.new("RGB", (64, 32)).save(tmp_path / "images" / "p1.png")
    with pytest.raises(InputError, match=r"p1.png is 64 x 32 pixels, but .* a camera of 32 x 32"):
        read_scene(tmp_path)


def test_missing_pictures_are_named_with_the_repair(tmp_path):
    write_scene(tmp_path, scene(orbit([0.0, 0.3, 0.5])), "transforms")
    (tmp_path / "images" / "p1.png").unlink()
    with pytest.raises(InputError, match=r"1 of 3 pictures are not there \(images/p1.png\); put"):
        read_scene(tmp_path)


def for_each_frame(folder, values):
    """Give the frames of a transforms.json what `values` says of each, by number and frame."""
    path = folder / "transforms.json"
    content = json.loads(path.read_text())
    for i, frame in enumerate(content["frames"]):
        frame |= values(i, frame)
    path.write_text(json.dumps(content))
    return path


def test_pictures_are_found_by_their_last_names_if_the_paths_are_another_machines(tmp_path):
    write_scene(tmp_path, scene(orbit([0.0, 0.3])), "transforms")
    for_each_frame(tmp_path, lambda _, frame: {"file_path": "C:\\data\\" + frame["file_path"]})
    assert [p.name for p in read_scene(tmp_path).pictures if p] == ["p0.png", "p1.png"]


def test_vhap_tells_moments_and_masks(tmp_path):
    wanted = scene(orbit([0.0, 0.3]))
    write_scene(tmp_path, wanted, "transforms")
    paint(tmp_path / "fg_masks", wanted.names)
    for_each_frame(
        tmp_path,
        lambda i, _: {
            "timestep_index": 7, "camera_index": i, "fg_mask_path": f"fg_masks/p{i}.png",
        },
    )  # fmt: skip
    found = read_scene(tmp_path)
    assert found.timesteps == (7, 7)
    assert [p and p.parent.name for p in found.masks] == ["fg_masks"] * 2


def changed(folder, wanted, dropped=(), **values):
    """A transforms.json of a scene, with other values for all frames."""
    write_scene(folder, wanted, "transforms")
    path = folder / "transforms.json"
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({k: v for k, v in content.items() if k not in dropped}))
    return path


def test_listed_coefficients_have_the_order_of_who_lists_them(tmp_path):
    """nerfstudio's `distortion_params` are k1, k2, k3, k4, p1, p2."""
    wanted, six = scene(orbit([0.0, 0.3])), [-0.3, 0.1, 0.05, 0, 0.02, -0.01]
    lens = read_transforms(changed(tmp_path, wanted, distortion_params=six)).lenses[0]
    assert lens.distortion == (-0.3, 0.1, 0.02, -0.01, 0.05)
    lens = read_transforms(changed(tmp_path, wanted, distortion=[0.1, 0.2, 0.3, 0.4])).lenses[0]
    assert lens.distortion == (0.1, 0.2, 0.3, 0.4)
    fish = {"camera_model": "OPENCV_FISHEYE", "distortion_params": [0.1, 0.2, 0.3, 0.4, 0, 0]}
    lens = read_transforms(changed(tmp_path, wanted, **fish)).lenses[0]
    assert lens.fisheye
    assert lens.distortion == (0.1, 0.2, 0.3, 0.4)
    for listed in ([0, 0, 0, 0.1, 0, 0], [0, 0, 0, 0, 0, 0, 0.1]):
        with pytest.raises(InputError, match="distortion_params is"):
            read_transforms(changed(tmp_path, wanted, distortion_params=listed))
    with pytest.raises(InputError, match="must be finite numbers"):
        read_transforms(changed(tmp_path, wanted, distortion_params=[0.1, "wide"]))


def test_one_angle_tells_both_focal_lengths(tmp_path):
    wanted = scene(orbit([0.0, 0.3]))
    lens = wanted.lenses[0]
    dropped = ["fl_x", "fl_y", "camera_angle_x"]
    angle = 2 * np.arctan(lens.height / 2 / lens.fy)
    path = changed(tmp_path, wanted, dropped=dropped, camera_angle_y=angle)
    found = read_transforms(path).lenses[0]
    np.testing.assert_allclose([found.fx, found.fy], lens.fy, rtol=1e-9)


def test_a_mask_that_is_not_there_is_not_the_picture(tmp_path):
    wanted = scene(orbit([0.0, 0.3]))
    write_scene(tmp_path, wanted, "transforms")
    paint(tmp_path / "masks", wanted.names)
    path = for_each_frame(tmp_path, lambda i, _: {"mask_path": f"masks/p{i}.png"})
    assert read_transforms(path).notes == ()
    (tmp_path / "masks" / "p1.png").unlink()
    found = read_transforms(path)
    assert [mask is None for mask in found.masks] == [False, True]
    assert found.notes == ()


def test_chunks_of_metashape_without_cameras_are_passed_over(tmp_path):
    path, plain = tmp_path / "cameras.xml", foreign_scenes.metashape(scene(orbit([0.0, 0.3])))
    path.write_text(plain.replace("<chunk", "<chunk></chunk><chunk", 1))
    assert len(read_metashape(path)) == 2
    begin, end = plain.index("<chunk"), plain.index("</chunk>") + len("</chunk>")
    path.write_text(plain[:end] + plain[begin:end] + plain[end:])
    assert any("the first of 2 chunks" in note for note in read_metashape(path).notes)
    path.write_text(plain.replace("<f>", "<fx>").replace("</f>", "</fx>"))
    with pytest.raises(InputError, match="PhotoScan's first releases"):
        read_metashape(path)


def test_metashape_lenses_are_opencvs(tmp_path):
    wanted = scene(orbit([0.0, 0.3]))
    bent = "<k1>0.1</k1><k2>-0.2</k2><p1>0.01</p1><p2>0.02</p2><k3>0.3</k3><b1>2</b1>"
    path = tmp_path / "cameras.xml"
    path.write_text(foreign_scenes.metashape(wanted, calibration=bent))
    lens = read_metashape(path).lenses[0]
    # Metashape's p1 belongs to x, as OpenCV's p2 does.
    assert lens.distortion == (0.1, -0.2, 0.02, 0.01, 0.3)
    assert lens.fx == wanted.lenses[0].fx + 2
    fish = foreign_scenes.metashape(wanted, calibration="<k1>0.1</k1>", kind="fisheye")
    path.write_text(fish)
    lens = read_metashape(path).lenses[0]
    assert lens.fisheye
    assert lens.distortion == (0.1,)
    for spoilt, says in (
        ({"calibration": "<k4>1</k4>"}, "coefficients that OpenCV does not know"),
        ({"calibration": "<b2>9</b2>"}, "coefficients that OpenCV does not know"),
        ({"kind": "spherical"}, "of type spherical; only frame and fisheye"),
        ({"calibration": "<k1>wide</k1>"}, "k1 is 'wide'"),
    ):
        path.write_text(foreign_scenes.metashape(wanted, **spoilt))
        with pytest.raises(InputError, match=says):
            read_metashape(path)


def test_an_xml_with_entities_of_its_own_is_refused(tmp_path):
    path, plain = tmp_path / "cameras.xml", foreign_scenes.metashape(scene(orbit([0.0, 0.3])))
    path.write_text('<!DOCTYPE x [<!ENTITY a "b">]>' + plain.split("?>")[1])
    with pytest.raises(InputError, match="document type"):
        read_metashape(path)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("cameras.txt", "1 FOV 32 32 9 9 9 9 0.1\n", "FOV is not known here .* image_undistorter"),
        ("cameras.txt", "1 PINHOLE 32 32 9 9\n", "a PINHOLE has 4 parameters, not 2"),
        ("cameras.txt", "1 PINHOLE 32 32 nan 9 9 9\n", "no camera or image: '1 PINHOLE"),
        ("cameras.txt", "1 PINHOLE 32 32 0 9 9 9\n", "must be positive"),
        ("cameras.txt", "2 PINHOLE 32 32 9 9 9 9\n", "by camera 1, which cameras.txt lacks"),
        ("cameras.txt", "1 PINHOLE\n", "no camera or image"),
        ("images.txt", "1 0 0 0 0 0 0 0 1 p0.png\n", "the pose is no quaternion"),
        ("images.txt", "1 1 0 0 0 0 0 0 1\n", "no camera or image"),
        ("images.txt", "# nothing\n", "holds no camera"),
        ("images.txt", "1 1 0 0 0 0 0 0 1 a\n\n2 1 0 0 0 0 0 0 1 a\n\n", "one camera for a"),
        ("images.txt", "1 1 0 0 0 0 0 0 1 a\n2 1 0 0 0 0 0 0 1 b\n", "no line of points, .* 1 a'"),
        ("images.txt", "1 1 0 0 0 0 0 0 1 a\n2 1 0 0 0 0 0 0 1 b c d\n", "no line of points"),
    ],
)
def test_what_is_wrong_in_a_model_is_named(tmp_path, file, content, says):
    write_scene(tmp_path, scene(orbit([0.0, 0.3])), "colmap-text")
    (tmp_path / "sparse" / "0" / file).write_text(content)
    with pytest.raises(InputError, match=says):
        read_scene(tmp_path)


def test_of_several_models_the_largest_is_taken_and_told(tmp_path):
    write_scene(tmp_path, scene(orbit([0.0, 0.3])), "colmap-text")
    assert read_scene(tmp_path).notes == ()
    for number in ("1", "10"):
        (tmp_path / "sparse" / number).mkdir()
    write_colmap(tmp_path / "sparse" / "10", scene(orbit([0.0, 0.3, 0.6])), binary=False)
    write_colmap(tmp_path / "sparse" / "1", scene(orbit([0.0])), binary=False)
    paint(tmp_path / "images", ["p2.png"])
    found = read_scene(tmp_path)
    assert len(found) == 3
    (note,) = found.notes
    assert "10 is taken, the largest; 0, 1 are left" in note
    assert len(read_scene(tmp_path / "sparse" / "1")) == 1


def test_folders_without_cameras_are_refused(tmp_path):
    assert find_cameras(tmp_path) is None
    with pytest.raises(InputError, match=r"holds no cameras; give a folder with a transforms.json"):
        read_scene(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_scene(tmp_path / "no")
    write_scene(tmp_path, scene(orbit([0.0, 0.3])), "transforms")
    (tmp_path / "dataset.json").write_text("{}")
    assert find_cameras(tmp_path) is None


def test_mirrored_and_scaled_matrices_are_refused(tmp_path):
    wanted = scene(orbit([0.0, 0.3]))
    for matrix, says in ((np.diag([1.0, 1, -1, 1]), "mirrors"), (2 * np.eye(4), "scaled")):
        write_transforms(
            tmp_path / "transforms.json", replaced(wanted, cam2world=wanted.cam2world @ matrix)
        )
        with pytest.raises(InputError, match=says):
            read_transforms(tmp_path / "transforms.json")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A scene in every form, and the files that hold its cameras."""
    found = {}
    for form in FORMS:
        folder = tmp_path_factory.mktemp(form)
        lens = replace(scene(orbit([0.0])).lenses[0], distortion=(0.1, 0.2))
        wanted = scene(orbit([-0.3, 0.0, 0.3]))
        wanted = replaced(wanted, lenses=(lens,) * 3)
        write_scene(folder, wanted, form)
        names = ("*.json", "*.xml", "sparse/0/cameras.*", "sparse/0/images.*")
        found[form] = folder, [path for name in names for path in folder.glob(name)]
    return found


def refusal(folder):
    """Why a scene is refused; '' if it is not. No other error will do."""
    try:
        read_scene(folder)
    except InputError as error:
        return str(error)
    return ""


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FORMS), st.data())
def test_damaged_files_are_read_or_refused_by_name(written, form, data):
    folder, files = written[form]
    path = data.draw(st.sampled_from(files))
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 9)) | st.just(len(whole)))
    put = data.draw(st.binary(max_size=9) | st.sampled_from([b"9", b"-", b"e9", b"null", b"[]"]))
    try:
        path.write_bytes(whole[:start] + put + whole[end:])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of rotations that are off by little
            said = refusal(folder)
        assert "\n" not in said
        assert folder.name in said or not said
    finally:
        path.write_bytes(whole)
