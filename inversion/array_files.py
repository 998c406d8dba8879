"""Read named arrays from files of NumPy and PyTorch: npy, npz, and torch.save's .pt and .pth.

A file is what its first bytes say, whatever its name ends in; any may be compressed by gzip.
Nothing in it is executed.
"""

from __future__ import annotations

import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from convert_weights.array_pickle import MAX_BYTES, CheckpointError, printable, read_bytes
from convert_weights.file_kinds import TORCH_ARCHIVE, recognize
from convert_weights.state_dict import read_tensors
from eg3d_jax.errors import InputError

# The name of an array whose file gives it none: an npy's, or a tensor saved by itself.
ALONE = ""
_WANTED = "save the numbers by numpy.save, numpy.savez or torch.save"
_DAMAGE = (
    OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, OverflowError, MemoryError,
    NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error,
    tokenize.TokenError,
)  # fmt: skip
# Result of reading pickled objects; `as_numbers` refuses it.
_OBJECTS = np.empty(0, object)
# Number of arrays named in a message.
_NAMED = 8


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays in a file, as it holds them.

    Args:
      path: an npy, an npz, or a file of torch.save.

    Returns:
      The arrays by name; the one that its file gives no name is `ALONE`. Pickled objects, which are
      not read, are an empty array of objects.

    Raises:
      InputError: if there is no such file, or it is something else or damaged.
    """
    try:
        data = read_bytes(path)
        kind = recognize(data)
        if kind is None:
            name = "a pickle of objects" if data[:1] == b"\x80" else "no known kind of file"
            raise CheckpointError(f"it is {name}; {_WANTED}")
        if kind.name.endswith("(.npy)"):
            return {ALONE: _read_npy(io.BytesIO(data))}
        if kind.name.endswith("(.npz)"):
            return _read_npz(data)
        if kind.name.startswith(TORCH_ARCHIVE):
            return read_tensors(path)
        raise CheckpointError(f"it is {kind.name}; {kind.way_on or _WANTED}")
    except CheckpointError as error:
        said = str(error)
        raise InputError(said if str(path) in said else f"cannot read {path}: {said}") from None
    except _DAMAGE as error:
        reason = printable(" ".join(str(error).split()))[:200]
        raise InputError(
            f"cannot read {path}: it is damaged or truncated ({reason}); copy or save it again"
        ) from None


def as_numbers(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """Convert an array of a file to float32.

    Args:
      path: of the file.
      name: of the array in it.
      array: from `read_arrays`.

    Raises:
      InputError: if it holds something other than finite numbers.
    """
    what = f"{path}: {printable(name)}" if name else str(path)
    if array.dtype.hasobject:
        raise InputError(
            f"{what} holds pickled objects, which could run code and are not read; save the "
            "numbers themselves, as an array of float32"
        )
    if array.dtype.kind not in "fiu":
        raise InputError(f"{what} is of type {array.dtype}; it must be real numbers")
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise InputError(f"{what} holds numbers that are not finite; make it again")
    return numbers


def listed_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """Names and shapes of arrays, for a message."""
    texts = [f"{printable(name)} {list(a.shape)}".strip() for name, a in arrays.items()]
    more = [f"{len(texts) - _NAMED} more"] * (len(texts) > _NAMED)
    return ", ".join([*texts[:_NAMED], *more]) or "no array"


def _read_npy(stream: io.IOBase) -> np.ndarray:
    try:
        return np.lib.format.read_array(stream, allow_pickle=False)
    except ValueError as error:
        if "Object arrays" in str(error):
            return _OBJECTS
        raise


def _read_npz(data: memoryview) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        if sum(info.file_size for info in members) > MAX_BYTES:
            raise CheckpointError(f"it unpacks to more than the {MAX_BYTES} bytes allowed")
        arrays = {}
        for info in members:
            with archive.open(info) as member:
                arrays[info.filename.removesuffix(".npy")] = _read_npy(io.BytesIO(member.read()))
    return arrays
