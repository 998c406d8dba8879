"""Read the files that `torch.save` writes (.pt, .pth) as NumPy arrays; nothing is executed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from convert_weights.array_pickle import (
    MAX_BYTES,
    ArrayStub,
    CheckpointError,
    printable,
    read_bytes,
)
from convert_weights.file_kinds import TORCH_ARCHIVE, recognize
from convert_weights.storages import Tensor
from convert_weights.torch_archives import read_archive

# Prefixes of wrappers (data-parallel, averaging, compiled), and a counter of theirs.
_PREFIXES = ("module.", "_orig_mod.")
_COUNTER = "n_averaged"
_MAX_INTEGER = (1 << 63) - 1


def read_state_dict(path: str | Path, *, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """Read the arrays of a state dict by name, in PyTorch's layouts.

    Args:
      path: a file that `torch.save(module.state_dict(), path)` wrote, in either format.
      max_bytes: largest size accepted.

    Returns:
      Read-only views of the file's bytes; bfloat16 becomes float32. Names are without the `module.`
      and `_orig_mod.` that wrappers of a whole network put before them.

    Raises:
      CheckpointError: one sentence naming the file and what is wrong with it.
    """
    try:
        tree = _read(path, max_bytes)
        if type(tree) is not dict or not tree:
            raise CheckpointError("it holds no state dict")
        strange = [name for name, value in tree.items() if not isinstance(value, Tensor)]
        if strange:
            raise CheckpointError(
                f"it holds {printable(str(strange[0]))}, which is no tensor, so it is no plain "
                "state dict; save module.state_dict() alone"
            )
        state = {str(name): tensor.numpy() for name, tensor in tree.items()}
        while prefix := _common_prefix(state):
            state = {k.removeprefix(prefix): v for k, v in state.items() if k != _COUNTER}
        return state
    except CheckpointError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from None


def _common_prefix(names: Iterable[str]) -> str:
    """Prefix of a wrapper that all names share; empty if there is none."""
    names = [name for name in names if name != _COUNTER]
    shared = (p for p in _PREFIXES if names and all(name.startswith(p) for name in names))
    return next(shared, "")


def read_tensors(path: str | Path, *, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """Read the tensors of any file of `torch.save` by name: one, or those in lists and dicts.

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
        _collect(_read(path, max_bytes), "", found, set())
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
        # Each container once: one shared under ever new names would never end.
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


def _read(path: str | Path, max_bytes: int) -> Any:
    data = read_bytes(path, max_bytes=max_bytes)
    way_on = "save the tensors alone in PyTorch with torch.save"
    kind = recognize(data)
    if kind is None:
        name = "a pickle, but not one" if data[:1] == b"\x80" else "no file"
        raise CheckpointError(f"it is {name} of torch.save; {way_on}")
    if not kind.name.startswith(TORCH_ARCHIVE):
        raise CheckpointError(f"it is {kind.name}; {kind.way_on or way_on}")
    return read_archive(data)
