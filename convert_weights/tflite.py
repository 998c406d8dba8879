"""Read networks from TensorFlow Lite's files (.tflite), which are flatbuffers.

A flatbuffer is a tree of tables. A table begins with the distance back to a list of where each of
its fields lies, in the order of the schema; a field that is not there has its default value. Only
what the networks of faces and people need is known here. Nothing in the file is executed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convert_weights.array_pickle import CheckpointError

IDENTIFIER = b"TFL3"

_TYPES = {0: np.dtype("<f4"), 1: np.dtype("<f2"), 2: np.dtype("<i4")}
_PADDINGS = {0: "SAME", 1: "VALID"}
_ACTIVATIONS = {0: "", 1: "RELU"}
# Operators by their number in the schema. Of their options: the number of the field in the schema,
# how its number is stored, its default.
_STRIDES = {"padding": (0, "b", 0), "stride_x": (1, "i", 0), "stride_y": (2, "i", 0)}
_POOL = {**_STRIDES, "width": (3, "i", 0), "height": (4, "i", 0), "activation": (5, "b", 0)}
_OPERATORS: dict[int, tuple[str, dict[str, tuple[int, str, int]]]] = {
    0: ("ADD", {"activation": (0, "b", 0)}),
    1: ("AVERAGE_POOL_2D", _POOL),
    2: ("CONCATENATION", {"axis": (0, "i", 0), "activation": (1, "b", 0)}),
    3: (
        "CONV_2D",
        {
            **_STRIDES,
            "activation": (3, "b", 0),
            "dilation_x": (4, "i", 1),
            "dilation_y": (5, "i", 1),
        },
    ),
    4: (
        "DEPTHWISE_CONV_2D",
        {
            **_STRIDES,
            "multiplier": (3, "i", 0),
            "activation": (4, "b", 0),
            "dilation_x": (5, "i", 1),
            "dilation_y": (6, "i", 1),
        },
    ),
    6: ("DEQUANTIZE", {}),
    14: ("LOGISTIC", {}),
    17: ("MAX_POOL_2D", _POOL),
    18: ("MUL", {"activation": (0, "b", 0)}),
    19: ("RELU", {}),
    22: ("RESHAPE", {}),
    23: ("RESIZE_BILINEAR", {"align_corners": (2, "b", 0), "half_pixel_centers": (3, "b", 0)}),
    34: ("PAD", {}),
    54: ("PRELU", {}),
    117: ("HARD_SWISH", {}),
}
# Operators outside of the schema, which go by their names, have this number. MediaPipe's only one
# here stores its options as the runtime's own structure: padding and both strides.
_CUSTOM, _TRANSPOSED = 32, "Convolution2DTransposeBias"
_CUSTOM_PADDINGS = {1: "SAME", 2: "VALID"}


@dataclass(frozen=True)
class Operator:
    """One step of a network.

    Attributes:
      kind: name in TensorFlow Lite, such as CONV_2D.
      inputs: numbers of its input tensors; -1 for one that is left out.
      outputs: numbers of its output tensors.
      options: as the schema names them, shortened; padding and activation by their names.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Network:
    """A network as its file holds it: tensors are numbered, operators are in order.

    Attributes:
      operators: in the order to run them.
      constants: arrays by number of tensor, in the type and layout of the file.
      shapes: of every tensor, for a batch of one.
      inputs: numbers of the tensors to give.
      outputs: numbers of the tensors to return.
    """

    operators: tuple[Operator, ...]
    constants: Mapping[int, np.ndarray]
    shapes: tuple[tuple[int, ...], ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(data: bytes, name: str = "the file") -> Network:
    """Read the only graph of a .tflite file.

    Args:
      data: bytes of the file.
      name: what to call it in an error.

    Raises:
      CheckpointError: if it is no such file, damaged, or holds what is not known here: more than
        one graph, another operator, type of numbers or activation.
    """
    if data[4:8] != IDENTIFIER:
        raise CheckpointError(f"{name} is no .tflite file: it lacks the mark {IDENTIFIER.decode()}")
    try:
        return _network(_Table(data, _unpack("I", data, 0)))
    except _UnknownError as error:
        raise CheckpointError(
            f"{name} holds {error}, which is not known here; take the release that the NOTICE names"
        ) from None
    except (struct.error, ValueError, IndexError) as error:
        raise CheckpointError(f"{name} is damaged ({error}); fetch it again") from None


class _UnknownError(Exception):
    """What the file holds beyond what is known here."""


def _network(model: _Table) -> Network:
    graphs = model.tables(2)
    if len(graphs) != 1:
        raise _UnknownError(f"{len(graphs)} graphs")
    graph, buffers = graphs[0], model.tables(4)
    codes = [_code(table) for table in model.tables(1)]
    tensors = graph.tables(0)
    shapes = tuple(tuple(int(n) for n in tensor.numbers(0, "<i4")) for tensor in tensors)
    constants = {}
    for index, (tensor, shape) in enumerate(zip(tensors, shapes, strict=True)):
        content = buffers[tensor.number(2, "I")].numbers(0, "u1")
        if content.size:
            constants[index] = content.view(_known(_TYPES, tensor.number(1, "b"), "type"))
            constants[index] = constants[index].reshape(shape)
    return Network(
        tuple(_operator(table, codes) for table in graph.tables(3)),
        constants,
        shapes,
        _indices(graph, 1),
        _indices(graph, 2),
    )


def _code(table: _Table) -> int | str:
    """Number of an operator, or the name of one that is not in the schema."""
    # Numbers below 127 are in the first field, where older readers look.
    number = max(table.number(0, "b"), table.number(3, "i"))
    return number if number != _CUSTOM else table.numbers(1, "u1").tobytes().decode("latin-1")


def _operator(table: _Table, codes: list[int | str]) -> Operator:
    code = codes[table.number(0, "I")]
    if isinstance(code, str):
        return _custom(table, code)
    kind, fields = _known(_OPERATORS, code, "operator")
    options = {}
    stored = table.table(4)
    for name, (number, form, default) in fields.items():
        value = stored.number(number, form, default) if stored else default
        named = {"padding": _PADDINGS, "activation": _ACTIVATIONS}.get(name)
        options[name] = value if named is None else _known(named, value, name)
    return Operator(kind, _indices(table, 1), _indices(table, 2), options)


def _custom(table: _Table, kind: str) -> Operator:
    if kind != _TRANSPOSED:
        raise _UnknownError(f"operator {kind}")
    padding, stride_x, stride_y = struct.unpack("<iii", table.numbers(5, "u1").tobytes())
    options = {
        "padding": _known(_CUSTOM_PADDINGS, padding, "padding"),
        "stride_x": stride_x,
        "stride_y": stride_y,
    }
    return Operator(kind, _indices(table, 1), _indices(table, 2), options)


def _indices(table: _Table, number: int) -> tuple[int, ...]:
    return tuple(int(n) for n in table.numbers(number, "<i4"))


def _known(known: Mapping[int, Any], value: int, what: str) -> Any:
    if value not in known:
        raise _UnknownError(f"{what} {value}")
    return known[value]


def _unpack(form: str, data: bytes, at: int) -> int:
    if at < 0:  # else counted from the end
        raise ValueError("it points before its beginning")
    return struct.unpack_from(f"<{form}", data, at)[0]


@dataclass(frozen=True)
class _Table:
    data: bytes
    at: int

    def _field(self, number: int) -> int:
        """Where a field lies in the file; 0 if the table lacks it."""
        fields = self.at - _unpack("i", self.data, self.at)
        if 4 + 2 * number >= _unpack("H", self.data, fields):
            return 0
        offset = _unpack("H", self.data, fields + 4 + 2 * number)
        return self.at + offset if offset else 0

    def _target(self, number: int) -> int:
        at = self._field(number)
        return at + _unpack("I", self.data, at) if at else 0

    def number(self, number: int, form: str, default: int = 0) -> int:
        at = self._field(number)
        return _unpack(form, self.data, at) if at else default

    def numbers(self, number: int, dtype: str) -> np.ndarray:
        at = self._target(number)
        count = _unpack("I", self.data, at) if at else 0
        return np.frombuffer(self.data, dtype, count, at + 4) if count else np.empty(0, dtype)

    def table(self, number: int) -> _Table | None:
        at = self._target(number)
        return _Table(self.data, at) if at else None

    def tables(self, number: int) -> list[_Table]:
        at = self._target(number)
        starts = range(at + 4, at + 4 + 4 * _unpack("I", self.data, at), 4) if at else ()
        return [_Table(self.data, start + _unpack("I", self.data, start)) for start in starts]
