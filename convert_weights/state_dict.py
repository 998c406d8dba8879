"""Read a PyTorch state dict (.pth, .pt) as NumPy arrays; no torch, nothing in it is executed.

`torch.save` has two formats. Since 1.6 a file is a zip archive: a pickle, and one uncompressed
member a storage. Before, it was five pickles and then all storages, one after another (the layout
of spec eg3d 11.4 with many keys).
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from convert_weights.storages import (
    Storage,
    Tensor,
    check_legacy_header,
    rebuild_parameter,
    rebuild_tensor,
    resolve_element_type,
    storage_header,
)
from eg3d_jax.safe_pickle import (
    ARRAY_GLOBALS,
    MAX_BYTES,
    ArrayStub,
    CheckpointError,
    loads,
    printable,
    read_bytes,
)

_MAX_INTEGER = (1 << 63) - 1
_REBUILD: dict[str, Callable[..., object]] = {
    "_rebuild_tensor": rebuild_tensor,
    "_rebuild_tensor_v2": rebuild_tensor,
    "_rebuild_parameter": rebuild_parameter,
}


def read_state_dict(path: str | Path, *, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """The arrays of a state dict by name, in PyTorch's layouts.

    Args:
      path: a file that `torch.save(module.state_dict(), path)` wrote, in either format.
      max_bytes: largest size accepted.

    Returns:
      Read-only views of the file's bytes; bfloat16 becomes float32.

    Raises:
      CheckpointError: one sentence naming the file and what is wrong with it.
    """
    try:
        tree = _read_tree(path, max_bytes)
        if type(tree) is not dict or not tree:
            raise CheckpointError("it holds no state dict")
        strange = [name for name, value in tree.items() if not isinstance(value, Tensor)]
        if strange:
            raise CheckpointError(
                f"it holds {printable(str(strange[0]))}, which is no tensor, so it is no plain "
                "state dict; save module.state_dict() alone"
            )
        return {str(name): tensor.numpy() for name, tensor in tree.items()}
    except CheckpointError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from None


def read_tensors(path: str | Path, *, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """The arrays of any file of `torch.save` by name: a tensor, or tensors in lists and dicts.

    Args:
      path: the file, in either format.
      max_bytes: largest size accepted.

    Returns:
      Read-only arrays. A tensor alone has the name "", those of a list or tuple are named "0", "1",
      and so on, and those of a container in another OUTER.INNER, one level deep. Numbers become
      arrays without axes, bfloat16 becomes float32; text and None beside them are left out.

    Raises:
      CheckpointError: one sentence naming the file and what is wrong with it.
    """
    try:
        found: dict[str, np.ndarray] = {}
        _collect(_read_tree(path, max_bytes), "", found, set())
        if not found:
            raise CheckpointError("it holds no tensor")
        return found
    except CheckpointError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from None


def _collect(
    value: Any, name: str, found: dict[str, np.ndarray], holders: set[int], depth: int = 0
) -> None:
    """Add the arrays below a value to `found`; `holders` are the containers met so far."""
    if type(value) in (dict, list, tuple):
        # Each container once: under ever new names, shared ones have no end.
        if depth > 1 or (value and id(value) in holders):
            raise CheckpointError("its tensors are nested too deeply, or in a container held twice")
        holders.add(id(value))
        for key, item in value.items() if type(value) is dict else enumerate(value):
            _collect(item, f"{name}.{key}" if depth else str(key), found, holders, depth + 1)
    elif isinstance(value, Tensor | ArrayStub) or type(value) in (bool, int, float):
        if name in found:
            raise CheckpointError(f"it holds {printable(name)} twice")
        found[name] = value.numpy() if isinstance(value, Tensor | ArrayStub) else _number(value)
    elif value is not None and type(value) is not str:
        raise CheckpointError(f"its {printable(name) or 'content'} is no tensor and no number")


def _number(value: float) -> np.ndarray:
    return np.asarray(value, np.float64 if abs(value) > _MAX_INTEGER else None)


def _read_tree(path: str | Path, max_bytes: int) -> Any:
    data = read_bytes(path, max_bytes=max_bytes)
    return _read_zip(data) if bytes(data[:2]) == b"PK" else _read_legacy(data)


def _read_legacy(data: memoryview) -> Any:
    """Five pickles, then for each key a count of elements and the elements."""
    position = check_legacy_header(data)
    # The storages come last, so a first reading finds their types, and a second one the tensors.
    headers: dict[str, tuple[Any, int]] = {}

    def note(identifier: Any) -> None:
        element, key, count = storage_header(identifier)
        headers[key] = element, count

    _, after = loads(data, position, resolve=_skip_tensors, persistent=note)
    keys, place = loads(data, after, resolve=lambda *_: None)
    # Not `str` of them, which for lists that share parts could be exponentially long.
    if type(keys) is not list or any(type(key) is not str for key in keys):
        raise CheckpointError("it is damaged: its list of storages is no list of names")
    if len(keys) != len(headers) or set(keys) != headers.keys():
        raise CheckpointError("it is damaged: its list of storages is not that of its tensors")
    storages: dict[str, Storage] = {}
    for key in keys:
        element, count = headers[key]
        size = count * element.dtype.itemsize
        if count < 0 or int.from_bytes(data[place : place + 8], "little", signed=True) != count:
            raise CheckpointError("it is damaged: a storage is not as long as its header says")
        raw = data[place + 8 : place + 8 + size]
        if len(raw) != size:
            raise CheckpointError(f"it is truncated: it ends at byte {len(data)} in a storage")
        storages[key], place = Storage(element, raw), place + 8 + size
    tree, _ = loads(data, position, resolve=_resolve, persistent=_look_up(storages.__getitem__))
    return tree


def _read_zip(data: memoryview) -> Any:
    """A zip archive with members NAME/data.pkl and NAME/data/KEY."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name.partition("/")[2]: name for name in archive.namelist()}
            if sum(info.compress_size for info in archive.infolist()) > len(data):
                raise CheckpointError("it is damaged: its parts overlap")

            def member(name: str) -> memoryview:
                if name not in members:
                    raise CheckpointError(f"it is damaged: its part {printable(name)} is missing")
                info = archive.getinfo(members[name])
                # Uncompressed, as torch writes them, no member can be larger than the file.
                if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(data):
                    raise CheckpointError(f"its part {printable(name)} is compressed")
                return memoryview(archive.read(info))

            if "byteorder" in members and bytes(member("byteorder")) != b"little":
                raise CheckpointError("its numbers are not little-endian")

            def storage(element: Any, key: str) -> Storage:
                return Storage(element, member(f"data/{key}"))

            tree, _ = loads(
                member("data.pkl"), resolve=_resolve, persistent=_look_up_sized(storage)
            )
            return tree
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError, EOFError):
        raise CheckpointError("it is a damaged or truncated zip archive") from None


def _look_up(find: Callable[[str], Storage]) -> Callable[[object], Storage]:
    return lambda identifier: find(storage_header(identifier)[1])


def _look_up_sized(find: Callable[[Any, str], Storage]) -> Callable[[object], Storage]:
    """As `_look_up`, where the archive, not the header, says how long a storage is."""
    found: dict[str, Storage] = {}

    def look_up(identifier: object) -> Storage:
        element, key, count = storage_header(identifier)
        if key not in found:
            found[key] = find(element, key)
        if len(found[key].raw) != count * element.dtype.itemsize:
            raise CheckpointError("it is damaged: a storage is not as long as its header says")
        return found[key]

    return look_up


def _resolve(module: str, name: str) -> Callable[..., object] | None:
    if module == "torch._utils":
        return _REBUILD.get(name)
    return resolve_element_type(module, name) or ARRAY_GLOBALS.get((module, name))


def _skip_tensors(module: str, name: str) -> Callable[..., object] | None:
    function = _resolve(module, name)
    return (lambda *_: None) if function in _REBUILD.values() else function
