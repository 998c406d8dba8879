import pytest

from inversion.config import StageConfig


@pytest.mark.parametrize(("num_steps", "rate"), [(-1, 0.1), (1, 0.0), (1, -0.1), (1, float("nan"))])
def test_a_stage_needs_a_positive_rate_and_no_negative_number_of_steps(num_steps, rate):
    with pytest.raises(ValueError, match="must be positive"):
        StageConfig(num_steps=num_steps, learning_rate=rate)
