"""Impossible configurations are refused, and the limits themselves are not."""

import dataclasses

import pytest

from eg3d_jax.config import RenderConfig, tiny


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
