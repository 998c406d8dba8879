import dataclasses
import math

import jax
import numpy as np
import pytest

from convert_weights.array_pickle import CheckpointError
from convert_weights.generator import (
    expected_tensors,
    load_torch_state,
    name_table,
    read_generator,
    to_torch_state,
)
from convert_weights.pickle_reader import read_pickle
from eg3d_jax.config import (
    EG3D_AXES,
    SUPERRESOLUTION_VARIANTS,
    afhq_512,
    ffhq_512,
    shapenet_128,
    tiny,
)


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
