"""Read an EG3D checkpoint pickle as inert records; no torch, nothing in the file is executed.

The pickles carry the source text of their classes, meant to be executed on loading. Here a class
becomes a `Record` of its name and attributes, and every global is looked up in a fixed list
(spec eg3d 11.3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from convert_weights.storages import (
    Tensor,
    rebuild_parameter,
    rebuild_tensor,
    storage_from_bytes,
)
from eg3d_jax.safe_pickle import (
    ARRAY_GLOBALS,
    MAX_BYTES,
    CheckpointError,
    Stub,
    loads,
    printable,
    read_bytes,
    update,
)

_MAX_DEPTH, _MAX_NAME = 16, 256
_GROUPS = ("_parameters", "_buffers", "_modules")


class Record(Stub):
    """An object of the file: its class's name and its attributes."""

    def __init__(self, class_name: str, state: dict[str, Any] | None = None):
        self.class_name = class_name
        self.state = {} if state is None else state

    def build(self, state: object) -> None:
        """Receive the attributes."""
        if type(state) is not dict:
            raise CheckpointError(f"it is malformed: a {self.class_name} without attributes")
        self.state = state

    def get(self, name: str, default: Any = None) -> Any:
        """An ordinary attribute, or the default."""
        return self.state.get(name, default)

    @property
    def modules(self) -> dict[str, Record]:
        """The sub-modules that are there."""
        found = {str(k): v for k, v in self._entries("_modules") if v is not None}
        if not all(isinstance(module, Record) for module in found.values()):
            raise CheckpointError(f"it is malformed: a {self.class_name} holds a strange module")
        return found

    def module(self, path: str) -> Record:
        """The sub-module at a dotted path.

        Raises:
          CheckpointError: if there is none.
        """
        record = self
        for part in path.split("."):
            record = record.modules.get(part)
            if record is None:
                raise CheckpointError(f"its generator has no part {path}, so it is not EG3D's")
        return record

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Own parameters, then own buffers that are kept."""
        dropped = self.state.get("_non_persistent_buffers_set", set())
        if type(dropped) is not set:
            raise CheckpointError(f"it is malformed: the dropped buffers of a {self.class_name}")
        for group in ("_parameters", "_buffers"):
            for name, value in self._entries(group):
                if value is None or (group == "_buffers" and name in dropped):
                    continue
                if not isinstance(value, Tensor):
                    raise CheckpointError(f"it is malformed: {printable(str(name))} is no tensor")
                yield str(name), value

    def _entries(self, group: str) -> Any:
        entries = self.state.get(group, {})
        if type(entries) is not dict:
            raise CheckpointError(f"it is malformed: the {group} of a {self.class_name}")
        return entries.items()


def state_tensors(record: Record) -> dict[str, Tensor]:
    """All tensors by their dotted names, in the order of PyTorch's state dict.

    Raises:
      CheckpointError: if modules contain each other or share what they hold, or two tensors have
        one name.
    """
    found: dict[str, Tensor] = {}
    seen: set[int] = set()

    def visit(module: Record, prefix: str, depth: int) -> None:
        # Each group once, whoever holds it: shared ones, under ever new names, have no end.
        groups = {id(module.state[group]) for group in _GROUPS if group in module.state}
        if groups & seen or depth > _MAX_DEPTH:
            raise CheckpointError("it is malformed: its modules contain each other or share parts")
        seen.update(groups)
        for name, tensor in module.tensors():
            if (full := _joined(prefix, name)) in found:
                raise CheckpointError(f"it holds {printable(full)} twice")
            found[full] = tensor
        for name, child in module.modules.items():
            visit(child, _joined(prefix, name) + ".", depth + 1)

    visit(record, "", 0)
    return found


def _joined(prefix: str, name: str) -> str:
    if len(prefix) + len(name) > _MAX_NAME:
        raise CheckpointError(f"it is malformed: a name like {printable(prefix + name[:80])}")
    return prefix + name


def _persistent(meta: Any) -> Record:
    """Class name and attributes; the class's source text, which is here too, is left alone."""
    if meta["type"] != "class" or type(meta["class_name"]) is not str:
        raise CheckpointError("it is malformed: a persistent object that is no class")
    record = Record(printable(meta["class_name"]))
    record.build(meta["state"])
    return record


def _empty_record(class_name: str) -> Record:
    return Record(class_name)


def _easy_dict(*pairs: Any) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for more in pairs:
        update(result, more.items() if type(more) is dict else more)
    return result


def _size(items: Any) -> tuple[Any, ...]:
    if type(items) is not tuple:
        raise CheckpointError("it is malformed: a size that is no tuple")
    return items


_GLOBALS: dict[tuple[str, str], Callable[..., object]] = {
    **ARRAY_GLOBALS,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
    ("dnnlib.util", "EasyDict"): _easy_dict,
    ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    ("torch.storage", "_load_from_bytes"): storage_from_bytes,
    ("torch", "Size"): _size,
    ("torch", "device"): lambda *_: None,
}
_RECORD_MODULES = ("training.", "torch.nn.")  # their classes become records of the same name


def _resolve(module: str, name: str) -> Callable[..., object] | None:
    if module.startswith("dnnlib.tflib"):
        raise CheckpointError(
            f"it is a TensorFlow-era pickle (it names {printable(f'{module}.{name}')}), and only "
            "those of PyTorch's EG3D can be read"
        )
    if module.startswith(_RECORD_MODULES):
        return partial(_empty_record, printable(f"{module}.{name}"))
    return _GLOBALS.get((module, name))


def read_pickle(path: str | Path, *, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read a checkpoint pickle, gzip-compressed or not.

    Args:
      path: the file.
      max_bytes: largest size accepted, after decompression.

    Returns:
      The top-level dictionary ('G_ema' and others): dictionaries, lists, numbers, strings, and for
      objects `Record`s that hold `Tensor`s.

    Raises:
      CheckpointError: one sentence naming the file and what is wrong with it.
    """
    try:
        tree, _ = loads(read_bytes(path, max_bytes=max_bytes), resolve=_resolve)
        if type(tree) is tuple and len(tree) == 3:
            raise CheckpointError("it is a TensorFlow-era pickle of three networks")
        if type(tree) is not dict or not isinstance(tree.get("G_ema"), Record):
            raise CheckpointError("it holds no generator under the name G_ema")
        return tree
    except CheckpointError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from None


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file as it lies on disk."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
