"""The shipped demo sequences; reading them needs none of the extra's packages."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eg3d_jax.cameras import to_label
from experiments.heads.anatomy import EXPRESSION, PARAMETERS, PARTS
from experiments.heads.sequences import SETS, latents, sweep

DEMO = Path(__file__).parents[3] / "experiments" / "demo"
SEQUENCES = SETS["demo"]


@pytest.mark.parametrize("name", list(SEQUENCES))
def test_demo_has_sixty_frames_with_the_labels_of_the_sweep(name):
    labels = json.loads((DEMO / name / "dataset.json").read_text())["labels"]
    assert [file for file, _ in labels] == [f"frame{i:04d}.png" for i in range(60)]
    # text keeps every float32 exactly; cameras are computed again, perhaps by another compiler
    np.testing.assert_allclose([label for _, label in labels], to_label(sweep(60)), atol=1e-6)


@pytest.mark.parametrize("name", list(SEQUENCES))
def test_demo_depth_and_mask_belong_to_the_frames(name):
    with np.load(DEMO / name / "depth.npz") as file:
        depth = file["depth"]
    with np.load(DEMO / name / "mask.npz") as file:
        mask = file["mask"]
    assert depth.shape == mask.shape == (60, 128, 128)
    assert (depth.dtype, mask.dtype) == (np.float16, np.uint8)
    assert np.all(mask[depth > 0] > 0)
    for i in (0, 30, 59):
        frame = np.asarray(Image.open(DEMO / name / f"frame{i:04d}.png"))
        assert frame.shape == (128, 128, 3)
        assert np.all(frame[mask[i] == 0] == 255)


@pytest.mark.parametrize("name", list(SEQUENCES))
def test_demo_parameters_are_those_of_its_head(name):
    sequence = SEQUENCES[name]
    with np.load(DEMO / name / "parameters.npz") as file:
        z = file["z"]
        assert (tuple(file["part"]), tuple(file["name"])) == (PARTS, PARAMETERS)
        assert str(file["extra"]) == ""
    # sines may differ in their last digit between machines
    expected = latents(sequence.seed, sequence.expression(np.linspace(0, 1, 60)))
    np.testing.assert_allclose(z, expected, atol=1e-6)
    still = np.delete(z, np.r_[EXPRESSION], axis=1)
    np.testing.assert_array_equal(still, np.broadcast_to(still[0], still.shape))


def test_demo_is_small():
    for name in SEQUENCES:
        assert sum(f.stat().st_size for f in (DEMO / name).iterdir()) < 2.5e6
