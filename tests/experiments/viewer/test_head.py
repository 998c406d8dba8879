"""What the viewer draws, and the files it writes, without a browser."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from eg3d_jax.cameras import azimuth, yaw_pitch_camera
from eg3d_jax.errors import InputError
from eg3d_jax.generator import planes_of
from experiments.media.pictures import to_uint8
from experiments.view.exports import Exports
from experiments.view.head import DISPLAYS, Head, Look, colour_extinction, density_slice, on_canvas
from experiments.view.targets import load_targets
from inversion.editing import Directions
from inversion.latents import latents_at

YAW = 0.3


@pytest.fixture(scope="module")
def head(subjects):
    return Head(subjects)


@pytest.fixture(scope="module")
def camera():
    return yaw_pitch_camera(YAW, 0.1)


def difference(a, b):
    return np.abs(a.astype(int) - b.astype(int)).max()


def test_a_still_picture_is_what_the_generator_makes(head, subjects, camera):
    def synthesize(generator, latents, camera):
        return generator.synthesize(latents_at(latents, azimuth(camera)), camera).image

    wanted = jax.jit(synthesize)(subjects.generator, subjects.latents[0], camera)
    picture = head.picture(camera, Look(), moving=False)
    assert difference(picture, to_uint8(wanted)) <= 1


def test_every_display_is_a_square_picture_that_differs_from_the_others(head, camera):
    pictures = [head.picture(camera, Look(display=what), moving=True) for what in DISPLAYS]
    for picture in pictures:
        assert picture.dtype == np.uint8
        assert picture.shape[0] == picture.shape[1]
        assert picture.shape[2] == 3
    assert len({picture.tobytes() for picture in pictures}) == len(DISPLAYS)


def test_a_moving_picture_has_fewer_rays(head, camera):
    moving, still = (
        head.picture(camera, Look(display="density"), moving=moving) for moving in (True, False)
    )
    assert (moving.shape[0], still.shape[0]) == (4, 8)


def test_the_latent_follows_the_camera_or_stays(head, camera):
    from_camera = head.picture(camera, Look(), moving=False)
    same = head.picture(camera, Look(yaw=math.degrees(YAW)), moving=False)
    other = head.picture(camera, Look(yaw=-math.degrees(YAW)), moving=False)
    assert difference(from_camera, same) <= 1
    assert difference(from_camera, other) > 1


def test_truncation_goes_from_the_head_to_the_mean(head, subjects):
    mean = subjects.generator.mapping.w_avg[...]
    fitted = subjects.latents[0].w_plus
    np.testing.assert_allclose(head.latents(Look()).w_plus, fitted, atol=1e-6)
    halfway = head.latents(Look(truncation=0.5)).w_plus
    np.testing.assert_allclose(halfway, (fitted + mean) / 2, atol=1e-6)
    none = head.latents(Look(truncation=0.0)).w_plus
    np.testing.assert_allclose(none, jnp.broadcast_to(mean, none.shape), atol=1e-6)


def test_edits_of_w_plus_move_each_layer_by_its_own_offset(subjects):
    w_plus = np.asarray(subjects.latents[0].w_plus)
    components = np.random.default_rng(2).normal(size=(2, *w_plus.shape[1:])).astype(np.float32)
    std, mean = np.float32([4, 2]), np.zeros(w_plus.shape[-1], np.float32)
    head = Head(subjects, directions=Directions(components=components, std=std, mean=mean))
    moved = head.latents(Look(edits=(-1.0, 0.5))).w_plus - head.latents(Look()).w_plus
    # Differences of float32 latents of order 10.
    wanted = components[1] - 4.0 * components[0] + 0 * w_plus
    np.testing.assert_allclose(moved, wanted, atol=1e-5)


def test_edits_move_every_latent_along_their_directions(subjects, directions, camera):
    head = Head(subjects, directions=directions)
    named = Head(subjects, directions=dataclasses.replace(directions, names=("jaw", "smile")))
    assert head.directions == ("Direction 0", "Direction 1")
    assert (named.directions, Head(subjects).directions) == (("jaw", "smile"), ())
    moved = head.latents(Look(edits=(-1.0, 0.5))).w_plus - head.latents(Look()).w_plus
    wanted = 1.0 * directions.components[1] - 4.0 * directions.components[0]
    np.testing.assert_allclose(moved, np.broadcast_to(wanted, moved.shape), atol=2e-6)
    same, none, other = (
        head.picture(camera, look, moving=False)
        for look in (Look(edits=(0.0, 0.0)), Look(), Look(edits=(-1.0, 0.5)))
    )
    assert difference(same, none) == 0
    assert difference(other, none) > 1


def test_a_slice_of_density_ends_at_the_box(subjects):
    generator, side = subjects.generator, 8
    assert generator.config.render.box_warp == 1.0
    # 2.7 / 0.9 = 3 wide at the origin: of eight pixels only the middle two are within +-0.5.
    wide = yaw_pitch_camera(0.0, 0.0, radius=2.7, focal=0.9)
    planes = planes_of(generator, subjects.latents[0].w_plus[0])
    found = np.asarray(density_slice(generator, planes, wide, side=side))
    assert (found[3:5, 3:5] > 0).all()
    assert np.count_nonzero(found) == 4


def test_air_is_dark_and_what_is_opaque_is_yellow():
    colours = colour_extinction(jnp.array([[0.0, 1e6]]), 1.0)
    assert colours.tolist() == [[[68, 1, 84], [253, 231, 36]]]  # the ends of viridis


@pytest.mark.parametrize(("aspect", "width"), [(2.0, 16), (1.0, 8), (0.5, 4), (0.25, 2)])
def test_on_a_canvas_the_middle_stays_the_middle(aspect, width):
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, 3:5] = 200  # about the middle
    canvas = on_canvas(picture, aspect)
    assert canvas.shape == (8, width, 3)
    assert (canvas[:, width // 2 - 1 : width // 2 + 1] == 200).all()
    np.testing.assert_array_equal(canvas, canvas[:, ::-1])
    assert (canvas[:, 0] == 255).all() or width <= 8


def test_on_a_canvas_a_picture_takes_the_part_it_should():
    picture = np.zeros((8, 8, 3), np.uint8)
    canvas = on_canvas(picture, 1.5, 0.25)
    assert canvas.shape == (32, 48, 3)
    assert not canvas[12:20, 20:28].any()
    assert (canvas == 0).sum() == 8 * 8 * 3
    far = on_canvas(picture, 1.5, 1 / 512)
    assert far.shape == (1024, 1536, 3)
    assert (far == 0).sum() == 2 * 2 * 3


def test_targets_are_the_frames_whose_labels_the_run_has(run, subjects):
    targets = load_targets(subjects, run.parent / "frames")
    assert targets.names == ("0.png", "2.png")
    assert [picture[0, 0, 0] for picture in targets.pictures] == [0, 200]
    without = load_targets(subjects, None)
    assert len(without.cameras) == 2
    assert without.pictures == ()


def test_exports_are_numbered_and_say_of_what_generator(head, subjects, camera, tmp_path):
    exports = Exports(tmp_path / "view", subjects)
    picture = head.picture(camera, Look(), moving=False)
    paths = [exports.picture(picture) for _ in range(2)]
    assert [path.name for path in paths] == ["picture_001.png", "picture_002.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(paths[1])), picture)
    video = exports.video(head.latents(Look()), yaw_pitch_camera(np.zeros(2), 0.0), "raw")
    assert video.stat().st_size > 0
    content = json.loads((tmp_path / "view" / "view.json").read_text())
    assert content["generator"]["license"] == "of the weights"
    with pytest.raises(InputError, match="no video"):
        exports.video(head.latents(Look()), camera[None], "density")


def test_an_exported_mesh_is_written_in_every_format(subjects, tmp_path, monkeypatch):
    pytest.importorskip("trimesh")
    pytest.importorskip("skimage")
    exports = Exports(tmp_path, subjects)
    ws = subjects.latents[0].w_plus[0]
    with monkeypatch.context() as patch:
        patch.setattr("experiments.view.exports._LEVEL", 1e6)
        with pytest.raises(InputError, match="inside the box"):
            exports.mesh(ws, 8)
    assert list(tmp_path.iterdir()) == []
    names = [path.name for path in exports.mesh(ws, 8)]
    assert names == ["mesh_001.ply", "mesh_001.obj", "mesh_001.glb"]
    assert all((tmp_path / name).stat().st_size > 0 for name in names)
