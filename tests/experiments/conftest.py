"""A folder of frames that is right in every point, for tests to spoil, and a run to show."""

import json

import jax
import numpy as np
import pytest
from drawn_weights import VISIBLE, drawn_generator
from PIL import Image
from saved_results import save_result

from eg3d_jax import checkpoint
from eg3d_jax.cameras import to_label, yaw_pitch_camera
from eg3d_jax.config import tiny
from inversion.latents import repeat_latents


@pytest.fixture
def labels():
    yaw = np.deg2rad(np.linspace(-60, 60, 12))
    label = np.asarray(to_label(yaw_pitch_camera(yaw, np.full(12, 0.1))), np.float64)
    return {f"frame{i + 1}.png": row.tolist() for i, row in enumerate(label)}


@pytest.fixture
def write_labels(tmp_path):
    def write(labels):
        pairs = [[name, label] for name, label in labels.items()]
        (tmp_path / "dataset.json").write_text(json.dumps({"labels": pairs}))

    return write


@pytest.fixture
def frames_folder(tmp_path, labels, write_labels):
    rng = np.random.default_rng(0)
    for name in labels:
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    write_labels(labels)
    return tmp_path


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A generator's folder, four frames with labels, and the result of a run with one latent."""
    return make_inputs(tmp_path_factory.mktemp("inputs"), tiny())


@pytest.fixture(scope="module")
def visible_inputs(tmp_path_factory):
    """The same with pictures of 32 pixels, large enough for LPIPS."""
    return make_inputs(tmp_path_factory.mktemp("inputs"), VISIBLE)


def make_inputs(folder, config):
    generator = drawn_generator(config)
    metadata = checkpoint.save(folder / "generator", generator, license="of the weights")
    labels = np.asarray(to_label(yaw_pitch_camera(np.linspace(-0.5, 0.5, 4), 0.0)))
    (folder / "frames").mkdir()
    pairs = []
    for i, label in enumerate(labels):
        Image.new("RGB", (16, 16), (40 * i, 0, 0)).save(folder / "frames" / f"{i}.png")
        pairs.append([f"{i}.png", label.tolist()])
    (folder / "frames" / "dataset.json").write_text(json.dumps({"labels": pairs}))
    ws = jax.random.normal(jax.random.key(0), (generator.config.num_ws, generator.config.w_dim))
    (folder / "run" / "result").mkdir(parents=True)
    save_result(folder / "run" / "result", generator, repeat_latents(ws, [0.0]), labels, metadata)
    return folder
