"""Arrays of NumPy's and PyTorch's files are read alike, and anything else has a sentence."""

import gzip
import pickle
import zipfile

import numpy as np
import pytest
import torch_files

from eg3d_jax.errors import InputError
from inversion.array_files import ALONE, as_numbers, listed_arrays, read_arrays

ARRAYS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.array([4, 5])}


def npz(path, arrays=ARRAYS, write=np.savez):
    with path.open("wb") as file:
        write(file, **arrays)


def npy(path, array=ARRAYS["w"]):
    with path.open("wb") as file:
        np.save(file, array)


WRITERS = {
    "npz": npz,
    "compressed npz": lambda path: npz(path, write=np.savez_compressed),
    "torch": lambda path: path.write_bytes(torch_files.zip_file(ARRAYS)),
    "old torch": lambda path: path.write_bytes(torch_files.legacy_file(ARRAYS)),
}


@pytest.mark.parametrize("suffix", [".npz", ".pt", ""])
@pytest.mark.parametrize("kind", WRITERS)
def test_named_arrays_whatever_the_file_is_called(tmp_path, kind, suffix):
    path = tmp_path / f"file{suffix}"
    WRITERS[kind](path)
    found = read_arrays(path)
    assert list(found) == list(ARRAYS)
    for name, array in found.items():
        np.testing.assert_array_equal(array, ARRAYS[name])
    assert listed_arrays(found) == "w [2, 3], count [2]"


def test_a_lone_array_has_no_name(tmp_path):
    npy(tmp_path / "file")
    assert list(read_arrays(tmp_path / "file")) == [ALONE]
    packed = tmp_path / "file.npy.gz"
    packed.write_bytes(gzip.compress((tmp_path / "file").read_bytes()))
    np.testing.assert_array_equal(read_arrays(packed)[ALONE], ARRAYS["w"])


def test_a_message_lists_a_few_arrays():
    many = {f"a{i}": np.ones(i) for i in range(20)}
    assert listed_arrays(many).endswith("a7 [7], 12 more")
    assert listed_arrays({}) == "no array"
    assert listed_arrays({ALONE: np.ones(3)}) == "[3]"


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (POINTER, "a Git LFS pointer, not the file itself; run git lfs pull"),
        (b"\n <!DOCTYPE html><html>", "a web page"),
        (b"0.1 0.2 0.3\n", r"a text file \(0\.1 0\.2 0\.3\); save the numbers by numpy.save"),
        (bytes(range(5, 200)), "no known kind of file; save the numbers by numpy.save"),
        (pickle.dumps({"w": 1.0}), "a pickle of objects; save the numbers"),
        (b"PK\x03\x04 and no more", "truncated or damaged ZIP"),
        (b"\x93NUMPY and no more", "damaged or truncated"),
        (b"\x1f\x8b and no more", "gzip stream"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path, content, said):
    path = tmp_path / "file.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"file.npy: .*{said}"):
        read_arrays(path)


def test_missing_files_folders_and_other_archives_too(tmp_path):
    with pytest.raises(InputError, match=r"none\.npy: there is no such file"):
        read_arrays(tmp_path / "none.npy")
    with pytest.raises(InputError, match="a folder"):
        read_arrays(tmp_path)
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        archive.writestr("a.txt", "text")
    with pytest.raises(InputError, match=r"a ZIP archive, holding a\.txt; unpack it"):
        read_arrays(tmp_path / "texts.zip")


def header(shape):
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize("shape", ["(10**3,)", "(1000000000000,)", f"({2**32}, {2**32})", "(-1,)"])
def test_arrays_that_are_not_there_are_refused(tmp_path, shape):
    path = tmp_path / "file.npy"
    path.write_bytes(header(shape))
    with pytest.raises(InputError, match="damaged or truncated"):
        read_arrays(path)


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


def test_pickled_objects_are_neither_run_nor_in_the_way(tmp_path):
    bomb = np.array([Bomb()], object)
    np.save(tmp_path / "bomb.npy", bomb, allow_pickle=True)
    np.savez(tmp_path / "bomb.npz", note=bomb, w=ARRAYS["w"], allow_pickle=True)
    for name, key in (("bomb.npy", ALONE), ("bomb.npz", "note")):
        array = read_arrays(tmp_path / name)[key]
        with pytest.raises(InputError, match="pickled objects, which could run code"):
            as_numbers(tmp_path / name, key, array)
    np.testing.assert_array_equal(read_arrays(tmp_path / "bomb.npz")["w"], ARRAYS["w"])


@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required:UserWarning")
@pytest.mark.parametrize("kind", ["npy", *WRITERS])
def test_mutated_files_are_read_or_refused(tmp_path, kind):
    path, rng = tmp_path / "file", np.random.default_rng(0)
    (WRITERS | {"npy": npy})[kind](path)
    whole = path.read_bytes()
    for _ in range(200):
        data = bytearray(whole[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.3 else whole)
        for place in rng.integers(0, len(data), rng.integers(1, 5)):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        said = refusal(path)
        assert said == "" or (str(path) in said and "\n" not in said)


def refusal(path):
    """What is said of a file; nothing if it is read."""
    try:
        for name, array in read_arrays(path).items():
            as_numbers(path, name, array)
    except InputError as error:
        return str(error)
    return ""
