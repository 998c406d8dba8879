"""What tells trees of arrays apart: their leaves' names, types, shapes and digests."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def fingerprint(tree: Any) -> str:
    """Hexadecimal SHA-256 of a tree's leaves: names, types, shapes and bytes."""
    leaves = [description(*leaf) for leaf in entries(tree)]
    return hashlib.sha256(json.dumps(leaves).encode()).hexdigest()


def entries(tree: Any) -> list[tuple[str, str | None, np.ndarray]]:
    """Name, implementation if it is a random key, and host copy of each leaf."""
    found = []
    for key, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name, kind = jax.tree_util.keystr(key), None
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            kind, leaf = str(jax.random.key_impl(leaf)), jax.random.key_data(leaf)
        found.append((name, kind, np.asarray(leaf)))
    return found


def description(name: str, kind: str | None, array: np.ndarray) -> dict[str, Any]:
    """Of a leaf, as JSON values."""
    array = np.asarray(array)
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    shape, dtype = list(array.shape), str(array.dtype)
    return {"name": name, "key": kind, "shape": shape, "dtype": dtype, "sha256": digest}
