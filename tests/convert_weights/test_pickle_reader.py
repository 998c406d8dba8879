import itertools
import math
import os
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert_weights.array_pickle import CheckpointError
from convert_weights.pickle_reader import Record, read_pickle, state_tensors
from convert_weights.storages import Storage, rebuild_tensor
from convert_weights.torch_archives import storage_from_bytes
from eg3d_jax.config import tiny


class Malicious:
    """Pickles as a call, which a plain `pickle.load` would make."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def attacks(sentinel):
    code = f"open({str(sentinel)!r}, 'w').close()"
    for protocol in range(6):
        yield pickle.dumps(Malicious(os.system, f"touch {sentinel}"), protocol), "system"
        yield pickle.dumps(Malicious(eval, code), protocol), "eval"
    yield f"cos\nsystem\n(S'touch {sentinel}'\ntR.".encode(), "os.system"
    yield f"(S'touch {sentinel}'\nios\nsystem\n.".encode(), "0x53"
    yield "\x80\x02(cos\nsystem\nX\x04\x00\x00\x00trueo.".encode("latin-1"), "os.system"
    yield pickle.dumps({"G_ema": Malicious(exec, code)}), "exec"
    yield (
        b"\x80\x02ctorch.serialization\nload\nX\x01\x00\x00\x00a\x85R.",
        "torch.serialization.load",
    )
    yield b"\x80\x02ctorch.nnx\nload\n.", "torch.nnx.load"
    yield b"\x80\x02cnumpy\nload\n.", "numpy.load"
    yield b"\x80\x02ccollections\nabc.sys\n.", "collections.abc.sys"
    yield b"\x80\x02\x82\x01.", "0x82"  # a global by number of the extension registry


def test_the_attacks_work_on_plain_pickle(tmp_path):
    """Otherwise the next tests would show nothing."""
    data, _ = next(attacks(tmp_path / "sentinel"))
    pickle.loads(data)
    assert (tmp_path / "sentinel").exists()


@pytest.mark.parametrize("place", ["file", "storage", "storage's header"])
def test_no_attack_runs(tmp_path, writer, place):
    sentinel = tmp_path / "sentinel"
    for data, name in attacks(sentinel):
        path = tmp_path / "x.pkl"
        if place == "file":
            path.write_bytes(data)
        else:
            start = b"" if place == "storage" else writer.dumps(0) + writer.dumps(0)
            raw = start + data
            load = writer.Global("torch.storage", "_load_from_bytes")
            path.write_bytes(writer.dumps({"G_ema": writer.Call(load, (raw,))}))
        with pytest.raises(CheckpointError, match=name) as error:
            read_pickle(path)
        assert str(path) in str(error.value)
        assert not sentinel.exists()


def test_embedded_source_text_is_not_executed(tmp_path, writer):
    path = tmp_path / "x.pkl"
    path.write_bytes(writer.checkpoint_bytes(tiny()))
    assert writer.SOURCE.encode() in path.read_bytes()
    assert read_pickle(path)["G_ema"].class_name == "TriPlaneGenerator"


def test_torch_and_the_classes_named_are_not_imported(mini_path):
    code = (
        "import sys; from convert_weights.pickle_reader import read_pickle;"
        "read_pickle(sys.argv[1]); assert not {'torch', 'training', 'dnnlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, mini_path], check=True)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("FloatStorage", "f4"),
        ("DoubleStorage", "f8"),
        ("HalfStorage", "f2"),
        ("LongStorage", "i8"),
        ("IntStorage", "i4"),
        ("ShortStorage", "i2"),
        ("CharStorage", "i1"),
        ("ByteStorage", "u1"),
        ("BoolStorage", "?"),
    ],
)
def test_storages_of_every_type(writer, kind, dtype):
    array = np.arange(6).astype(dtype)
    storage = storage_from_bytes(memoryview(writer.storage_bytes(array, kind)))
    read = rebuild_tensor(storage, 1, (2, 2), (3, 1)).numpy()
    np.testing.assert_array_equal(read, array[[[1, 2], [4, 5]]])
    assert read.dtype == array.dtype


def test_bfloat16_becomes_float32(writer):
    values = np.array([1.5, -2.0, 0.0, 3e30], np.float32)
    raw = (values.view(np.uint32) >> 16).astype(np.uint16)
    storage = storage_from_bytes(memoryview(writer.storage_bytes(raw, "BFloat16Storage")))
    read = rebuild_tensor(storage, 0, (4,), (1,)).numpy()
    np.testing.assert_allclose(read, values, rtol=1e-2)
    assert read.dtype == np.float32


@pytest.mark.parametrize(
    "changes",
    [
        {"magic": 7},
        {"protocol": 1000},
        {"system": {"little_endian": False}},
        {"header": ("storage",)},
        {"keys": ["95"]},
        {"keys": ["94", "94"]},
    ],
)
def test_storages_with_a_strange_header_are_refused(tmp_path, writer, changes):
    data = writer.storage_bytes(np.zeros(2, np.float32), **changes)
    load = writer.Global("torch.storage", "_load_from_bytes")
    (tmp_path / "x.pkl").write_bytes(writer.dumps({"G_ema": writer.Call(load, (data,))}))
    with pytest.raises(CheckpointError, match="storage|damaged"):
        read_pickle(tmp_path / "x.pkl")


def test_storages_are_as_long_as_they_say(writer):
    data = writer.storage_bytes(np.zeros(2, np.float32))
    for wrong in (data[:-1], data + b"\0", data[:-16] + b"\xff" * 8 + data[-8:]):
        with pytest.raises(CheckpointError, match="as long"):
            storage_from_bytes(memoryview(wrong))
    with pytest.raises(CheckpointError, match="zip"):
        storage_from_bytes(memoryview(b"PK\x03\x04"))


def is_a_slice(shape, strides):
    """With the axes of large steps first, each element lies behind the one before."""
    pairs = sorted(zip(strides, shape, strict=True), reverse=True)
    places = np.ndindex(*(size for _, size in pairs))
    order = [sum(i * step for i, (step, _) in zip(p, pairs, strict=True)) for p in places]
    return all(a < b for a, b in itertools.pairwise(order))


small = st.integers(-1, 5)


@given(st.integers(0, 40), small, st.lists(small, max_size=3), st.lists(small, max_size=3))
@settings(max_examples=500, deadline=None)
def test_a_tensor_equals_the_elements_gathered_one_by_one_or_is_refused(
    writer, n, offset, shape, strides
):
    element = storage_from_bytes(memoryview(writer.storage_bytes(np.zeros(0, np.float32)))).element
    values = np.arange(n, dtype=np.float32)
    indices = [
        offset + sum(i * step for i, step in zip(index, strides, strict=False))
        for index in np.ndindex(*(max(size, 0) for size in shape))
    ]
    try:
        tensor = rebuild_tensor(
            Storage(element, memoryview(values.tobytes())), offset, tuple(shape), tuple(strides)
        )
    except CheckpointError:
        sound = len(shape) == len(strides) and min([offset, *shape, *strides]) >= 0
        inside = all(index < n for index in indices) and offset <= n
        fits = sound and inside and math.prod(shape) <= n and max(shape, default=0) <= n
        assert not (fits and is_a_slice(shape, strides))
    else:
        assert len(set(indices)) == len(indices)
        np.testing.assert_array_equal(tensor.numpy().ravel(), values[np.array(indices, int)])


@pytest.mark.parametrize(
    "numbers",
    [
        (0, (2**62,), (0,)),
        (0, (3,), (2**62,)),
        (2**70, (1,), (1,)),
        (0, (1,), (2**70,)),  # a step that is never taken, too large for NumPy
    ],
)
def test_huge_sizes_are_refused_without_making_them(writer, numbers):
    storage = storage_from_bytes(memoryview(writer.storage_bytes(np.zeros(4, np.float32))))
    with pytest.raises(CheckpointError):
        rebuild_tensor(storage, *numbers)


def test_elements_are_not_repeated(writer):
    storage = storage_from_bytes(memoryview(writer.storage_bytes(np.zeros(9, np.float32))))
    for shape, strides in (((2,), (0,)), ((2, 2), (1, 1)), ((3, 3), (3, 0)), ((2, 3), (2, 1))):
        with pytest.raises(CheckpointError, match="repeats elements"):
            rebuild_tensor(storage, 0, shape, strides)
    for shape, strides in (((1, 3), (0, 1)), ((3, 1, 3), (1, 9, 3)), ((2, 2), (6, 2))):
        assert rebuild_tensor(storage, 0, shape, strides).numpy().shape == shape


def test_modules_that_contain_each_other_are_refused(tmp_path):
    """A record that holds itself, made with memo references as an attacker would."""
    data = b"\x80\x04}(\x8c\x05G_ema\x8c\x09torch.nn.\x8c\x01X\x93)\x81q\x00}(\x8c\x08_modules"
    data += b"}(\x8c\x01ah\x00\x8c\x01bh\x00uubu."
    (tmp_path / "x.pkl").write_bytes(data)
    record = read_pickle(tmp_path / "x.pkl")["G_ema"]
    with pytest.raises(CheckpointError, match="contain each other"):
        state_tensors(record)


def test_a_file_written_by_torch_is_read_as_torch_reads_it(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch", reason="torch writes the file of this test")
    inner = torch.nn.Linear(3, 5)
    norm = torch.nn.BatchNorm1d(5)
    model = torch.nn.Sequential(inner, norm, torch.nn.Linear(5, 2, bias=False))
    base = torch.arange(24, dtype=torch.float64).reshape(4, 6)
    model.register_buffer("strided", base[1:, ::2].t())
    model.register_buffer("halves", torch.randn(3).half())
    model.register_buffer("brains", torch.randn(3).bfloat16())
    model.register_buffer("flags", torch.tensor([True, False]))
    model.register_buffer("dropped", torch.zeros(2), persistent=False)
    for protocol in (4, 5):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps({"G_ema": model}, protocol))
        record = read_pickle(path)["G_ema"]
        assert isinstance(record, Record)
        read = state_tensors(record)
        expected = model.state_dict()
        assert list(read) == list(expected)
        for name, value in expected.items():
            value = value.float() if value.dtype == torch.bfloat16 else value
            np.testing.assert_array_equal(read[name].numpy(), value.numpy(), err_msg=name)
