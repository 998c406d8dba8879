import gzip
from pathlib import Path

import numpy as np
import pytest
from torch_files import zip_storage

from convert_weights.array_pickle import CheckpointError
from convert_weights.generator import left_out, read_generator
from convert_weights.pickle_reader import read_pickle, state_tensors
from convert_weights.state_dict import read_tensors

VERSIONS = Path(__file__).parent / "torch_versions"


def damage(rng, data):
    """Flip bits, overwrite bytes, cut the end, cut, double or exchange a piece."""
    data = bytearray(data)
    begin, end = sorted(rng.integers(0, len(data), 2))
    end = min(end, begin + 64)
    match rng.integers(6):
        case 0:
            for place in rng.integers(0, len(data), rng.integers(1, 4)):
                data[place] ^= 1 << rng.integers(8)
        case 1:
            for place in rng.integers(0, len(data), rng.integers(1, 4)):
                data[place] = rng.integers(256)
        case 2:
            del data[begin:]
        case 3:
            del data[begin:end]
        case 4:
            data[begin:begin] = data[begin:end]
        case 5:
            data[begin:end] = b"\xff" * (end - begin)
    return bytes(data)


def peak_memory(*, reset=False):
    """Largest resident size of this process so far, bytes; 0 where Linux does not tell."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def fuzz(path, data, read, rounds):
    """Read damaged copies; how many were refused, and the memory that it took, MiB."""
    rng = np.random.default_rng(0)
    outcomes = {"refused": 0, "read": 0}
    before = peak_memory(reset=True)
    for _ in range(rounds):
        path.write_bytes(damage(rng, data))
        try:
            read(path)
            outcomes["read"] += 1
        except CheckpointError as error:
            outcomes["refused"] += 1
            message = str(error)
            assert len(message.splitlines()) == 1, message
            assert len(message) < 3000, message
    grown = (peak_memory() - before) / 2**20
    print(f"{len(data)} bytes, {outcomes}, {grown:.1f} MiB more at peak")
    return outcomes["refused"], grown


def read_checkpoint(path):
    tree = read_pickle(path)
    return read_generator(tree), left_out(tree)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rounds"), [("plain", 2000), ("gzip", 200)])
def test_a_damaged_file_gives_a_checkpoint_error_in_bounded_memory(tmp_path, writer, kind, rounds):
    config = writer.smallest()
    state = {  # numbers that are finite whatever byte of theirs changes are beside the point
        name: array if name.endswith("filter") else np.zeros_like(array)
        for name, array in writer.state_dict(config).items()
    }
    data = writer.checkpoint_bytes(config, state)
    data = gzip.compress(data, mtime=0) if kind == "gzip" else data
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    assert read_generator(read_pickle(path))[0] == config
    refused, grown = fuzz(path, data, read_checkpoint, rounds)
    assert refused > rounds / 4
    assert grown < 40


@pytest.mark.parametrize("name", ["1.7.1_protocol2", "2.13.0_changed", "2.13.0_distributed"])
def test_damaged_files_of_torch_itself_give_checkpoint_errors(tmp_path, name):
    data = gzip.decompress((VERSIONS / f"{name}.pkl.gz").read_bytes())
    refused, grown = fuzz(tmp_path / "x.pkl", data, read_checkpoint, 400)
    assert refused > 100
    assert grown < 40


@pytest.mark.parametrize("name", ["1.7.1_legacy", "1.12.1_zip", "2.13.0_legacy", "2.13.0_zip"])
def test_damaged_files_of_torch_save_give_checkpoint_errors(tmp_path, name):
    data = gzip.decompress((VERSIONS / f"{name}.pt.gz").read_bytes())
    refused, grown = fuzz(tmp_path / "x.pt", data, read_tensors, 1000)
    assert refused > 250
    assert grown < 40


@pytest.mark.parametrize("kind", ["zip", "untyped"])
def test_damaged_storages_of_other_kinds_give_checkpoint_errors(tmp_path, writer, kind):
    """Byte strings of storages in the newer format, and of bytes whose type stands beside them."""
    array = np.arange(6, dtype=np.float32)
    if kind == "zip":
        storage = zip_storage(array)
    else:
        raw = array.view(np.uint8)
        storage = writer.storage_bytes(raw, ("torch.storage", "UntypedStorage"))
    load = writer.Call(writer.Global("torch.storage", "_load_from_bytes"), (storage,))
    dtype = writer.Global("torch", "float32")
    tensor = writer.Call(
        writer.Global("torch._utils", "_rebuild_tensor_v3"),
        (load, 0, (2, 3), (3, 1), False, {}, dtype),
    )
    module = {"_parameters": {"w": tensor}, "_buffers": {}, "_modules": {}}
    data = writer.dumps({"G_ema": writer.Instance(writer.Global("torch.nn.x", "X"), module)})
    path = tmp_path / "x.pkl"
    path.write_bytes(data)

    def read(path):
        return {k: v.numpy() for k, v in state_tensors(read_pickle(path)["G_ema"]).items()}

    np.testing.assert_array_equal(read(path)["w"], array.reshape(2, 3))
    refused, grown = fuzz(path, data, read, 1000)
    assert refused > 250
    assert grown < 40
