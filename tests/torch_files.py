"""Writes PyTorch's files of state dicts, in both formats, without torch."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C


class Named:
    """Pickles as the global torch.NAME or torch._utils.NAME, without torch."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments


class _Identifier(tuple):
    __slots__ = ()


class _Pickler(pickle._Pickler):
    """Python's own pickler, taught to write names of classes that are not installed."""

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Named):
            self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())
        elif isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        elif isinstance(obj, _Identifier):
            self.save(tuple(obj))
            self.write(pickle.BINPERSID)
        else:
            super().save(obj, save_persistent_id)


def saved(value, *, legacy) -> bytes:
    """What `torch.save` writes for containers of arrays; float32 and int64 ones are tensors."""
    storages = {}

    def converted(value):
        match value:
            case np.ndarray():
                key = str(len(storages))
                kind = {"f": "FloatStorage", "i": "LongStorage"}[value.dtype.kind]
                identifier = ("storage", Named("torch", kind), key, "cpu", value.size)
                identifier = _Identifier(identifier + ((None,) if legacy else ()))
                strides = tuple(step // value.itemsize for step in value.strides)
                function = Named("torch._utils", "_rebuild_tensor_v2")
                storages[key] = struct.pack("<q", value.size) * legacy + value.tobytes()
                return Call(function, identifier, 0, value.shape, strides, False, OrderedDict())
            case dict():
                return type(value)((name, converted(item)) for name, item in value.items())
            case list() | tuple():
                return type(value)(map(converted, value))
            case _:
                return value

    tree = pickled(converted(value))
    if legacy:
        system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
        head = pickled(MAGIC) + pickled(1001) + pickled(system)
        return head + tree + pickled(list(storages)) + b"".join(storages.values())
    members = {"data.pkl": tree, "byteorder": b"little", "version": b"3\n"}
    members |= {f"data/{key}": raw for key, raw in storages.items()}
    return archive(members)


def zip_storage(array) -> bytes:
    """One storage in the zip format."""
    identifier = ("storage", Named("torch", "FloatStorage"), "0", "cpu", array.size)
    return archive({"data.pkl": pickled(_Identifier(identifier)), "data/0": array.tobytes()})


def archive(members, compression=zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for name, raw in members.items():
            file.writestr(f"model/{name}", raw)
    return out.getvalue()


def pickled(value) -> bytes:
    out = io.BytesIO()
    _Pickler(out, protocol=2).dump(value)
    return out.getvalue()


def tensors(arrays, *, legacy):
    """The tree that torch pickles for a state dict, and the bytes of its storages."""
    tree, storages = OrderedDict(), {}
    for i, (name, array) in enumerate(arrays.items()):
        array, key = np.asarray(array), str(i)
        kind = {"f": "FloatStorage", "i": "LongStorage"}[array.dtype.kind]
        identifier = ("storage", Named("torch", kind), key, "cpu", array.size)
        identifier = _Identifier(identifier + ((None,) if legacy else ()))
        strides = tuple(step // array.itemsize for step in array.strides)
        function = Named("torch._utils", "_rebuild_tensor_v2")
        tree[name] = Call(function, identifier, 0, array.shape, strides, False, OrderedDict())
        storages[key] = array.tobytes()
    return tree, storages


def legacy_file(arrays) -> bytes:
    tree, storages = tensors(arrays, legacy=True)
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    parts = [pickled(MAGIC), pickled(1001), pickled(system), pickled(tree), pickled(list(storages))]
    for array, raw in zip(arrays.values(), storages.values(), strict=True):
        parts.append(struct.pack("<q", np.asarray(array).size) + raw)
    return b"".join(parts)


def zip_file(arrays, *, compression=zipfile.ZIP_STORED, without=()) -> bytes:
    tree, storages = tensors(arrays, legacy=False)
    members = {"data.pkl": pickled(tree), "byteorder": b"little", "version": b"3\n"}
    members |= {f"data/{key}": raw for key, raw in storages.items()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, raw in members.items():
            if name not in without:
                archive.writestr(f"model/{name}", raw)
    return out.getvalue()
