"""Write arrays and values as JSON atomically; check disk space; fingerprints of trees."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eg3d_jax.errors import InputError
from eg3d_jax.folders import innermost_existing, write_atomically
from inversion.wording import beside


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> Path:
    """Write an npz file atomically."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return write_atomically(path, buffer.getvalue())


def write_json(path: Path, content: Any) -> Path:
    """Write plain values, dataclasses, paths and arrays as JSON, atomically."""
    text = json.dumps(to_json(content), indent=2, allow_nan=False)
    return write_atomically(path, (text + "\n").encode())


def check_space(path: Path, needed_bytes: int) -> None:
    """Refuse to start if the disk has no room for the result.

    Raises:
      InputError: if the disk below `path`, which need not exist yet, has less free.
    """
    free = shutil.disk_usage(innermost_existing(path)).free
    if free < needed_bytes:
        there, needed = beside(free / 1e6, needed_bytes / 1e6, 0, "f")
        raise InputError(
            f"the disk of {path} has {there} MB free, but the run needs {needed} MB; free some "
            "space or choose another --run"
        )


def to_json(value: Any) -> Any:
    """Convert to JSON values: dataclasses, paths, tuples, sets and arrays.

    Numbers that are not finite become None, which JSON can hold.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: to_json(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return [to_json(item) for item in sorted(value)]
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "__array__"):
        return to_json(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def flatten_names(value: Any, name: str = "") -> dict[str, Any]:
    """Flatten nested dictionaries to leaves by dotted name; lists are leaves."""
    if not isinstance(value, Mapping):
        return {name or "settings": value}
    leaves: dict[str, Any] = {}
    for key, item in value.items():
        leaves |= flatten_names(item, f"{name}.{key}" if name else str(key))
    return leaves


def fingerprint(tree: Any) -> str:
    """Hexadecimal SHA-256 of a tree's leaves: names, types, shapes and bytes."""
    leaves = [description(*leaf) for leaf in entries(tree)]
    return hashlib.sha256(json.dumps(leaves).encode()).hexdigest()


def entries(tree: Any) -> list[tuple[str, str | None, np.ndarray]]:
    """List name, implementation if it is a random key, and host copy of each leaf."""
    found = []
    for key, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name, kind = jax.tree_util.keystr(key), None
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            kind, leaf = str(jax.random.key_impl(leaf)), jax.random.key_data(leaf)
        found.append((name, kind, np.asarray(leaf)))
    return found


def description(name: str, kind: str | None, array: np.ndarray) -> dict[str, Any]:
    """Describe a leaf as JSON values, with its digest."""
    array = np.asarray(array)
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    shape, dtype = list(array.shape), str(array.dtype)
    return {"name": name, "key": kind, "shape": shape, "dtype": dtype, "sha256": digest}
