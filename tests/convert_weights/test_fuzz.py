import gzip
from pathlib import Path

import numpy as np
import pytest

from convert_weights.generator import read_generator
from convert_weights.pickle_reader import read_pickle
from eg3d_jax.safe_pickle import CheckpointError


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


@pytest.mark.parametrize(("kind", "rounds"), [("plain", 2000), ("gzip", 200)])
def test_a_damaged_file_gives_a_checkpoint_error_in_bounded_memory(tmp_path, writer, kind, rounds):
    rng = np.random.default_rng(0)
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
    outcomes = {"refused": 0, "read": 0}
    before = peak_memory(reset=True)
    for _ in range(rounds):
        path.write_bytes(damage(rng, data))
        try:
            read_generator(read_pickle(path))
            outcomes["read"] += 1
        except CheckpointError as error:
            outcomes["refused"] += 1
            message = str(error)
            assert len(message.splitlines()) == 1, message
            assert len(message) < 3000, message
    grown = (peak_memory() - before) / 2**20
    print(f"{len(data)} bytes, {outcomes}, {grown:.1f} MiB more at peak")
    assert outcomes["refused"] > rounds / 4
    assert grown < 40
