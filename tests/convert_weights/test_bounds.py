"""Small files, made to take much memory or time: what that would be is bounded by their size."""

import gzip
import io
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from torch_files import MAGIC, legacy_file, pickled, zip_file

from convert_weights import array_pickle
from convert_weights.array_pickle import CheckpointError
from convert_weights.generator import read_generator
from convert_weights.pickle_reader import Record, read_pickle, state_tensors
from convert_weights.state_dict import read_state_dict
from convert_weights.storages import rebuild_tensor
from convert_weights.torch_archives import storage_from_bytes


@pytest.fixture
def refused(tmp_path):
    """Read a file that is to be refused; the message, after a look at the memory it took."""

    def run(read, data):
        path = tmp_path / "x"
        path.write_bytes(data)
        tracemalloc.start()
        try:
            with pytest.raises(CheckpointError) as error:
                read(path)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 200 * len(data) + 200_000
        return str(error.value)

    return run


@pytest.mark.parametrize(
    "name", ["torch\nSize", "collections\nOrderedDict", "dnnlib.util\nEasyDict"]
)
def test_a_list_named_again_and_again_is_not_copied_each_time(refused, name):
    pairs = b"".join(b"M" + struct.pack("<H", i) + b"N\x86" for i in range(5000))
    data = b"\x80\x04](" + pairs + b"e\x94c" + name.encode() + b"\n\x94" + b"h\x01h\x00\x85R" * 500
    assert "malformed" in refused(read_pickle, data + b".")


def lists_within_lists(levels):
    """Each holds the one before twice, so that written out it is twice as long."""
    inner = b"".join(b"0]q%c(h%ch%ce" % (i, i - 1, i - 1) for i in range(1, levels + 1))
    return b"]q\x00" + inner + b"0]h%ca." % levels


@pytest.mark.parametrize(
    "keys", [lists_within_lists(22), b"]" * 50_000 + b"a" * 49_999 + b"."], ids=["shared", "deep"]
)
def test_a_list_of_storages_is_not_written_out(refused, keys):
    head = pickled(MAGIC) + pickled(1001) + pickled({"little_endian": True}) + pickled({})
    assert "list of storages" in refused(read_state_dict, head + b"\x80\x02" + keys)


def test_a_storage_for_each_of_the_names_is_wanted(refused):
    data = legacy_file({"a": np.zeros(2, np.float32)})
    changed = data.replace(pickled(["0"]), pickled(["0", "0"]))
    assert changed != data
    assert "not that of its tensors" in refused(read_state_dict, changed)


def test_members_of_gzip_cost_the_same_each(tmp_path, monkeypatch):
    handled, members = 0, 20_000
    real = zlib.decompressobj

    class Counting:
        def __init__(self, wbits):
            self.stream = real(wbits)

        def __getattr__(self, name):
            return getattr(self.stream, name)

        def decompress(self, data, limit):
            nonlocal handled
            piece = self.stream.decompress(data, limit)
            handled += len(self.stream.unused_data) + len(self.stream.unconsumed_tail)
            return piece

    monkeypatch.setattr(array_pickle.zlib, "decompressobj", Counting)
    content = bytes(range(256)) * 10
    (tmp_path / "x").write_bytes(gzip.compress(b"") * members + gzip.compress(content))
    assert array_pickle.read_bytes(tmp_path / "x") == content
    assert handled < 20_000 * members


@pytest.mark.parametrize("size", [0, 1, 1 << 14, (1 << 23) + 1])
def test_gzip_gives_back_what_went_in(tmp_path, size):
    content = np.random.default_rng(0).integers(0, 4, size, np.uint8).tobytes() + b"end"
    (tmp_path / "x").write_bytes(gzip.compress(content[:size], 1) + gzip.compress(content[size:]))
    assert array_pickle.read_bytes(tmp_path / "x") == content


def module(**parts):
    return Record("M", {"_parameters": {}, "_buffers": {}, "_modules": parts})


def test_a_module_is_visited_under_one_name_only(writer):
    weight = np.zeros(1, np.float32)
    storage = storage_from_bytes(memoryview(writer.storage_bytes(weight)))
    deepest = module()
    deepest.state["_parameters"]["w"] = rebuild_tensor(storage, 0, (1,), (1,))
    diamond = deepest
    for _ in range(10):
        diamond = module(a=diamond, b=diamond)
    twin = Record("M", deepest.state)
    for shared in (diamond, module(a=deepest, b=twin)):
        with pytest.raises(CheckpointError, match="share parts"):
            state_tensors(shared)
        with pytest.raises(CheckpointError, match="share parts"):  # not after its configuration
            read_generator({"G_ema": shared})
    assert list(state_tensors(module(a=module(), b=deepest))) == ["b.w"]


def test_long_names_do_not_pile_up():
    record = module()
    for _ in range(3):
        record = module(**{"x" * 100: record})
    with pytest.raises(CheckpointError, match="a name like xxx"):
        state_tensors(record)


def test_bfloat16_is_converted_once_for_all_tensors_of_a_storage(writer):
    data = writer.storage_bytes(np.zeros(6, np.uint16), "BFloat16Storage")
    storage = storage_from_bytes(memoryview(data))
    one, other = (rebuild_tensor(storage, 0, (n,), (1,)).numpy() for n in (6, 3))
    assert np.shares_memory(one, other)


def test_parts_of_an_archive_that_overlap_are_refused(tmp_path):
    with zipfile.ZipFile(out := io.BytesIO(zip_file({"a": np.zeros(500, np.float32)})), "a") as z:
        z.writestr("model/data/1", b"")
        for info in z.infolist():
            info.file_size = info.compress_size = 2000
    (tmp_path / "x").write_bytes(out.getvalue())
    with pytest.raises(CheckpointError, match="parts overlap"):
        read_state_dict(tmp_path / "x")
