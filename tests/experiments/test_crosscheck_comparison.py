"""What counts as a difference from PyTorch code, and the random numbers both sides are given."""

from types import SimpleNamespace

import numpy as np
import pytest

from eg3d_jax.errors import InputError
from experiments.crosscheck.comparison import Side, Tolerances, compare
from experiments.crosscheck.torch_side import fixed_draws


def side(**arrays):
    shapes = {"ws": (1, 6, 2), "planes": (1, 9, 4, 4), "raw": (1, 2, 3, 4, 4)}
    shapes |= {"depth": (1, 2, 1, 4, 4), "image": (1, 2, 3, 8, 8), "gradient": (1, 2, 6, 2)}
    ones = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    return Side(arrays=ones | arrays, seconds={}, memory={}, version="", device="")


def test_a_difference_is_absolute_but_relative_to_the_view_for_gradients():
    gradient = np.ones((1, 2, 6, 2), np.float32)
    gradient[0, 1, 0, 0] = 100
    other = gradient.copy()
    other[0, 0, 0, 0], other[0, 1, 1, 1] = 1.5, 2
    depth = np.ones((1, 2, 1, 4, 4), np.float32)
    depth[0, 0, 0, 0, 0] = 1.25
    found = compare(side(gradient=gradient), side(gradient=other, depth=depth), Tolerances())
    largest = {item.stage: item.largest for item in found}
    assert largest["depth"] == 0.25
    assert largest["gradient"] == pytest.approx(0.5)
    assert largest["image"] == 0
    assert found[3].mean == pytest.approx(0.25 / 32)


def test_a_difference_that_is_no_number_is_none_that_agrees():
    broken = np.ones((1, 2, 3, 8, 8), np.float32)
    broken[0, 0, 0, 0, 0] = np.nan
    found = compare(side(), side(image=broken), Tolerances())
    assert [item.stage for item in found if not item.agrees] == ["image"]


def test_other_shapes_are_an_error_that_names_the_stage():
    with pytest.raises(InputError, match=r"their planes has shape \[1, 9, 4, 4\], ours \[1, 9"):
        compare(side(), side(planes=np.ones((1, 9, 8, 8))), Tolerances())


class Tensor(np.ndarray):
    """An array that also has what the draws ask of a tensor."""

    device = "cpu"

    def to(self, device):
        return self


def torch_with_draws():
    """The functions of torch that the draws touch; the first two must never be called."""
    return SimpleNamespace(
        rand=object(), rand_like=object(), from_numpy=lambda array: array.view(Tensor)
    )


JITTER, U = np.arange(12.0).reshape(3, 4), np.arange(6.0).reshape(3, 2)


def test_the_two_draws_of_the_renderer_are_replaced_and_nothing_is_left_changed():
    torch = torch_with_draws()
    before = vars(torch).copy()
    depths = np.zeros((1, 3, 4, 1)).view(Tensor)
    with fixed_draws(torch, [JITTER, U]):
        jitter, u = torch.rand_like(depths), torch.rand(3, 2, device="cpu")
    np.testing.assert_array_equal(jitter, JITTER.reshape(depths.shape))
    np.testing.assert_array_equal(u, U)
    assert vars(torch) == before


@pytest.mark.parametrize("shapes", [[(1, 3, 4, 1)], [(6,), (12,)], [(12,), (6,), (1,)], [(13,)]])
def test_other_draws_are_an_error_that_lists_them(shapes):
    torch = torch_with_draws()

    def render():
        with fixed_draws(torch, [JITTER, U]):
            for shape in shapes:
                torch.rand(shape, device="cpu")

    with pytest.raises(RuntimeError, match="draws jitter and u, 12 and 6 numbers, but .* shapes"):
        render()
