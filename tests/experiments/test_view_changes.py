"""Latents crowd where neighbouring views differ."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from inversion.config import paper
from inversion.frames.folder import read_frames, read_images
from inversion.methods import change_along
from inversion.objectives import FeatureNetworks
from inversion.pipeline import plan_methods
from inversion.views import Views


@jax.tree_util.register_static
class Brightness:
    def features(self, image):
        return image.mean()[None]


@pytest.fixture
def frames(inputs, tmp_path):
    """Frames by falling azimuth, the third of them white and the others black."""
    paths = read_frames(inputs / "frames", image_side=32).paths
    for path, level in zip(paths, [0, 0, 255, 0], strict=True):
        Image.new("RGB", (32, 32), (level,) * 3).save(tmp_path / path.name)
    (tmp_path / "dataset.json").write_bytes((inputs / "frames" / "dataset.json").read_bytes())
    return read_frames(tmp_path, image_side=32)


def test_changes_from_picture_to_picture_add_up(frames):
    # The squared difference of black and white, -1 and 1, is 4.
    views = Views(images=jnp.asarray(read_images(frames, range(4))), cameras=frames.cameras)
    changed = change_along(Brightness(), views)
    np.testing.assert_allclose(changed, [0, 0, 4, 8], atol=1e-6)


@pytest.mark.parametrize(("knots", "positions"), [("even", [0, 2, 3]), ("change", [0, 1, 2])])
def test_latents_go_evenly_or_to_where_the_pictures_change(frames, knots, positions):
    config, networks = paper(num_latents=3, knots=knots), FeatureNetworks(lpips=Brightness())
    several = plan_methods(frames, config, networks, views=4)[-1]
    assert several.frames.tolist() == [3, 2, 1, 0]
    assert several.knots.tolist() == positions
