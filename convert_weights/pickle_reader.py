"""Read an EG3D checkpoint pickle as inert records; no torch, nothing in the file is executed.

The pickles carry the source text of their classes, meant to be executed on loading. Here a class
becomes a `Record` of its name and attributes, and every global is looked up in a fixed list
(spec eg3d 11.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from convert_weights.array_pickle import (
    ARRAY_GLOBALS,
    MAX_BYTES,
    CheckpointError,
    Stub,
    loads_all,
    printable,
    read_bytes,
    refused_global,
    update,
)
from convert_weights.file_kinds import SAFETENSORS, TORCH_ARCHIVE, recognize
from convert_weights.storages import TENSOR_GLOBALS, Tensor, resolve_element_type
from convert_weights.torch_archives import read_archive, storage_from_bytes

_MAX_DEPTH, _MAX_NAME = 16, 256
_GROUPS = ("_parameters", "_buffers", "_modules")
# Wrappers, which pass everything on to the module that they hold, and its name there.
_WRAPPERS = {
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "apex.parallel.distributed.DistributedDataParallel": "module",
    "torch.optim.swa_utils.AveragedModel": "module",
    "timm.utils.model_ema.ModelEma": "ema",
    "timm.utils.model_ema.ModelEmaV2": "module",
    "timm.utils.model_ema.ModelEmaV3": "module",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
}
_WANTED = 'a pickle of {"G_ema": generator} is wanted, as EG3D writes it'
_WRITE = 'write pickle.dump({"G_ema": generator}, file) as EG3D does'
_LOAD_AND_WRITE = f"in PyTorch, load it into EG3D's generator and {_WRITE}"


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
    def wrapped(self) -> Record | None:
        """The module that a wrapper (data-parallel, compiled, averaged) holds; None for others."""
        name = _WRAPPERS.get(self.class_name)
        child = self.children.get(name) if name else None
        if name and child is None:
            raise CheckpointError(f"it is malformed: a {self.class_name} without its {name}")
        return child

    def unwrapped(self) -> Record:
        """The module itself, without wrappers around it."""
        record = self
        for _ in range(_MAX_DEPTH):
            inner = record.wrapped
            if inner is None:
                return record
            record = inner
        raise CheckpointError("it is malformed: its wrappers have no end")

    @property
    def modules(self) -> dict[str, Record]:
        """Sub-modules by name, except those that are None, without wrappers around them."""
        return {name: child.unwrapped() for name, child in self.children.items()}

    @property
    def children(self) -> dict[str, Record]:
        """Sub-modules by name, except those that are None, wrappers included."""
        found = {str(k): v for k, v in self._entries("_modules") if v is not None}
        if not all(isinstance(module, Record) for module in found.values()):
            raise CheckpointError(f"it is malformed: a {self.class_name} holds a strange module")
        return found

    def module(self, path: str) -> Record:
        """The sub-module at a dotted path, without wrappers.

        Raises:
          CheckpointError: if there is none.
        """
        record = self.unwrapped()
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

    The names are those without wrappers, which add `module` or `_orig_mod` to each in PyTorch.

    Raises:
      CheckpointError: if modules contain each other or share what they hold, or two tensors have
        one name.
    """
    found: dict[str, Tensor] = {}
    seen: set[int] = set()

    def visit(module: Record, prefix: str, depth: int) -> None:
        # Each group once: a group shared under ever new names would never end.
        groups = {id(module.state[group]) for group in _GROUPS if group in module.state}
        if groups & seen or depth > _MAX_DEPTH:
            raise CheckpointError("it is malformed: its modules contain each other or share parts")
        seen.update(groups)
        for name, tensor in module.tensors():
            if (full := _joined(prefix, name)) in found:
                raise CheckpointError(f"it holds {printable(full)} twice")
            found[full] = tensor
        wrapped = module.wrapped
        if wrapped is not None and len(module.children) > 1:
            raise CheckpointError(f"it is malformed: a {module.class_name} of several modules")
        for name, child in module.children.items():
            inner = prefix if wrapped is not None else _joined(prefix, name) + "."
            visit(child, inner, depth + 1)

    visit(record, "", 0)
    return found


def _joined(prefix: str, name: str) -> str:
    if len(prefix) + len(name) > _MAX_NAME:
        raise CheckpointError(f"it is malformed: a name like {printable(prefix + name[:80])}")
    return prefix + name


def _persistent(meta: Any) -> Record:
    """Make the record of a persistent class; its source text, also in the file, is left alone."""
    if meta["type"] != "class" or type(meta["class_name"]) is not str:
        raise CheckpointError("it is malformed: a persistent object that is no class")
    record = Record(printable(meta["class_name"]))
    record.build(meta["state"])
    return record


def _empty_record(class_name: str, *_: object) -> Record:
    return Record(class_name)


def _compiled(module: Any, *_: object) -> Record:
    """Make the record of a module compiled by `torch.compile`; how it compiles is left out."""
    if not isinstance(module, Record):
        raise CheckpointError("it is malformed: a compiled module without the module")
    return Record("torch._dynamo.eval_frame.OptimizedModule", {"_modules": {"_orig_mod": module}})


def _compiler_setting(owner: Any, name: Any) -> Record:
    """Stand in for the one bound method in a compiled module's pickle, looking nothing up."""
    if not isinstance(owner, Record) or owner.class_name != _COMPILER:
        raise refused_global("builtins.getattr")
    return Record(printable(str(name)) if type(name) is str else "method")


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
    **TENSOR_GLOBALS,
    ("torch.storage", "_load_from_bytes"): storage_from_bytes,
    ("torch", "Size"): _size,
    ("torch", "device"): lambda *_: None,
    ("torch.serialization", "_get_layout"): lambda *_: None,
    ("torch._dynamo.eval_frame", "OptimizedModule"): _compiled,
    ("builtins", "getattr"): _compiler_setting,
}
_COMPILER = "torch._TorchCompileInductorWrapper"
# Classes that become records of the same name: all of some modules, and single ones.
_RECORD_PACKAGES = ("training.", "torch.nn.")
_RECORD_MODULES = (
    "torch._dynamo.convert_frame",
    "torch._dynamo.eval_frame",
    "torch._dynamo.hooks",
    "torch._dynamo.repro.after_dynamo",
)
_RECORDS = {
    *_WRAPPERS,
    _COMPILER,
    "contextlib.nullcontext",
    "torch.distributed.algorithms.join._JoinConfig",
}


def _resolve(module: str, name: str) -> Callable[..., object] | None:
    if module.startswith("dnnlib.tflib"):
        raise CheckpointError(
            f"it is a TensorFlow-era pickle (it names {printable(f'{module}.{name}')}), and only "
            "those of PyTorch's EG3D can be read"
        )
    if (module, name) in _GLOBALS:
        return _GLOBALS[module, name]
    dotted = f"{module}.{name}"
    inert = module.startswith(_RECORD_PACKAGES) or module in _RECORD_MODULES or dotted in _RECORDS
    if inert and name.isidentifier():  # a dotted name would lead out of its module
        return partial(_empty_record, printable(dotted))
    if module.startswith("torch._dynamo"):
        raise CheckpointError(
            f"it names the global {printable(dotted)}; if its generator went through "
            "torch.compile, pickle generator._orig_mod in its place"
        )
    return resolve_element_type(module, name)


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
        data = read_bytes(path, max_bytes=max_bytes)
        if kind := recognize(data):
            held = _held(data) if kind.name.startswith(TORCH_ARCHIVE) else ""
            weights = kind.name.startswith((TORCH_ARCHIVE, SAFETENSORS))
            way_on = kind.way_on or (_LOAD_AND_WRITE if weights else _WANTED)
            raise CheckpointError(f"it is {kind.name}{held}; {way_on}")
        tree = loads_all(data, resolve=_resolve)
        if type(tree) is tuple and len(tree) == 3:
            raise CheckpointError(
                "it is a TensorFlow-era pickle of three networks, and only those of PyTorch's EG3D "
                "can be read"
            )
        if type(tree) is not dict or not isinstance(tree.get("G_ema"), Record):
            raise CheckpointError(f"it holds {_content(tree)}; in PyTorch, {_WRITE}")
        return tree
    except CheckpointError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from None


def _held(data: memoryview) -> str:
    """Phrase about the tensors in a file of `torch.save`; empty if it cannot be read."""
    try:
        return f", holding {_content(read_archive(data, others=_resolve))}"
    except CheckpointError:
        return ""


def _content(tree: Any) -> str:
    """Describe in a few words a file that holds no generator under the name G_ema."""
    if isinstance(tree, Record):
        return f"a {tree.class_name} alone, no generator under the name G_ema"
    if isinstance(tree, Tensor):
        return f"one tensor {list(tree.shape)}, no generator under the name G_ema"
    if type(tree) is not dict:
        return f"a {printable(type(tree).__name__)}, no generator under the name G_ema"
    generator = tree.get("G_ema", tree.get("g_ema"))
    if isinstance(generator, Record):
        return f"a {generator.class_name} under the name G_ema"
    if type(generator) is dict:
        return "a state dict under the name G_ema, tensors without the generator that uses them"
    if tree and all(isinstance(value, Tensor) for value in tree.values()):
        return f"a state dict of {len(tree)} tensors without the generator that uses them"
    names = printable(", ".join(str(name) for name in list(tree)[:6]))
    return f"no generator under the name G_ema, but {names or 'nothing'}"
