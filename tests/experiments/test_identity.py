"""The identity loss of the command: its network's file, and that its term takes part."""

import csv
import dataclasses
import json
from functools import partial

import jax
import numpy as np
import pytest
from drawn_weights import drawn_generator
from PIL import Image
from torch_files import zip_file

from eg3d_jax import checkpoint
from eg3d_jax.cameras import to_label, yaw_pitch_camera
from eg3d_jax.config import SuperResolutionConfig, tiny
from eg3d_jax.errors import InputError
from experiments.invert.main import Args, main
from inversion.features import arcface, networks
from inversion.features.arcface import ArcFaceConfig, load_arcface
from inversion.features.networks import load_networks

# The architecture of IR-SE-50 on its own crop, with two units.
SMALL = ArcFaceConfig(groups=((16, 1), (16, 1)), embedding=8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    rng = np.random.default_rng(0)
    state = {
        name: 0.3 * rng.standard_normal(shape).astype(np.float32)
        for name, shape in arcface._shapes(SMALL)
    }
    state = {k: np.abs(v) + 0.5 if k.endswith("running_var") else v for k, v in state.items()}
    path = tmp_path_factory.mktemp("weights") / "model_ir_se50.pth"
    path.write_bytes(zip_file(state))
    return path


@pytest.fixture
def small_network(monkeypatch):
    monkeypatch.setattr(networks, "load_arcface", partial(load_arcface, config=SMALL))


@pytest.mark.slow
def test_the_identity_term_is_logged_and_falls(weights, small_network, tmp_path):
    superresolution = SuperResolutionConfig(input_side=128, channels=(8, 8), upsample=(False, True))
    config = dataclasses.replace(tiny(), superresolution=superresolution)
    generator = drawn_generator(config)
    checkpoint.save(tmp_path / "generator", generator)
    frames = tmp_path / "frames"
    frames.mkdir()
    camera = yaw_pitch_camera(0.0, 0.0)
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((256, 256)).save(frames / "0.png")
    label = np.asarray(to_label(camera)).tolist()
    (frames / "dataset.json").write_text(json.dumps({"labels": [["0.png", label]]}))
    args = Args(
        frames=(frames,),
        generator=tmp_path / "generator",
        run=tmp_path / "run",
        views=1,
        preset="paper",
        refine_cameras=False,
        latent_steps=0,
        tuning_steps=4,
        identity=weights,
    )
    main(args)
    with (args.run / "log.csv").open(newline="") as file:
        identity = [float(row["identity"]) for row in csv.DictReader(file)]
    assert len(identity) == 4
    assert 0.0 < identity[-1] < identity[0] <= 2.0
    with pytest.raises(InputError, match="identity was"):
        main(dataclasses.replace(args, identity=None, resume=True))


def test_pictures_too_small_for_a_face_are_refused(weights):
    with pytest.raises(InputError, match="128 pixels, and faces are compared in 256"):
        load_networks(128, weights)


def test_other_files_are_refused_in_a_sentence(weights, tmp_path):
    with pytest.raises(InputError, match="no state dict of IR-SE-50") as caught:
        load_networks(256, weights)  # two units are not fifty layers
    assert len(str(caught.value)) < 600
    (tmp_path / "empty.pth").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty\.pth: it is empty"):
        load_networks(256, tmp_path / "empty.pth")


def test_without_a_file_there_is_no_identity_term():
    assert load_networks(256).identity is None
    assert jax.tree.leaves(load_networks(128).lpips)
