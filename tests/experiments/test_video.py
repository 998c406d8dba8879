"""The turntable swings to both sides, and its video plays anywhere."""

import re
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from eg3d_jax.cameras import azimuth
from experiments.media.video import turntable, write_mp4


def _yaw(cameras):
    return 90 - np.degrees(np.asarray(azimuth(cameras)))


def test_the_turntable_goes_from_side_to_side_and_back():
    cameras = turntable(np.deg2rad(60), 40, pitch=0.1)
    yaw = _yaw(cameras)
    np.testing.assert_allclose([yaw.min(), yaw.max()], [-60, 60], atol=1e-3)
    assert (np.diff(yaw[:21]) > 0).all()
    np.testing.assert_allclose(yaw[1:20], yaw[:20:-1], atol=1e-3)  # back the way it came


def test_the_turntable_is_slow_at_its_ends_and_closes():
    yaw = _yaw(turntable(1.0, 60))
    speed = np.abs(np.diff(yaw, append=yaw[0]))
    assert speed[0] < 0.1 * speed.max()
    assert speed[-1] < 0.1 * speed.max()


def test_a_positive_yaw_looks_from_plus_x():
    """An azimuth passed as EG3D's angle h would mirror the orbit (spec inversion 7)."""
    cameras = turntable(0.5, 4)
    assert cameras.position[0, 0] < 0 < cameras.position[2, 0]
    forward = cameras.cam2world[:, :3, 2]
    np.testing.assert_allclose(forward * 2.7, -cameras.position, atol=1e-5)


def _ffmpeg(*arguments):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False)


def test_a_video_holds_every_picture(tmp_path):
    pictures = [np.full((34, 51, 3), 20 * k, np.uint8) for k in range(8)]
    path = write_mp4(tmp_path / "a.mp4", iter(pictures), fps=10)
    about = _ffmpeg("-i", path).stderr.decode()
    assert re.search(r"Video: h264 .*yuv420p.* 52x34.* 10 fps", about)
    raw = _ffmpeg("-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-").stdout
    frames = np.frombuffer(raw, np.uint8).reshape(8, 34, 52, 3)
    for frame, picture in zip(frames, pictures, strict=True):
        assert abs(float(frame.mean()) - float(picture.mean())) < 3
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_what_ffmpeg_says_reaches_the_user(tmp_path):
    with pytest.raises(OSError, match="could not write it .*No such file"):
        write_mp4(tmp_path / "nowhere" / "a.mp4", [np.zeros((16, 16, 3), np.uint8)] * 200)


def test_a_failed_video_leaves_the_earlier_one(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"earlier")
    with pytest.raises(ValueError, match="no pictures"):
        write_mp4(path, [])
    bad = [np.zeros((16, 16, 3), np.uint8), np.zeros((16, 18, 3), np.uint8)]
    with pytest.raises(ValueError, match="of one size"):
        write_mp4(path, bad)
    with pytest.raises(ValueError, match="uint8"):
        write_mp4(path, [np.zeros((16, 16, 3), np.float32)])
    assert path.read_bytes() == b"earlier"
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]
