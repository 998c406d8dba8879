"""Held-out heads as folders of frames: what the file has, as the inversion reads it."""

import numpy as np
import pytest
from PIL import Image

from eg3d_jax.cameras import to_label, yaw_pitch_camera
from eg3d_jax.errors import InputError
from experiments.heads.anatomy import Z_DIM
from experiments.heads.held_out_frames import Args, main
from inversion.frames.folder import read_frames


@pytest.fixture
def held_out(tmp_path):
    rng = np.random.default_rng(0)
    labels = to_label(yaw_pitch_camera(np.linspace(-1, 1, 9), np.zeros(9)))
    arrays = {
        "z": rng.standard_normal((2, Z_DIM)).astype(np.float32),
        "yaw": np.tile(np.linspace(-1, 1, 9), (2, 1)),
        "label": np.tile(np.asarray(labels), (2, 1, 1)),
        "image128": rng.integers(0, 256, (2, 9, 128, 128, 3), np.uint8),
        "opacity128": rng.integers(0, 256, (2, 9, 128, 128), np.uint8),
        "depth128": rng.uniform(2, 3, (2, 9, 128, 128)).astype(np.float16),
    }
    np.savez(tmp_path / "held_out.npz", **arrays)
    return tmp_path / "held_out.npz", arrays


def test_frames_hold_the_heads_of_the_file(held_out, tmp_path):
    path, arrays = held_out
    main(Args(folder=tmp_path / "frames", data=path, heads=2))
    folder = tmp_path / "frames" / "head001"
    picture = np.asarray(Image.open(folder / "frame0003.png"))
    np.testing.assert_array_equal(picture, arrays["image128"][1, 3])
    frames = read_frames(folder, image_side=128)
    np.testing.assert_allclose(to_label(frames.cameras), arrays["label"][1], atol=1e-6)
    np.testing.assert_array_equal(frames.depth, arrays["depth128"][1])
    np.testing.assert_array_equal(frames.mask, arrays["opacity128"][1] >= 128)
    with np.load(folder / "parameters.npz") as parameters:
        np.testing.assert_array_equal(parameters["z"], np.tile(arrays["z"][1], (9, 1)))


@pytest.mark.parametrize("heads", [0, 3])
def test_heads_that_the_file_has_not_are_refused(held_out, tmp_path, heads):
    with pytest.raises(InputError, match=f"--heads is {heads}.*give 1 to 2"):
        main(Args(folder=tmp_path / "frames", data=held_out[0], heads=heads))


def test_a_folder_with_frames_of_something_else_is_left_alone(held_out, tmp_path):
    other = tmp_path / "frames" / "head001" / "frame0009.png"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"of a longer sequence")
    with pytest.raises(InputError, match=r"frame0009\.png is none of the 9 frames"):
        main(Args(folder=tmp_path / "frames", data=held_out[0], heads=2))
    assert not (tmp_path / "frames" / "head000").exists()


def test_a_missing_file_says_who_writes_it(tmp_path):
    with pytest.raises(InputError, match=r"experiments\.heads\.dataset"):
        main(Args(folder=tmp_path / "frames", data=tmp_path / "no.npz"))
