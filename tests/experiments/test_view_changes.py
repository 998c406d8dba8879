"""Latents crowd where neighbouring views differ."""

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.frames_io import load_frames
from experiments.view_changes import change_along
from inversion.views import select_along


@jax.tree_util.register_static
class Brightness:
    def features(self, image):
        return image.mean()[None]


def test_knots_go_where_the_pictures_change(inputs, tmp_path):
    frames = load_frames(inputs / "frames", image_side=32)
    count = len(frames)
    assert count >= 4
    for path, level in zip(frames.paths, [0, 0, 0, 255], strict=False):
        Image.new("RGB", (32, 32), (level,) * 3).save(tmp_path / path.name)
    (tmp_path / "dataset.json").write_bytes((inputs / "frames" / "dataset.json").read_bytes())
    changed = change_along(Brightness(), load_frames(tmp_path, image_side=32), np.arange(4))
    # The squared difference of black and white, -1 and 1, is 4.
    np.testing.assert_allclose(changed, [0, 0, 0, 4], atol=1e-6)
    assert list(select_along(changed, 2))[-1] == 3
    assert changed[0] == pytest.approx(0.0)
