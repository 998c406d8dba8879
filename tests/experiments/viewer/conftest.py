"""The run that the viewer's tests show: two latents of a tiny generator, and its three frames."""

import json

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from saved_results import save_result

from eg3d_jax import checkpoint
from eg3d_jax.cameras import to_label, yaw_pitch_camera
from eg3d_jax.config import tiny
from eg3d_jax.generator import TriPlaneGenerator
from experiments.subjects import load_subjects
from inversion.direction_files import save_directions
from inversion.editing import Directions
from inversion.latents import Latents

YAW = np.array([-0.5, 0.0, 0.5], np.float32)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """A run folder, with its frames in the folder `frames` beside it."""
    folder = tmp_path_factory.mktemp("viewer")
    rng = np.random.default_rng(0)
    shapes = nnx.eval_shape(lambda: TriPlaneGenerator(tiny(), rngs=nnx.Rngs(0)))
    generator = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    # Contrast in the volume, and colours that are not all beyond what a picture can hold.
    generator.decoder = jax.tree.map(lambda x: 4 * x, generator.decoder)
    generator.superresolution = jax.tree.map(lambda x: x / 10, generator.superresolution)
    metadata = checkpoint.save(folder / "generator", generator, license="of the weights")
    labels = np.asarray(to_label(yaw_pitch_camera(YAW, 0.0)))
    (folder / "frames").mkdir()
    for i in range(3):
        Image.new("RGB", (16, 16), (100 * i, 0, 0)).save(folder / "frames" / f"{i}.png")
    pairs = [[f"{i}.png", label.tolist()] for i, label in enumerate(labels)]
    (folder / "frames" / "dataset.json").write_text(json.dumps({"labels": pairs}))
    w_plus = rng.normal(size=(2, generator.config.num_ws, generator.config.w_dim))
    latents = Latents(w_plus=w_plus.astype(np.float32), azimuth=np.pi / 2 + YAW[[0, 2]])
    (folder / "run" / "result").mkdir(parents=True)
    # Fitted in another order than the frames lie there.
    save_result(folder / "run" / "result", generator, latents, labels[[0, 2]], metadata)
    return folder / "run"


@pytest.fixture(scope="session")
def subjects(run):
    return load_subjects(run, None, (), 1.0)


@pytest.fixture(scope="session")
def directions(run, subjects):
    """Two directions that change the picture much, as an edit of the run leaves them."""
    rng, width = np.random.default_rng(1), subjects.generator.config.w_dim
    components = np.linalg.qr(rng.normal(size=(width, 2)))[0].T.astype(np.float32)
    found = Directions(
        components=components, std=np.float32([4, 2]), mean=np.zeros(width, np.float32)
    )
    (run / "edit").mkdir()
    save_directions(run / "edit" / "directions.npz", found, subjects.metadata)
    return found
