"""A folder of frames that is right in every point, for tests to spoil."""

import json

import numpy as np
import pytest
from PIL import Image

from eg3d_jax.cameras import to_label, yaw_pitch_camera


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
