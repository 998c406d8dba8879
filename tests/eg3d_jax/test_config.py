"""Configurations that would fail late, or run and be wrong, are refused when they are made."""

import dataclasses

import jax.numpy as jnp
import pytest

from eg3d_jax.config import (
    SUPERRESOLUTION_VARIANTS,
    RenderConfig,
    afhq_512,
    ffhq_512,
    shapenet_128,
    tiny,
)
from eg3d_jax.rays import stratified_depths

_X, _Y, _Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv_clamp": -1.0}, "conv_clamp=-1.0 must be positive"),
        ({"focal": 0.0}, "focal=0.0 must be positive"),
        ({"focal": -4.0}, "focal=-4.0 must be positive"),
        ({"focal": float("nan")}, "focal=nan must be positive"),
        ({"camera_radius": 0.0}, "camera_radius=0.0 must be positive"),
        ({"decoder_lr_mul": 0.0}, "decoder_lr_mul=0.0 must be positive"),
        ({"c_dim": 3}, "c_dim=3 must be 25, a camera label, or 0"),
        ({"mapping_layers": 0}, "mapping_layers=0 must be at least 1"),
        ({"channel_base": 8}, "channel_base=8 must be at least 16"),
        ({"channel_max": 0}, "channel_max=0 must be at least 1"),
        ({"neural_side": 0}, "neural_side=0 must be at least 1"),
        ({"plane_axes": ((_X, _Y, _Z), (_X, _Y, _X))}, "must be invertible"),
        ({"plane_axes": ()}, "must be invertible 3 x 3 matrices, one a plane"),
    ],
)
def test_impossible_generators_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(tiny(), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clamp": -1.0}, "clamp=-1.0 must be positive"),
        ({"channels": (8, 8, 8)}, r"channels=\(8, 8, 8\).*each of the two"),
        ({"channels": (8, 0)}, r"channels=\(8, 0\).*a positive width"),
        ({"upsample": (True,)}, r"upsample=\(True,\).*each of the two"),
        ({"noise": "random"}, "noise='random' must be one of"),
        ({"input_side": 0}, "input_side=0 must be at least 1"),
    ],
)
def test_impossible_superresolutions_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SUPERRESOLUTION_VARIANTS["2X"], **changes)


@pytest.mark.parametrize(("count", "ahead"), [(20, False), (27, True)])
def test_disparity_sampling_that_may_pass_behind_the_camera_is_refused(count, ahead):
    """Jitter moves the last sample beyond the end: through infinity if that is too far away."""

    def config():
        return RenderConfig(
            ray_start=0.1, ray_end=2.6, coarse_samples=count, disparity_sampling=True
        )

    jitter = jnp.full((1, count), 0.9999)
    depths = stratified_depths(jnp.array([0.1]), jnp.array([2.6]), jitter, disparity=True)
    assert bool((jnp.diff(depths) > 0).all()) == bool((depths > 0).all()) == ahead
    if ahead:
        config()
    else:
        with pytest.raises(ValueError, match="behind the camera.* = 2$"):
            config()


@pytest.mark.parametrize("preset", [ffhq_512, afhq_512, shapenet_128, tiny])
def test_presets_and_clamps_are_possible(preset):
    config = dataclasses.replace(preset(), conv_clamp=256.0)
    assert dataclasses.replace(config, conv_clamp=None).conv_clamp is None


@pytest.mark.parametrize(
    "options",
    [
        {"coarse_samples": 3, "fine_samples": 1},
        {"coarse_samples": 1, "fine_samples": 0},
        {"fine_samples": -1},
    ],
)
def test_too_few_samples_are_refused(options):
    with pytest.raises(ValueError, match="want at least 4 coarse samples"):
        RenderConfig(**options)


@pytest.mark.parametrize(
    "options",
    [{"coarse_samples": 4, "fine_samples": 1}, {"coarse_samples": 2, "fine_samples": 0}],
)
def test_the_fewest_samples_are_enough(options):
    RenderConfig(**options)


@pytest.mark.parametrize("side", [0.0, -1.0, float("nan")])
def test_a_box_without_a_side_is_refused(side):
    with pytest.raises(ValueError, match="box_warp=.* must be positive"):
        RenderConfig(box_warp=side)


@pytest.mark.parametrize(
    ("limits", "cause"),
    [
        ((None, 3.3), "give both, or neither"),
        ((2.25, None), "give both, or neither"),
        ((0.0, 3.3), "must lie between 0 and ray_end"),
        ((3.3, 3.3), "must lie between 0 and ray_end"),
    ],
)
def test_rays_without_a_length_are_refused(limits, cause):
    with pytest.raises(ValueError, match=cause):
        RenderConfig(ray_start=limits[0], ray_end=limits[1])


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"plane_side": 2}, "power of two, at least 4"),
        ({"plane_side": 24}, "power of two, at least 4"),
        ({"plane_features": 2}, "the first three are the raw colour"),
    ],
)
def test_planes_that_no_backbone_paints_are_refused(options, cause):
    with pytest.raises(ValueError, match=cause):
        dataclasses.replace(tiny(), **options)
