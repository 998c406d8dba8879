"""Tensors as PyTorch pickles them: a byte string with one storage, and a strided view of it.

The byte string is a legacy torch file of its own (spec eg3d 11.4): five small pickles and the raw
elements. It is decoded by the same machine that reads the outer file, under an even shorter list.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from eg3d_jax.safe_pickle import ARRAY_GLOBALS, MAX_BYTES, CheckpointError, Global, loads

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MAX_STEPS = 500  # a header takes about 70
_ELEMENT_TYPES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


@dataclass(frozen=True)
class _ElementType:
    name: str

    @property
    def dtype(self) -> np.dtype:
        return np.dtype("u2" if self.name == "bfloat16" else self.name)

    def __call__(self, *_: object) -> object:
        raise CheckpointError("it is malformed: it calls a storage class")


@dataclass(frozen=True)
class Storage:
    """The elements of one tensor, still in the bytes of the file."""

    element: _ElementType
    raw: memoryview

    @property
    def num_elements(self) -> int:
        """Length of the storage, elements."""
        return len(self.raw) // self.element.dtype.itemsize

    @cached_property
    def numbers(self) -> np.ndarray:
        """All elements; bfloat16 becomes float32, once, however many tensors view it."""
        flat = np.frombuffer(self.raw, self.element.dtype)
        if self.element.name != "bfloat16":
            return flat
        return np.left_shift(flat, 16, dtype=np.uint32, casting="unsafe").view(np.float32)


@dataclass(frozen=True)
class Tensor:
    """A strided view of a storage; all of it is checked to lie inside."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def numpy(self) -> np.ndarray:
        """The values: a read-only view of the file, or float32 if the file holds bfloat16."""
        flat = self.storage.numbers
        steps = tuple(stride * flat.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(
            flat[self.offset :], self.shape, steps, writeable=False
        )


def storage_from_bytes(data: memoryview) -> Storage:
    """Decode the argument of `torch.storage._load_from_bytes`.

    Raises:
      CheckpointError: if the bytes are not one complete legacy file of one storage.
    """
    if not isinstance(data, memoryview):
        raise CheckpointError("it is damaged: a storage is no byte string")
    if bytes(data[:2]) == b"PK":
        raise CheckpointError("its tensors are stored as zip archives, not in the legacy format")
    (element, key, num_elements), position = loads(
        data,
        check_legacy_header(data),
        resolve=resolve_element_type,
        persistent=storage_header,
        max_steps=_MAX_STEPS,
    )
    keys, position = loads(data, position, resolve=resolve_element_type, max_steps=_MAX_STEPS)
    if keys != [key]:
        raise CheckpointError("it is damaged: a storage's list of keys is not its own")
    count = int.from_bytes(data[position : position + 8], "little", signed=True)
    raw = data[position + 8 :]
    if count != num_elements or count < 0 or len(raw) != count * element.dtype.itemsize:
        raise CheckpointError("it is damaged: a storage is not as long as its header says")
    return Storage(element, raw)


def check_legacy_header(data: memoryview) -> int:
    """Read the three pickles that open a legacy torch file -> the position behind them.

    Raises:
      CheckpointError: if the file is none, or not little-endian.
    """
    position, values = 0, []
    for _ in range(3):
        value, position = loads(data, position, resolve=resolve_element_type, max_steps=_MAX_STEPS)
        values.append(value)
    magic, protocol, system = values
    little_endian = type(system) is dict and system.get("little_endian") is True
    if magic != _MAGIC or protocol != _PROTOCOL or not little_endian:
        raise CheckpointError("it is, or holds, no little-endian legacy torch file")
    return position


def resolve_element_type(module: str, name: str) -> Callable[..., object] | None:
    """What the pickles of a legacy torch file may name: storage classes and OrderedDict."""
    if module == "torch" and name in _ELEMENT_TYPES:
        return _ElementType(_ELEMENT_TYPES[name])
    return ARRAY_GLOBALS[module, name] if (module, name) == ("collections", "OrderedDict") else None


def storage_header(identifier: Any) -> tuple[_ElementType, str, int]:
    """A persistent id's type of element, key and number of elements."""
    tag, kind, key, _, num_elements, *view = identifier
    if tag != "storage" or not isinstance(kind, Global) or not isinstance(kind.call, _ElementType):
        raise CheckpointError("it is damaged: a storage without a type")
    if view not in ([], [None]) or type(key) is not str or type(num_elements) is not int:
        raise CheckpointError("it is damaged: a storage's header is not as expected")
    return kind.call, key, num_elements


def rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: object) -> Tensor:
    """Stand in for torch's `_rebuild_tensor` and `_rebuild_tensor_v2`.

    Args:
      storage: from `storage_from_bytes`.
      offset: first element.
      shape: tuple of sizes.
      strides: tuple of distances, elements.

    Raises:
      CheckpointError: if any element would lie outside the storage, or could be used twice.
    """
    if not isinstance(storage, Storage) or type(shape) is not tuple or type(strides) is not tuple:
        raise CheckpointError("it is damaged: a tensor without storage, shape or strides")
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > 8 or any(type(n) is not int for n in numbers):
        raise CheckpointError("it is damaged: a tensor's shape and strides do not match")
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if (
        min(numbers) < 0
        or max(numbers) > MAX_BYTES
        or (count and last >= storage.num_elements)
        or offset > (storage.num_elements)
    ):
        raise CheckpointError("it is damaged: a tensor reaches beyond its storage")
    if count > storage.num_elements or max(shape, default=0) > storage.num_elements + 1:
        raise CheckpointError("it is damaged: a tensor has more elements than its storage")
    reach = 0  # of the axes with smaller steps; the next one has to pass over it
    for step, n in sorted((step, n) for n, step in zip(shape, strides, strict=True) if n > 1):
        if count and step <= reach:
            raise CheckpointError(
                "it is damaged, or has a tensor that repeats elements of its storage; save a "
                "contiguous copy of that"
            )
        reach += (n - 1) * step
    return Tensor(storage, offset, shape, strides)


def rebuild_parameter(data: Any, *_: object) -> Tensor:
    """Stand in for torch's `_rebuild_parameter`: the tensor itself."""
    if not isinstance(data, Tensor):
        raise CheckpointError("it is damaged: a parameter without a tensor")
    return data
