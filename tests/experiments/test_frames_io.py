"""Frames are read as the specification says."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from eg3d_jax.errors import InputError
from inversion.frames.folder import read_frames, read_image, read_images
from inversion.frames.labels import natural_key


def test_frames_come_in_natural_order_with_their_own_cameras(frames_folder, labels):
    frames = read_frames(frames_folder, image_side=16)
    assert frames.names == tuple(f"frame{i}.png" for i in range(1, 13))
    position = [np.reshape(labels[name][:16], (4, 4))[:3, 3] for name in frames.names]
    np.testing.assert_allclose(frames.cameras.position, np.array(position), atol=1e-6)
    assert len(frames) == 12
    assert frames.depth is None


@pytest.mark.parametrize("images", [True, False])
def test_mirror_images_of_frames_are_left_out(frames_folder, labels, images):
    names = [name.replace(".png", "_mirror.png") for name in labels]
    copies = dict(zip(names, labels.values(), strict=True))
    alone = {"alone_mirror.png": labels["frame1.png"]}
    (frames_folder / "dataset.json").write_text(json.dumps({"labels": labels | copies | alone}))
    for name in [*alone, *(names if images else [])]:
        shutil.copy(frames_folder / "frame1.png", frames_folder / name)
    with pytest.warns(UserWarning, match="12 mirror images"):
        frames = read_frames(frames_folder, image_side=16)
    assert set(frames.names) == {*labels, *alone}
    assert len(frames.cameras.cam2world) == 13


def test_labels_may_be_a_dictionary_in_any_order(frames_folder, labels):
    text = json.dumps({"labels": dict(reversed(labels.items()))})
    (frames_folder / "dataset.json").write_text(text)
    assert read_frames(frames_folder, image_side=16).names[9] == "frame10.png"


def test_digits_that_are_no_numbers_are_letters_of_names():
    assert sorted(["²1.png", "a10.png", "a2.png"], key=natural_key) == [
        "a2.png",
        "a10.png",
        "²1.png",
    ]


def test_pixels_keep_their_value_at_the_generators_own_size(frames_folder):
    pixels = np.asarray(Image.open(frames_folder / "frame3.png"), np.float64)
    image = read_image(read_frames(frames_folder, image_side=16), 2)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, pixels / 255 * 2 - 1, atol=1e-6)


def test_other_sizes_are_resampled_by_lanczos(frames_folder):
    frames = read_frames(frames_folder, image_side=8)
    expected = Image.open(frames_folder / "frame1.png").resize((8, 8), Image.Resampling.LANCZOS)
    np.testing.assert_allclose((read_image(frames, 0) + 1) * 127.5, np.asarray(expected), atol=1e-4)
    assert read_images(frames, [0, 3, 5]).shape == (3, 8, 8, 3)


@pytest.mark.parametrize(
    ("mode", "pixel", "expected"),
    [
        ("L", 51, 0.2),
        ("RGBA", (255, 0, 0, 0), 1.0),  # transparent: the white behind
        ("RGBA", (51, 51, 51, 255), 0.2),
        ("LA", (51, 255), 0.2),
        ("I;16", 51 * 257, 0.2),
        ("1", 1, 1.0),
        ("P", 0, 0.0),
        ("CMYK", (0, 0, 0, 204), 0.2),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(frames_folder, mode, pixel, expected):
    name = "frame1.jpg" if mode == "CMYK" else "frame1.png"
    (frames_folder / "frame1.png").unlink()
    Image.new(mode, (16, 16), pixel).save(frames_folder / name)
    text = (frames_folder / "dataset.json").read_text().replace("frame1.png", name)
    (frames_folder / "dataset.json").write_text(text)
    image = read_image(read_frames(frames_folder, image_side=16), 0)
    np.testing.assert_allclose(image, np.full((16, 16, 3), expected * 2 - 1), atol=0.01)


def test_a_photograph_is_turned_upright(frames_folder):
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    Image.fromarray(pixels).save(frames_folder / "frame1.png", exif=exif)
    image = read_image(read_frames(frames_folder, image_side=16), 0)
    assert image[:8].max() == -1
    assert image[8:].min() == 1


def test_crop_takes_the_middle(frames_folder):
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:, 4:20] = 255
    Image.fromarray(pixels).save(frames_folder / "frame1.png")
    with pytest.raises(InputError, match=r"frame1\.png is 24 x 16 pixels.*--crop"):
        read_frames(frames_folder, image_side=16)
    assert read_image(read_frames(frames_folder, image_side=16, crop=True), 0).min() == 1


def test_truth_beside_the_frames_is_read(frames_folder):
    np.savez(frames_folder / "depth.npz", depth=np.full((12, 4, 4), 2.5, np.float16))
    np.savez(frames_folder / "mask.npz", mask=np.ones((12, 4, 4), np.uint8))
    frames = read_frames(frames_folder, image_side=16)
    assert frames.depth is not None
    assert frames.mask is not None
    assert frames.depth.dtype == np.float32
    assert frames.mask.dtype == bool


@pytest.mark.parametrize(
    "values",
    [
        np.array([0, 100, 127, 128, 255], np.uint8),
        np.array([0, 0.1, 0.49, 0.5, 1.0]),
        np.array([0, 0, 0, 1, 1], np.uint8),
        np.array([False, False, False, True, True]),
    ],
)
def test_a_mask_is_inside_from_half_opacity_on(frames_folder, values):
    np.savez(frames_folder / "mask.npz", mask=np.broadcast_to(values, (12, 5, 5)))
    mask = read_frames(frames_folder, image_side=16).mask
    assert mask is not None
    np.testing.assert_array_equal(mask[0, 0], [False, False, False, True, True])


def test_images_in_subfolders_count_if_labels_name_them(frames_folder, labels, write_labels):
    (frames_folder / "00").mkdir()
    for name in labels:
        (frames_folder / name).rename(frames_folder / "00" / name)
    write_labels({f"00/{name}": label for name, label in labels.items()})
    assert read_frames(frames_folder, image_side=16).names[1] == "00/frame2.png"


def test_yaw_is_zero_in_front_and_grows_towards_plus_x(frames_folder):
    frames = read_frames(frames_folder, image_side=16)
    np.testing.assert_allclose(frames.yaw_degrees, np.linspace(-60, 60, 12), atol=1e-3)


def save_masks(folder, names, size=(16, 16)):
    """Masks whose left half is white, a column more each."""
    for i, name in enumerate(names):
        path = folder / "mask" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = np.zeros(size[::-1], np.uint8)
        mask[:, : size[0] // 2 + i] = 255
        Image.fromarray(mask).save(path)


def test_masks_beside_the_frames_are_read_at_their_size(frames_folder, labels):
    save_masks(frames_folder, labels)
    masks = {side: read_frames(frames_folder, image_side=side).mask for side in (16, 8)}
    # In natural order; half a pixel counts.
    assert masks[16][:, 0].sum(-1).tolist() == [min(8 + i, 16) for i in range(12)]
    assert masks[8][:5, 0].sum(-1).tolist() == [4, 5, 5, 6, 6]
    np.savez(frames_folder / "mask.npz", mask=np.ones((12, 4, 4)))
    assert read_frames(frames_folder, image_side=16).mask.shape == (12, 4, 4)


def test_masks_of_frames_that_are_no_square_are_cropped_with_them(frames_folder, labels):
    save_masks(frames_folder, labels, size=(24, 16))
    mask = read_frames(frames_folder, image_side=16, crop=True).mask
    assert mask[:3, 0].sum(-1).tolist() == [8, 9, 10]


def test_masks_are_no_frames(frames_folder, labels):
    """Neither where labels name folders, nor where a picture is missing."""
    (frames_folder / "a").mkdir()
    (frames_folder / "frame1.png").rename(frames_folder / "a" / "frame1.png")
    named = {("a/frame1.png" if n == "frame1.png" else n): label for n, label in labels.items()}
    (frames_folder / "dataset.json").write_text(json.dumps({"labels": named}))
    save_masks(frames_folder, [*named, "of_a_frame_removed.png"])
    assert len(read_frames(frames_folder, image_side=16).mask) == 12
    for name in named:
        (frames_folder / name).unlink()
    with pytest.raises(InputError, match="holds no frames"):
        read_frames(frames_folder, image_side=16)


def test_a_mask_that_is_missing_or_damaged_is_named(frames_folder, labels):
    save_masks(frames_folder, [name for name in labels if name != "frame3.png"])
    with pytest.raises(InputError, match=r"mask/frame3.png is missing, but 11 of 12 frames"):
        read_frames(frames_folder, image_side=16)
    (frames_folder / "mask" / "frame3.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"mask/frame3.png is no image"):
        read_frames(frames_folder, image_side=16)


def test_a_folder_of_masks_for_other_pictures_is_left_alone(frames_folder):
    save_masks(frames_folder, ["other.png"])
    assert read_frames(frames_folder, image_side=16).mask is None
