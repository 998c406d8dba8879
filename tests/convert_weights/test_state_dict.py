"""PyTorch's own files of state dicts, in both formats, and what happens to bad ones."""

import io
import random
import zipfile

import numpy as np
import pytest
from torch_files import MAGIC, Call, Named, legacy_file, pickled, saved, zip_file

from convert_weights.array_pickle import CheckpointError
from convert_weights.state_dict import read_state_dict, read_tensors

ARRAYS = {
    "weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "bias": np.float32([0.5, -2.0]),
    "num_batches_tracked": np.int64(7),
}


def read(tmp_path, data: bytes):
    path = tmp_path / "model.pth"
    path.write_bytes(data)
    return read_state_dict(path)


@pytest.mark.parametrize("write", [legacy_file, zip_file])
def test_both_formats_give_the_arrays_by_name(tmp_path, write):
    state = read(tmp_path, write(ARRAYS))
    assert list(state) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(state[name], array)
        assert state[name].dtype == np.asarray(array).dtype


@pytest.mark.parametrize("zipped", [False, True])
def test_files_of_torch_itself_are_read_bit_by_bit(tmp_path, zipped):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle of this test")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5))
    state = network.state_dict()
    shared = torch.arange(20.0)
    state["a view"] = shared[3:17:2]
    state["its storage"] = shared
    state["turned"] = torch.randn(4, 6).T
    state["half"] = torch.randn(3).half()
    state["brain"] = torch.randn(3).bfloat16()
    path = tmp_path / "model.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    found = read_state_dict(path)
    assert list(found) == list(state)
    for name, tensor in state.items():
        wanted = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        np.testing.assert_array_equal(found[name], wanted.numpy())


VALUES = {
    "a tensor": (np.float32([[1, 2]]), {"": np.float32([[1, 2]])}),
    "a list": ([np.float32([1]), np.int64([2, 3])], {"0": np.float32([1]), "1": np.int64([2, 3])}),
    "a tuple": ((np.float32([1]),), {"0": np.float32([1])}),
    "names with dots": ({"a.b.c": np.float32([4]), "n": 3}, {"a.b.c": [4], "n": 3}),
    "containers within": (
        {"w": {"mean": np.float32([4]), "std": 0.5}, "l": [np.float32([1]), True], "text": "no"},
        {"w.mean": [4], "w.std": 0.5, "l.0": [1], "l.1": True},
    ),
    "a large number": ({"n": 2**80}, {"n": 2.0**80}),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(("value", "wanted"), VALUES.values(), ids=VALUES.keys())
def test_tensors_are_read_in_any_container(tmp_path, value, wanted, legacy):
    (tmp_path / "x.pt").write_bytes(saved(value, legacy=legacy))
    found = read_tensors(tmp_path / "x.pt")
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)
        assert not isinstance(array, np.ndarray) or found[name].dtype == array.dtype


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "no tensor"),
        ([None, "text"], "no tensor"),
        ({"a": {"b": {"c": 1}}}, "nested too deeply"),
        ({"a": {1, 2}}, "a is no tensor"),
        ({"a": {"b": 1.0}, "a.b": 2.0}, "a.b twice"),
    ],
)
def test_containers_of_something_else_are_refused(tmp_path, value, message, legacy):
    (tmp_path / "x.pt").write_bytes(saved(value, legacy=legacy))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_tensors(tmp_path / "x.pt")
    assert "x.pt" in str(caught.value)


def test_a_container_held_twice_is_refused(tmp_path):
    inner = {"a": 1.0}
    (tmp_path / "x.pt").write_bytes(
        saved({}, legacy=True).replace(pickled({}), pickled([inner] * 2))
    )
    with pytest.raises(CheckpointError, match="held twice"):
        read_tensors(tmp_path / "x.pt")


@pytest.mark.parametrize("zipped", [False, True])
def test_arrays_and_parameters_that_torch_saved_are_read(tmp_path, zipped):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle of this test")
    value = {
        "w": torch.nn.Parameter(torch.randn(1, 14, 8)),
        "array": np.arange(6.0).reshape(2, 3),
        "scalar": np.float64(2.5),
    }
    torch.save(value, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    found = read_tensors(tmp_path / "x.pt")
    np.testing.assert_array_equal(found["w"], value["w"].detach().numpy())
    np.testing.assert_array_equal(found["array"], value["array"])
    assert found["scalar"] == 2.5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"no pickle at all", r"a text file \(no pickle at all\)"),
        (pickled({"a": 1}), "a pickle, but not one of torch.save"),
        (legacy_file(ARRAYS)[:-3], "truncated"),
        (zip_file(ARRAYS)[:-30], "zip archive"),
        (zip_file(ARRAYS, compression=zipfile.ZIP_DEFLATED), "compressed"),
        (zip_file(ARRAYS, without=("data/1",)), "data/1 is missing"),
        (zip_file(ARRAYS, without=("data.pkl",)), r"data\.pkl is missing"),
        (legacy_file({}), "no state dict"),
    ],
)
def test_bad_files_are_named_with_their_cause(tmp_path, data, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        read(tmp_path, data)
    assert "model.pth" in str(caught.value)


def test_a_file_with_more_than_tensors_is_refused(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model/data.pkl", pickled({"epoch": 3}))
    with pytest.raises(CheckpointError, match="epoch, which is no tensor"):
        read(tmp_path, out.getvalue())


@pytest.mark.parametrize("zipped", [False, True])
def test_another_global_is_named_and_nothing_runs(tmp_path, zipped):
    marker = tmp_path / "ran"
    attack = {"weight": Call(Named("os", "system"), f"touch {marker}")}
    if zipped:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("model/data.pkl", pickled(attack))
        data = out.getvalue()
    else:
        system = {"little_endian": True}
        data = pickled(MAGIC) + pickled(1001) + pickled(system) + pickled(attack) + pickled([])
    with pytest.raises(CheckpointError, match=r"os\.system"):
        read(tmp_path, data)
    assert not marker.exists()


@pytest.mark.parametrize("write", [legacy_file, zip_file])
def test_damaged_files_raise_nothing_else(tmp_path, write):
    """500 files with flipped or missing bytes: read as some arrays, or refused in one sentence."""
    whole, rng = write(ARRAYS), random.Random(0)
    messages = []
    for _ in range(500):
        data = bytearray(whole)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.randrange(1, 4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            read(tmp_path, bytes(data))
        except CheckpointError as error:
            messages.append(str(error))
    assert len(messages) > 100
    assert not any("\n" in message for message in messages)
