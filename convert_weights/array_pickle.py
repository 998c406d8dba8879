"""Read NumPy arrays from untrusted pickles; nothing in them is executed."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from convert_weights.file_kinds import refuse_other_kinds
from convert_weights.pickle_machine import (
    CheckpointError,
    Global,
    Stub,
    loads,
    loads_all,
    printable,
    refused_global,
    scalar_key,
    update,
)

__all__ = [
    "ARRAY_GLOBALS",
    "MAX_BYTES",
    "ArrayStub",
    "CheckpointError",
    "Global",
    "Stub",
    "array_view",
    "loads",
    "loads_all",
    "printable",
    "read_array_pickle",
    "read_bytes",
    "refused_global",
    "update",
]

MAX_BYTES = 4 << 30
_CHUNK = 1 << 22
_FED = 1 << 14  # bytes given to zlib at once, which copies what it leaves of them
_ARRAY_TYPES = frozenset("b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split())


def read_bytes(path: str | Path, *, max_bytes: int = MAX_BYTES) -> memoryview:
    """Read a file, decompressing gzip if its first bytes announce it.

    Args:
      path: the file.
      max_bytes: largest size accepted, after decompression.

    Returns:
      The content.

    Raises:
      CheckpointError: if the file is missing, empty, unreadable, truncated or too large.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1) if path.stat().st_size > max_bytes else file.read()
    except FileNotFoundError:
        raise CheckpointError("there is no such file") from None
    except IsADirectoryError:
        raise CheckpointError("it is a folder, not a file") from None
    except OSError as error:
        raise CheckpointError(f"it cannot be read ({printable(str(error))})") from None
    except MemoryError:
        raise CheckpointError("there is not enough memory to read it") from None
    if data[:2] == b"\x1f\x8b":
        return memoryview(_gunzip(data, max_bytes))
    if not data:
        raise CheckpointError("it is empty; copy or download it again")
    if len(data) > max_bytes:
        raise CheckpointError(f"it is larger than the {max_bytes} bytes allowed")
    return memoryview(data)


def _gunzip(data: bytes, max_bytes: int) -> bytes:
    pieces, size, position = [], 0, 0
    stream = zlib.decompressobj(wbits=31)
    try:
        while position < len(data) or not stream.eof:
            if stream.eof:  # a file may have several members
                stream = zlib.decompressobj(wbits=31)
            fed = memoryview(data)[position : position + _FED]
            piece = stream.decompress(fed, _CHUNK)
            position += len(fed) - len(stream.unconsumed_tail) - len(stream.unused_data)
            size += len(piece)
            if size > max_bytes:
                raise CheckpointError(f"it unpacks to more than the {max_bytes} bytes allowed")
            if not piece and not fed and not stream.eof:
                raise CheckpointError(
                    "it is truncated: its gzip stream does not end; copy or download it again"
                )
            pieces.append(piece)
        if not size:
            raise CheckpointError("it is empty; copy or download it again")
        return b"".join(pieces)
    except zlib.error:
        raise CheckpointError("its gzip stream is damaged") from None
    except MemoryError:
        raise CheckpointError("there is not enough memory to unpack it") from None


class _DType(Stub):
    """A scalar, little-endian type from a closed list."""

    def __init__(self, code: str, align: object = False, copy: object = True):
        if type(code) is not str or code not in _ARRAY_TYPES:  # a tuple could hash exponentially
            raise CheckpointError("it holds an array of a type that is not numeric")
        self.dtype = np.dtype(code)

    def build(self, state: Any) -> None:
        _, order, *rest = state
        if order not in ("<", "|") or any(part is not None for part in rest[:3]):
            raise CheckpointError("it holds an array that is not little-endian and scalar")


def array_view(raw: memoryview, dtype: np.dtype, shape: Any, *, fortran: bool = False) -> Any:
    """View the bytes of a file as a read-only array, without a copy.

    Args:
      raw: as many bytes as the array has.
      dtype: type of an element.
      shape: tuple of sizes, not trusted.
      fortran: the first axis varies fastest.

    Raises:
      CheckpointError: if shape and bytes disagree.
    """
    if type(shape) is not tuple or len(shape) > 32 or any(type(n) is not int for n in shape):
        raise CheckpointError("it is damaged: an array's shape is no tuple of integers")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(raw):
        raise CheckpointError("it is damaged: an array's shape does not fit its data")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


class ArrayStub(Stub):
    """An array of the file, built from its state: version, shape, type, order, bytes."""

    value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        """Receive the array's state."""
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _DType) or not isinstance(raw, memoryview):
            raise CheckpointError("it is damaged: an array's state is incomplete")
        self.value = array_view(raw, dtype.dtype, shape, fortran=bool(fortran))

    def numpy(self) -> np.ndarray:
        """The array, a view of the file's bytes."""
        if self.value is None:
            raise CheckpointError("it is damaged: an array has no data")
        return self.value


def _ndarray(*_: object) -> object:
    raise CheckpointError("it is malformed: it makes an array without data")


def _frombuffer(raw: memoryview, dtype: _DType, shape: tuple[int, ...], order: str) -> ArrayStub:
    array = ArrayStub()
    array.build((1, shape, dtype, order == "F", raw))
    return array


def _scalar(dtype: _DType, raw: memoryview) -> object:
    return array_view(raw, dtype.dtype, ()).item()


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    update(result, pairs)
    return result


def _set(items: Any = ()) -> set[Any]:
    """A set as protocols 2 and 3 write it."""
    if type(items) is not list and items != ():
        raise CheckpointError("it is malformed: a set that is made of no list")
    return set(map(scalar_key, items))


def _encode(text: str, encoding: str) -> memoryview:
    """A byte string as protocol 2 writes it."""
    if encoding not in ("latin1", "latin-1"):
        raise CheckpointError("it is damaged: a byte string in a strange encoding")
    return memoryview(text.encode("latin-1"))


ARRAY_GLOBALS: dict[tuple[str, str], Callable[..., object]] = {
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _ordered_dict,
    ("builtins", "set"): _set,
    ("__builtin__", "set"): _set,
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): _ndarray,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", lambda *_: ArrayStub()),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
}


def read_array_pickle(path: str | Path, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read a pickle, gzip-compressed or not, of nested dictionaries of NumPy arrays.

    Args:
      path: the file, of pickle protocol 2 to 5.
      max_bytes: largest size accepted, after decompression.

    Returns:
      The dictionaries, with read-only arrays; numbers, strings, lists and tuples stay.

    Raises:
      CheckpointError: one sentence naming the file and what is wrong with it.
    """
    try:
        data = read_bytes(path, max_bytes=max_bytes)
        refuse_other_kinds(data, "a pickle of NumPy arrays is wanted")
        tree = loads_all(data, resolve=lambda module, name: ARRAY_GLOBALS.get((module, name)))
        if type(tree) is not dict:
            raise CheckpointError("it holds no dictionary of arrays")
        return _unwrap(tree, set(), 0)
    except CheckpointError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from None


def _unwrap(value: Any, seen: set[int], depth: int) -> Any:
    """Replace array stubs; a container held twice could make the tree exponentially large."""
    if isinstance(value, ArrayStub):
        return value.numpy()
    if isinstance(value, Stub | memoryview):
        raise CheckpointError("it holds something other than arrays, numbers and strings")
    if not value or not isinstance(value, dict | list | tuple):
        return value
    if id(value) in seen or depth > 32:
        raise CheckpointError("it is nested too deeply, or holds a container twice")
    seen.add(id(value))
    if isinstance(value, dict):
        return {key: _unwrap(item, seen, depth + 1) for key, item in value.items()}
    return type(value)(_unwrap(item, seen, depth + 1) for item in value)
