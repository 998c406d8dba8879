"""Checkpoints that would compute something else here are refused in a sentence."""

import dataclasses
import math

import numpy as np
import pytest

from convert_weights.array_pickle import CheckpointError
from convert_weights.generator import read_generator
from convert_weights.pickle_reader import Record, read_pickle
from eg3d_jax.config import tiny

BAD = {
    "no super-resolution of that name": ({"variant": "SuperresolutionHybrid16X"}, "16X is unknown"),
    "two names": ({"options": {"superresolution_module": "a.B"}}, "another"),
    "noise": ({"options": {"superresolution_noise_mode": "random"}}, "noise_mode"),
    "clamp mode": ({"options": {"clamp_mode": "relu"}}, "clamp_mode"),
    "noise on densities": ({"options": {"density_noise": 0.5}}, "density_noise"),
    "half auto": ({"options": {"ray_start": "auto"}}, "ray_start"),
    "swapped limits": ({"options": {"ray_start": 9.0}}, "ray_start=9"),
    "huge": ({"options": {"depth_resolution": 10**9}}, "depth_resolution"),
    "not a number": ({"options": {"box_warp": float("nan")}}, "box_warp"),
    "bool": ({"attributes": {"": {"z_dim": True}}}, "z_dim"),
    "label": ({"attributes": {"": {"c_dim": 7}}}, "c_dim"),
    "label of no integer": ({"attributes": {"": {"c_dim": 25.0}}}, "c_dim"),
    "dropped": (
        {"attributes": {"backbone.mapping": {"_non_persistent_buffers_set": 5}}},
        "dropped buffers",
    ),
    "no channels": ({"attributes": {"": {"_init_kwargs": {"channel_base": 8}}}}, "channel_base"),
    "side": ({"attributes": {"backbone.synthesis": {"img_resolution": 20}}}, "power of two"),
    "huge side": ({"attributes": {"backbone.synthesis": {"img_resolution": 2**40}}}, "plane side"),
    "planes": ({"attributes": {"backbone.synthesis": {"img_channels": 25}}}, "do not divide"),
    "no axes": ({"attributes": {"renderer": {"plane_axes": ...}}}, "plane axes"),
    "singular": (
        {"attributes": {"renderer": {"plane_axes": np.ones((3, 3, 3), np.float32)}}},
        "invertible",
    ),
    "pivot": ({"options": {"avg_camera_pivot": [1, 2]}}, "avg_camera_pivot"),
    "no clamp": ({"attributes": {"superresolution.block0.conv0": {"conv_clamp": ...}}}, "clamped"),
    "two clamps": ({"attributes": {"superresolution.block0.conv0": {"conv_clamp": 1}}}, "clamped"),
    "no options": ({"attributes": {"": {"rendering_kwargs": ...}}}, "not EG3D's generator"),
    "up": ({"attributes": {"backbone.synthesis.b8.conv0": {"up": 1}}}, r"b8\.conv0 has up 1"),
    "residual": (
        {"attributes": {"backbone.synthesis.b16": {"architecture": "resnet"}}},
        "architecture resnet",
    ),
    "gain": ({"attributes": {"backbone.mapping.fc0": {"bias_gain": 1.0}}}, "bias_gain"),
}


@pytest.mark.parametrize(("changes", "cause"), BAD.values(), ids=BAD.keys())
def test_what_this_implementation_cannot_do_is_refused(convert, changes, cause):
    with pytest.raises(CheckpointError, match=cause):
        convert(tiny(), **changes)


@pytest.mark.parametrize("focal", [0.0, -4.0, math.inf, math.nan])
def test_a_focal_length_is_positive(tmp_path, writer, focal):
    (tmp_path / "x.pkl").write_bytes(writer.checkpoint_bytes(writer.smallest()))
    tree = read_pickle(tmp_path / "x.pkl")
    assert read_generator(tree, focal=1.5)[0].focal == 1.5
    with pytest.raises(CheckpointError, match=f"focal length {focal:g} .* over the image side"):
        read_generator(tree, focal=focal)


def test_an_impossible_super_resolution_is_an_error_of_the_checkpoint(convert, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("channels=(8, 8) are too few")

    config = tiny()
    monkeypatch.setattr(dataclasses, "replace", refuse)
    with pytest.raises(CheckpointError, match="configuration is impossible: channels="):
        convert(config)


SOFTPLUS = "torch.nn.modules.activation.Softplus"
DECODERS = {
    "another activation": ({"1": Record("torch.nn.modules.activation.ReLU", {})}, "a torch.*ReLU"),
    "sharper": ({"1": Record(SOFTPLUS, {"beta": 100, "threshold": 20})}, "beta 100, expected 1"),
    "cut": ({"1": Record(SOFTPLUS, {"beta": 1, "threshold": 0})}, "threshold 0, expected 20"),
    "untold": ({"1": Record(SOFTPLUS, {"threshold": 20})}, "does not say its beta"),
    "none": ({"1": None}, "layers 0, 2, expected 0, 1, 2"),
    "another layer": ({"3": Record("torch.nn.modules.activation.Tanh", {})}, "layers 0, 1, 2, 3"),
}


@pytest.mark.parametrize(("changes", "cause"), DECODERS.values(), ids=DECODERS.keys())
def test_a_decoder_without_plain_softplus_is_refused(tmp_path, writer, changes, cause):
    (tmp_path / "x.pkl").write_bytes(writer.checkpoint_bytes(writer.smallest()))
    tree = read_pickle(tmp_path / "x.pkl")
    read_generator(tree)
    tree["G_ema"].module("decoder.net").state["_modules"] |= changes
    with pytest.raises(CheckpointError, match=cause):
        read_generator(tree)


def test_numbers_that_are_not_finite_are_refused(convert, writer):
    state = writer.state_dict(tiny())
    state["decoder.net.0.bias"][3] = np.nan
    with pytest.raises(CheckpointError, match=r"decoder\.net\.0\.bias"):
        convert(tiny(), state)
