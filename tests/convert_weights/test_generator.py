import dataclasses
import math

import jax
import numpy as np
import pytest

from convert_weights.generator import (
    expected_tensors,
    load_torch_state,
    name_table,
    read_generator,
    to_torch_state,
)
from convert_weights.pickle_reader import Record, read_pickle
from eg3d_jax.config import (
    EG3D_AXES,
    SUPERRESOLUTION_VARIANTS,
    afhq_512,
    ffhq_512,
    shapenet_128,
    tiny,
)
from eg3d_jax.safe_pickle import CheckpointError


@pytest.fixture
def convert(tmp_path, writer):
    """Write a checkpoint of a configuration, read it back."""

    def run(config, *arguments, **keywords):
        path = tmp_path / "x.pkl"
        path.write_bytes(writer.checkpoint_bytes(config, *arguments, **keywords))
        return read_generator(read_pickle(path))

    return run


@pytest.fixture(scope="module")
def mini(mini_path):
    return read_generator(read_pickle(mini_path))


def test_every_tensor_of_the_mini_checkpoint_has_the_rules_value(mini, golden_rule):
    _, state = mini
    assert len(state) == 175
    for name, array in state.items():
        expected = golden_rule.weight(name, array.shape)
        if not name.endswith("resample_filter"):
            expected = np.round(2 * expected) / 2
        np.testing.assert_array_equal(array, expected, err_msg=name)


def test_the_mini_checkpoints_configuration_comes_from_its_objects(mini):
    config, _ = mini
    assert config.neural_side == 48
    assert config.render.ray_start == 2.35  # 2.25 in the constructor's arguments
    assert config.render.ray_end == 3.3
    assert config.mapping_layers == 1
    assert (config.z_dim, config.w_dim, config.c_dim) == (4, 512, 25)
    assert (config.channel_base, config.channel_max) == (256, 4)
    assert config.plane_axes == EG3D_AXES
    assert config.conv_clamp is None
    assert config.superresolution == SUPERRESOLUTION_VARIANTS["2X"]
    assert not config.render.white_background


def test_the_inventory_of_ffhq512_is_that_of_the_official_file():
    """Spec eg3d 1.3: 132 parameters with 30 662 136 numbers, and 44 buffers."""
    wanted = expected_tensors(ffhq_512())
    buffers = ("resample_filter", "noise_const", "w_avg")
    sizes = {name: math.prod(s) for name, s in wanted.items() if not name.endswith(buffers)}
    assert (len(wanted), len(sizes), sum(sizes.values())) == (176, 132, 30_662_136)
    by_part = [
        sum(size for name, size in sizes.items() if name.startswith(prefix))
        for prefix in ("backbone.mapping", "backbone.synthesis", "superresolution", "decoder")
    ]
    assert by_part == [800_768, 28_207_533, 1_649_578, 4_257]
    assert wanted["superresolution.block1.conv0.weight"] == (128, 256, 3, 3)


@pytest.mark.parametrize("config", [ffhq_512(), afhq_512(), shapenet_128(), tiny()])
def test_the_table_names_every_place_once(config):
    table = name_table(config)
    paths = [entry.path for entry in table if entry.path is not None]
    assert len(set(paths)) == len(paths)
    assert len({entry.name for entry in table}) == len(table)


def test_arrays_survive_the_way_into_flax_and_back(writer):
    config = tiny()
    state = writer.state_dict(config)
    back = to_torch_state(load_torch_state(config, state))
    assert list(back) == list(state)
    for name, array in state.items():
        assert back[name].shape == array.shape
        np.testing.assert_array_equal(back[name], array, err_msg=name)


def test_tensors_land_where_flax_expects_them(writer):
    config = tiny()
    state = writer.state_dict(config)
    generator = load_torch_state(config, state)
    conv = generator.backbone.blocks[1].conv0
    expected = state["backbone.synthesis.b8.conv0.weight"]
    assert conv is not None
    np.testing.assert_array_equal(conv.kernel[...][2, 0, 5, 3], expected[3, 5, 2, 0])
    fc = state["backbone.mapping.fc1.weight"]
    np.testing.assert_array_equal(generator.mapping.layers[1].kernel[...], fc.T)
    const = state["backbone.synthesis.b4.const"]
    np.testing.assert_array_equal(generator.backbone.const[...][1, 2], const[:, 1, 2])
    ws = generator.map_to_ws(jax.numpy.ones(config.z_dim))
    image = jax.jit(type(generator).synthesize)(generator, ws, generator.frontal_camera()).image
    assert image.shape == (16, 16, 3)
    assert np.isfinite(np.asarray(image)).all()


VARIANTS = {
    "tiny": tiny(),
    "auto limits": dataclasses.replace(
        tiny(), render=dataclasses.replace(tiny().render, ray_start=None, ray_end=None)
    ),
    "shapenet's focal length": dataclasses.replace(
        tiny(),
        render=dataclasses.replace(tiny().render, white_background=True),
        camera_radius=1.7,
        focal=1.0254,
    ),
    "clamps": dataclasses.replace(
        tiny(),
        conv_clamp=256.0,
        superresolution=dataclasses.replace(tiny().superresolution, clamp=None, antialias=False),
    ),
    "unconditional": dataclasses.replace(tiny(), c_dim=0, mapping_layers=8, c_zero=True),
    "odd axes": dataclasses.replace(
        tiny(), plane_axes=(((0.0, 1.0, 0.0), (0.5, 0.0, 0.25), (0.0, 0.0, 2.0)),) * 3
    ),
}


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_written_configuration_is_read_back(convert, config):
    assert convert(config)[0] == config


@pytest.mark.parametrize("name", SUPERRESOLUTION_VARIANTS)
def test_every_super_resolution_module_is_known(convert, name):
    variant = dataclasses.replace(SUPERRESOLUTION_VARIANTS[name], input_side=8, channels=(8, 16))
    config = dataclasses.replace(tiny(), superresolution=variant)
    assert convert(config, variant=f"SuperresolutionHybrid{name}")[0] == config


def test_options_missing_in_older_files_take_the_values_they_had(convert):
    missing = dict.fromkeys(("c_scale", "decoder_lr_mul", "sr_antialias", "white_back"), ...)
    config, _ = convert(
        tiny(), options=missing, attributes={"superresolution": {"sr_antialias": ...}}
    )
    assert config.c_scale == 0
    assert config.decoder_lr_mul == 1
    assert not config.superresolution.antialias
    assert not config.render.white_background


def test_an_8xdc_has_no_filter_of_its_own(convert, writer):
    network = SUPERRESOLUTION_VARIANTS["8XDC"]
    config = dataclasses.replace(tiny(), superresolution=dataclasses.replace(network, input_side=4))
    state = writer.state_dict(config)
    assert "superresolution.resample_filter" not in state
    assert convert(config, state, variant="SuperresolutionHybrid8XDC")[0] == config


def test_missing_unexpected_and_misshapen_tensors_are_all_listed(convert, writer):
    state = writer.state_dict(tiny())
    del state["decoder.net.2.bias"], state["backbone.mapping.embed.bias"]
    state["backbone.mapping.fc0.extra"] = np.zeros(3, np.float32)
    state["backbone.mapping.w_avg"] = np.zeros(3, np.float32)
    with pytest.raises(CheckpointError) as error:
        convert(tiny(), state)
    missing, unexpected, shape = str(error.value).split("; ")[1:]
    assert missing == "missing: backbone.mapping.embed.bias, decoder.net.2.bias"
    assert unexpected == "unexpected: backbone.mapping.fc0.extra"
    assert shape == "of wrong shape: backbone.mapping.w_avg is [3], wanted [16]"


def test_a_state_dict_that_does_not_fit_is_refused(writer):
    state = writer.state_dict(tiny())
    del state["decoder.net.0.weight"]
    with pytest.raises(CheckpointError, match=r"missing: decoder\.net\.0\.weight; unexpected: no"):
        load_torch_state(tiny(), state)
    state = writer.state_dict(tiny())
    state["backbone.synthesis.b4.resample_filter"] = np.ones((4, 4), np.float32)
    with pytest.raises(CheckpointError, match="not \\[1, 3, 3, 1\\]"):
        load_torch_state(tiny(), state)


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
    with pytest.raises(CheckpointError, match="super-resolution is impossible: channels="):
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
