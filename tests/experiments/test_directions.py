"""Directions as others write them are taken for what they are."""

import numpy as np
import pytest
import torch_files

from eg3d_jax.errors import InputError
from experiments.subjects import load_generator
from inversion.direction_files import load_directions, save_directions
from inversion.editing import sample_w
from inversion.latents import frontal_mapping

L, D = 6, 16
RNG = np.random.default_rng(0)
COMPONENTS = np.linalg.qr(RNG.normal(size=(D, 3)))[0].T.astype(np.float32, order="C")
LAYERED = RNG.normal(size=(3, L, D)).astype(np.float32)
MEAN = np.arange(D, dtype=np.float32)


@pytest.fixture(scope="module")
def loaded(inputs):
    generator = load_generator(inputs / "generator")
    return generator, generator.origin.metadata


@pytest.fixture
def said():
    return []


@pytest.fixture
def load(loaded, said, tmp_path):
    """The directions of a file with these arrays: an npy of an array, an npz of several."""

    def load(arrays):
        if isinstance(arrays, np.ndarray):
            np.save(tmp_path / "file.npy", arrays)
            return load_directions(tmp_path / "file.npy", *loaded, said.append)
        np.savez(tmp_path / "file.npz", **arrays)
        return load_directions(tmp_path / "file.npz", *loaded, said.append)

    return load


@pytest.fixture(scope="module")
def spread(loaded):
    """Deviation of mapped latents along each of `COMPONENTS`, of other samples."""
    generator, _ = loaded
    mapping, z_dim = frontal_mapping(generator), generator.config.z_dim
    w = np.concatenate(list(sample_w(mapping, z_dim, num_samples=50_000, seed=9)))
    return np.std(w @ COMPONENTS.T, axis=0)


@pytest.mark.parametrize("shape", [(3, D), (3, 1, D)])
@pytest.mark.parametrize("length", [1.0, 7.0])
@pytest.mark.parametrize("more", [{}, {"mean": MEAN}, {"mean": MEAN[None]}])
def test_without_std_it_is_measured_on_this_generator(load, said, spread, shape, length, more):
    found = load({"components": length * COMPONENTS.reshape(shape)} | more)
    np.testing.assert_allclose(found.components, COMPONENTS, atol=1e-6)
    # The deviation of 10,000 samples is known to a hundredth or so.
    np.testing.assert_allclose(found.std, spread, rtol=0.05)
    np.testing.assert_array_equal(found.mean, MEAN if more else 0 * MEAN)
    assert len(said) == 1
    assert "no std: strength 1 is a standard deviation, measured on 10,000 latents" in said[0]


def test_ganspaces_own_file(load, said):
    std = np.float32([3, 2, 1])
    found = load({
        "act_comp": LAYERED, "act_mean": LAYERED[:1], "act_stdev": std, "var_ratio": std,
        "lat_comp": COMPONENTS[:, None], "lat_mean": MEAN[None], "lat_stdev": std,
        "random_stdevs": std,
    })  # fmt: skip
    np.testing.assert_array_equal(found.steps, std[:, None] * COMPONENTS)
    np.testing.assert_array_equal(found.mean, MEAN)
    assert said == []


@pytest.mark.parametrize("shape", [(3, L, D), (3, 1, L, D), (3, L * D), (3, 1, L * D)])
def test_directions_of_w_plus_are_an_offset_a_layer(load, said, shape):
    found = load(LAYERED.reshape(shape))
    np.testing.assert_array_equal(found.steps, LAYERED)
    for one in (LAYERED[:1], LAYERED[0].reshape(L * D), LAYERED[:1, None]):
        np.testing.assert_array_equal(load(one).steps, LAYERED[:1])
    assert said == []
    named = load({"components": LAYERED.reshape(shape)})
    np.testing.assert_array_equal(named.steps, LAYERED)
    assert "strength 1 is a unit of W+" in said[0]


@pytest.mark.parametrize("shape", [(1, D), (D,), (1, 1, D)])
@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.float32, ">f8"])
def test_a_boundary_counts_in_units_of_w(load, said, shape, dtype):
    boundary = (3 * COMPONENTS[:1]).astype(dtype)
    found = load(boundary.reshape(shape))
    np.testing.assert_array_equal(found.steps, boundary.astype(np.float32))
    np.testing.assert_array_equal(load({"any": boundary}).steps, found.steps)
    assert said == []


@pytest.mark.parametrize("shape", [(D,), (1, D), (L, D), (L * D,)])
def test_arrays_of_a_direction_each_give_them_their_names(load, said, shape):
    size = np.prod(shape)
    arrays = {"smile": np.arange(size).reshape(shape), "age": np.ones(shape), "alpha": 3.0}
    found = load(arrays)
    assert found.names == ("smile", "age")
    np.testing.assert_array_equal(found.steps.reshape(2, -1)[0], np.arange(size))
    assert load({"0": np.ones(shape), "1": np.ones(shape)}).names == ()
    assert load({"smile": np.arange(size).reshape(1, *shape), "alpha": 3.0}).names == ()
    assert said == []


def test_as_many_directions_of_w_as_layers_are_told_from_one_of_w_plus(load, said):
    array = RNG.normal(size=(L, D)).astype(np.float32)
    assert load(array).steps.shape == (L, D)
    assert "[6, 16] is taken as 6 directions of W; one of W+ would be [1, 6, 16]" in said[0]
    assert load({"components": array, "std": np.ones(L)}).steps.shape == (L, D)
    assert len(said) == 1


@pytest.mark.parametrize("write", [torch_files.zip_file, torch_files.legacy_file])
def test_directions_in_files_of_torch(loaded, said, tmp_path, write):
    path = tmp_path / "direction.pt"
    path.write_bytes(write({"direction": COMPONENTS[:1]}))
    found = load_directions(path, *loaded, said.append)
    np.testing.assert_array_equal(found.steps, COMPONENTS[:1])
    path.write_bytes(write({"lat_comp": LAYERED, "lat_stdev": np.float32([1, 2, 3])}))
    assert load_directions(path, *loaded, said.append).steps.shape == (3, L, D)
    assert said == []


def test_directions_of_w_plus_are_written_and_read_again(loaded, said, load, tmp_path):
    found = load(LAYERED)
    path = save_directions(tmp_path / "directions.npz", found, loaded[1])
    again = load_directions(path, *loaded, said.append)
    np.testing.assert_array_equal(again.steps, LAYERED)
    assert said == []


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (np.ones((3, 17)), r"holds \[3, 17\], not directions .* \[n, 16\] of W or \[n, 6, 16\] of"),
        (np.ones((1, 18, D)), r"holds \[1, 18, 16\], not"),
        (np.ones((D, 3)), "transpose it"),
        (np.ones((0, D)), r"holds \[0, 16\], not"),
        (np.float32(1), r"holds \[\]; name"),
        (np.full((1, D), np.inf), "not finite"),
        (np.full((1, D), "x"), "type <U1"),
        ({"smile": np.ones((2, D)), "age": np.ones(D)}, r"holds smile \[2, 16\], age \[16\]; name"),
        ({"alpha": 3.0}, r"holds alpha \[\]; name"),
        ({"components": COMPONENTS, "std": np.ones(2)}, "2 standard deviations of 3 directions"),
        ({"components": COMPONENTS, "std": [1, np.nan, 1]}, "std holds numbers that are not"),
        ({"components": COMPONENTS, "mean": [np.inf]}, "mean holds numbers that are not finite"),
    ],
)  # fmt: skip
def test_what_is_no_direction_is_refused(load, arrays, message):
    with pytest.raises(InputError, match=rf"file\.np[yz].*{message}"):
        load(np.asarray(arrays) if not isinstance(arrays, dict) else arrays)
