"""Settings that mean nothing are refused where they are made."""

import pytest

from inversion.config import InversionConfig, StageConfig


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"update": "Alternating"}, "'Alternating' is none of joint, alternating"),
        ({"regularizers": ("depth", "dept")}, "'dept' is none of distance, interpolation, depth"),
        ({"latent_space": "W"}, r"'W' is none of w\+, w"),
        ({"views_per_step": 0}, "views_per_step=0 must be at least 1"),
        ({"views_at_once": -1}, "views_at_once=-1"),
        ({"rays_at_once": 0}, "rays_at_once=0"),
        ({"depth_side": 0}, "depth_side=0"),
    ],
)
def test_a_setting_without_meaning_is_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        InversionConfig(**wrong)


@pytest.mark.parametrize(("num_steps", "rate"), [(-1, 0.1), (1, 0.0), (1, -0.1), (1, float("nan"))])
def test_a_stage_needs_a_positive_rate_and_no_negative_number_of_steps(num_steps, rate):
    with pytest.raises(ValueError, match="must be positive"):
        StageConfig(num_steps=num_steps, learning_rate=rate)
