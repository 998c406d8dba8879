"""Emits pickles operation by operation, in the layout of torch's and EG3D's, without torch."""

import pickle
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Global:
    module: str
    name: str


@dataclass
class Call:
    function: Global
    arguments: tuple


@dataclass
class Instance:
    kind: Global
    state: dict


@dataclass
class Persistent:
    identifier: tuple


def emit(value: Any) -> bytes:
    """A value's operations, to be framed by `dumps`."""
    match value:
        case Global():
            return emit(value.module) + emit(value.name) + b"\x93"
        case Call():
            return emit(value.function) + emit(value.arguments) + b"R"
        case Instance():
            return emit(value.kind) + b")\x81" + emit(value.state) + b"b"
        case Persistent():
            return emit(value.identifier) + b"Q"
        case dict():
            return b"}(" + b"".join(emit(k) + emit(v) for k, v in value.items()) + b"u"
        case list():
            return b"](" + b"".join(map(emit, value)) + b"e"
        case tuple():
            return b"(" + b"".join(map(emit, value)) + b"t"
        case np.ndarray():
            return emit(tensor(value))
        case bytes():
            return b"B" + struct.pack("<I", len(value)) + value
        case _:
            plain = pickle.dumps(value, 3)  # no frames
            return plain[2:-1]


def dumps(value: Any) -> bytes:
    return b"\x80\x04" + emit(value) + b"."


def storage_bytes(
    array: np.ndarray, kind: str | tuple[str, str] = "FloatStorage", **changes: Any
) -> bytes:
    array = np.ascontiguousarray(array)
    named = Global("torch", kind) if isinstance(kind, str) else Global(*kind)
    identifier = ("storage", named, "94", "cpu", array.size, None)
    sizes = {"short": 2, "int": 4, "long": 4}
    parts = {
        "magic": 0x1950A86A20F9469CFC6C,
        "protocol": 1001,
        "system": {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes},
        "header": Persistent(identifier),
        "keys": ["94"],
    } | changes
    return b"".join(map(dumps, parts.values())) + struct.pack("<q", array.size) + array.tobytes()


def tensor(array: np.ndarray) -> Call:
    strides = tuple(stride // array.itemsize for stride in np.ascontiguousarray(array).strides)
    storage = Call(Global("torch.storage", "_load_from_bytes"), (storage_bytes(array),))
    arguments = (storage, 0, array.shape, strides[: array.ndim], False, {})
    return Call(Global("torch._utils", "_rebuild_tensor_v2"), arguments)
