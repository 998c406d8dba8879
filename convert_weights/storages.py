"""Tensors as PyTorch pickles them: a storage, and a strided view of it.

PyTorch 1.7 to 2.x name storages by the type of their elements (`torch.FloatStorage`), and those of
types that came later, or bare ones, as untyped (`torch.storage.UntypedStorage`): bytes, which the
tensor's own type divides into elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from convert_weights.array_pickle import ARRAY_GLOBALS, MAX_BYTES, CheckpointError, Global

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
_UNTYPED = ("UntypedStorage", "_UntypedStorage")  # 1.11 and 1.12 named it with an underscore
_MAX_EMPTY = 1 << 16  # an axis of a tensor that is empty because another axis is
_DTYPES = {
    "float32": "f4",
    "float64": "f8",
    "float16": "f2",
    "bfloat16": "bfloat16",
    "int64": "i8",
    "int32": "i4",
    "int16": "i2",
    "int8": "i1",
    "uint8": "u1",
    "uint16": "u2",
    "uint32": "u4",
    "uint64": "u8",
    "bool": "?",
}


@dataclass(frozen=True)
class ElementType:
    """Type of a storage's elements, as torch or NumPy names it."""

    name: str

    @property
    def dtype(self) -> np.dtype:
        """NumPy's type of the elements as they are stored."""
        return np.dtype("u2" if self.name == "bfloat16" else self.name)

    def __call__(self, *_: object) -> object:
        """Refuse to be called: files name the type, and have no reason to call it."""
        raise CheckpointError("it is malformed: it calls a type of numbers")


@dataclass(frozen=True)
class Storage:
    """Elements of one tensor or of several, still in the bytes of the file."""

    element: ElementType
    raw: memoryview
    views: dict[ElementType, Storage] = field(default_factory=dict, compare=False, repr=False)

    @property
    def num_elements(self) -> int:
        """Number of elements of the storage."""
        return len(self.raw) // self.element.dtype.itemsize

    def seen_as(self, element: ElementType) -> Storage:
        """View the same bytes as elements of another type."""
        if len(self.raw) % element.dtype.itemsize:
            raise CheckpointError("it is damaged: a storage is no whole number of elements")
        if element == self.element:
            return self
        return self.views.setdefault(element, Storage(element, self.raw))

    @cached_property
    def numbers(self) -> np.ndarray:
        """All elements; bfloat16 becomes float32, once, however many tensors view it."""
        flat = np.frombuffer(self.raw, self.element.dtype)
        if self.element.name != "bfloat16":
            return flat
        return np.left_shift(flat, 16, dtype=np.uint32, casting="unsafe").view(np.float32)


@dataclass(frozen=True)
class Tensor:
    """Strided view of a storage, checked to lie inside it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def numpy(self) -> np.ndarray:
        """The values: a read-only view of the file, or float32 if the file holds bfloat16."""
        flat = self.storage.numbers
        steps = tuple(stride * flat.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(
            flat[self.offset :], self.shape, steps, writeable=False
        )


def resolve_element_type(module: str, name: str) -> Callable[..., object] | None:
    """Look up a global of a torch file: types of storages and numbers, and OrderedDict."""
    if module == "torch" and name in _ELEMENT_TYPES:
        return ElementType(_ELEMENT_TYPES[name])
    if module == "torch" and name in _DTYPES:
        return ElementType(_DTYPES[name])
    if module in ("torch", "torch.storage") and name in _UNTYPED:
        return ElementType("u1")
    return ARRAY_GLOBALS[module, name] if (module, name) == ("collections", "OrderedDict") else None


def storage_header(identifier: Any) -> tuple[ElementType, str, int]:
    """Decode a persistent id: type of element, key and number of elements."""
    if type(identifier) is tuple and identifier[:1] == ("module",):
        raise CheckpointError("it holds a module, not tensors alone; save its state_dict()")
    tag, kind, key, _, num_elements, *view = identifier
    if tag != "storage" or not is_element_type(kind):
        raise CheckpointError("it is damaged: a storage without a type")
    if view not in ([], [None]) or type(key) is not str or type(num_elements) is not int:
        raise CheckpointError("it is damaged: a storage's header is not as expected")
    return kind.call, key, num_elements


def rebuild_tensor(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    _requires_grad: object = False,
    _hooks: object = None,
    metadata: object = None,
) -> Tensor:
    """Stand in for torch's `_rebuild_tensor` and `_rebuild_tensor_v2`.

    Args:
      storage: a `Storage`.
      offset: first element.
      shape: tuple of sizes.
      strides: tuple of distances, elements.
      metadata: newer files say here whether the numbers are to be negated or conjugated.

    Raises:
      CheckpointError: if any element would lie outside the storage, or could be used twice.
    """
    if not isinstance(storage, Storage) or type(shape) is not tuple or type(strides) is not tuple:
        raise CheckpointError("it is damaged: a tensor without storage, shape or strides")
    if metadata is not None and (type(metadata) is not dict or any(metadata.values())):
        raise CheckpointError(
            "it has a tensor that is to be negated or conjugated when it is used; save it resolved"
        )
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or len(shape) > 8 or any(type(n) is not int for n in numbers):
        raise CheckpointError("it is damaged: a tensor's shape and strides do not match")
    _check_inside(offset, shape, strides, storage.num_elements)
    _check_disjoint(shape, strides)
    return Tensor(storage, offset, shape, strides)


def _check_inside(offset: int, shape: tuple, strides: tuple, num_elements: int) -> None:
    numbers, count = (offset, *shape, *strides), math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if (
        min(numbers) < 0
        or max(numbers) > MAX_BYTES
        or (count and last >= num_elements)
        or offset > num_elements
    ):
        raise CheckpointError("it is damaged: a tensor reaches beyond its storage")
    if count > num_elements or max(shape, default=0) > max(num_elements, _MAX_EMPTY):
        raise CheckpointError("it is damaged: a tensor has more elements than its storage")


def _check_disjoint(shape: tuple, strides: tuple) -> None:
    reach = 0  # of the axes with smaller steps; the next one has to pass over it
    for step, n in sorted((step, n) for n, step in zip(shape, strides, strict=True) if n > 1):
        if math.prod(shape) and step <= reach:
            raise CheckpointError(
                "it is damaged, or has a tensor that repeats elements of its storage; save a "
                "contiguous copy of that"
            )
        reach += (n - 1) * step


def rebuild_typed_tensor(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    requires_grad: object,
    hooks: object,
    dtype: Any,
    metadata: object = None,
) -> Tensor:
    """Stand in for torch's `_rebuild_tensor_v3`, whose storage is bytes and has a type beside it.

    Raises:
      CheckpointError: as `rebuild_tensor`, and if the bytes are no whole number of elements.
    """
    if not isinstance(storage, Storage) or not is_element_type(dtype):
        raise CheckpointError("it is damaged: a tensor without storage or type")
    typed = storage.seen_as(dtype.call)
    return rebuild_tensor(typed, offset, shape, strides, requires_grad, hooks, metadata)


def is_element_type(value: object) -> bool:
    """Whether a value of the file names a type of numbers."""
    return isinstance(value, Global) and isinstance(value.call, ElementType)


def rebuild_parameter(data: Any, *_: object) -> Tensor:
    """Stand in for torch's `_rebuild_parameter` and `..._with_state`: the tensor itself."""
    if not isinstance(data, Tensor):
        raise CheckpointError("it is damaged: a parameter without a tensor")
    return data


def _rebuild_with_attributes(function: Any, _class: object, arguments: Any, *_: object) -> Any:
    """Stand in for torch's rebuilding of a tensor with attributes, which are left out."""
    known = isinstance(function, Global) and function.call in REBUILD.values()
    if not known or type(arguments) is not tuple:
        raise CheckpointError("it is damaged: a tensor that is rebuilt by something else")
    return function.call(*arguments)


def _tensor_class(*_: object) -> object:
    raise CheckpointError("it is malformed: it calls the class of tensors")


REBUILD: dict[tuple[str, str], Callable[..., object]] = {
    ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): rebuild_typed_tensor,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): rebuild_parameter,
}
TENSOR_GLOBALS: dict[tuple[str, str], Callable[..., object]] = {
    **REBUILD,
    ("torch._tensor", "_rebuild_from_type"): _rebuild_with_attributes,
    ("torch._tensor", "_rebuild_from_type_v2"): _rebuild_with_attributes,
    ("torch.tensor", "_rebuild_from_type"): _rebuild_with_attributes,  # 1.7
    ("torch", "Tensor"): _tensor_class,
    ("torch.nn.parameter", "Parameter"): _tensor_class,
    ("torch.nn.parameter", "Buffer"): _tensor_class,
}
