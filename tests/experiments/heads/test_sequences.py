"""Sequences of the benchmark: what is written can be read, made again, and tells what moved."""

import numpy as np
import pytest

from eg3d_jax.errors import InputError
from experiments.heads.anatomy import (
    APPEARANCE,
    EXPRESSION,
    IDENTITY,
    PARAMETERS,
    PARTS,
    PHENOTYPE,
    Z_DIM,
)
from experiments.heads.extras import EXTRAS
from experiments.heads.sequences import SETS, Args, main, save_parameters, sweep, write
from inversion.frames.folder import read_frames, read_image

BENCHMARK = SETS["benchmark"]
STRONG = {"headband", "scar", "beard"}


def test_the_benchmark_has_six_persons_and_all_extras():
    assert {sequence.extra for sequence in BENCHMARK.values()} == set(EXTRAS)
    assert len(BENCHMARK) == len(EXTRAS) == 6
    seeds = [sequence.seed for group in SETS.values() for sequence in group.values()]
    assert len(set(seeds)) == len(seeds)


def test_three_of_them_change_their_expression_strongly():
    """Blinks aside, which all have."""
    time = np.linspace(0, 1, 60)
    spans = {}
    for name, sequence in BENCHMARK.items():
        expression = sequence.expression(time)
        assert expression.shape == (60, EXPRESSION.stop - EXPRESSION.start)
        assert expression.dtype == np.float32
        names = PARAMETERS[EXPRESSION]
        spans[name] = np.ptp(np.delete(expression, names.index("blink"), axis=1), axis=0).max()
    assert min(spans[name] for name in STRONG) > 2 * max(
        span for name, span in spans.items() if name not in STRONG
    )


def test_every_parameter_has_the_name_of_its_part():
    parts = {"identity": IDENTITY, "phenotype": PHENOTYPE}
    parts |= {"expression": EXPRESSION, "appearance": APPEARANCE}
    for part, where in parts.items():
        assert set(PARTS[where]) == {part}
    assert len(set(PARAMETERS)) == len(PARAMETERS) == len(PARTS) == Z_DIM


@pytest.mark.parametrize(("first", "last"), [(-75, 75), (75, -75)])
def test_sweep_goes_from_one_side_to_the_other(first, last):
    x, _, z = np.moveaxis(np.asarray(sweep(5, first_yaw=first).cam2world)[:, :3, 3], -1, 0)
    yaw = np.degrees(np.arctan2(x, z))
    np.testing.assert_allclose(yaw, np.linspace(first, last, 5), atol=1e-3)


def test_parameters_are_kept_exactly(tmp_path):
    z = np.random.default_rng(0).standard_normal((3, Z_DIM)).astype(np.float32)
    save_parameters(tmp_path, z, "scar")
    with np.load(tmp_path / "parameters.npz") as file:
        np.testing.assert_array_equal(file["z"], z)
        assert str(file["extra"]) == "scar"
        assert (tuple(file["part"]), tuple(file["name"])) == (PARTS, PARAMETERS)


@pytest.mark.parametrize("option", ["frames", "side"])
def test_no_pictures_are_refused(tmp_path, option):
    with pytest.raises(InputError, match=f"--{option} 0 must be from 1 to"):
        main(Args(folder=tmp_path, **{option: 0}))


def test_frames_of_a_longer_sequence_are_not_left_behind(tmp_path):
    (tmp_path / "scar").mkdir()
    (tmp_path / "scar" / "frame0002.png").touch()
    with pytest.raises(InputError, match=r"frame0002\.png .* remove its folder"):
        main(Args(folder=tmp_path, set="benchmark", frames=2))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glasses", "beard"])
def test_a_sequence_is_read_made_again_and_differs_in_expression_alone(maker, tmp_path, name):
    for folder in ("first", "second"):
        write(tmp_path / folder, maker, BENCHMARK[name], frames=3, side=32)
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
        for folder in ("first", "second")
    )
    assert first == second
    frames = read_frames(tmp_path / "first", image_side=32)
    assert len(frames) == 3
    ends = [BENCHMARK[name].first_yaw * side for side in (1, 0, -1)]
    np.testing.assert_allclose(frames.yaw_degrees, ends, atol=1e-3)
    assert frames.depth is not None
    assert frames.mask is not None
    assert frames.depth.shape == frames.mask.shape == (3, 32, 32)
    with np.load(tmp_path / "first" / "mask.npz") as file:
        opacity = file["mask"]
    np.testing.assert_array_equal(frames.mask, opacity >= 128)
    assert np.all(opacity[frames.depth > 0] > 0)
    assert np.all(read_image(frames, 0)[opacity[0] == 0] == 1)
    with np.load(tmp_path / "first" / "parameters.npz") as file:
        moving = np.ptp(file["z"], axis=0) > 0
        assert set(file["part"][moving]) == {"expression"}
        assert str(file["extra"]) == name
