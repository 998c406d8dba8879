"""Settings that mean nothing are refused where they are made."""

import pytest

from inversion.config import InversionConfig


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
