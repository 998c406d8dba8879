"""Saving and loading the arrays of an interrupted run, bit by bit, whatever tree holds them."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from experiments.errors import DiskFullError, InputError, is_disk_full

_MANIFEST = "manifest.json"
_ARRAYS = "arrays"
_UNFINISHED = ".saving-"


class DamagedState(Exception):
    """A saved state whose files are incomplete or changed."""


@dataclass(frozen=True)
class SavedState:
    """What `load` found.

    Attributes:
      step: under which it was saved.
      note: what was saved beside the arrays.
      tree: the arrays, as the abstract tree asked.
    """

    step: int
    note: dict[str, Any]
    tree: Any


def fingerprint(tree: Any) -> str:
    """Hexadecimal SHA-256 of a tree's leaves: names, types, shapes and bytes."""
    entries = _entries(tree)
    return hashlib.sha256(json.dumps([_described(*e) for e in entries]).encode()).hexdigest()


def save(folder: Path, step: int, tree: Any, note: dict[str, Any] | None = None) -> Path:
    """Save a tree of arrays as `folder`/STEP, which appears at once and complete, or not at all.

    Args:
      folder: of all states of a run; made if missing. All but the last two are removed.
      step: non-negative; a state already saved under it is replaced.
      tree: any pytree of arrays, numbers and random keys.
      note: JSON values kept beside, e.g. the stage.

    Raises:
      DiskFullError: if the disk fills up; earlier states are left as they were.
    """
    folder = folder.absolute()
    final, unfinished = folder / f"{step:08d}", folder / f"{_UNFINISHED}{step:08d}"
    try:
        _discard_unfinished(folder)
        unfinished.mkdir(parents=True)
        entries = _entries(tree)
        arrays = {_leaf_name(i): array for i, (_, _, array) in enumerate(entries)}
        if arrays:
            with _quiet() as checkpointer:
                checkpointer.save(unfinished / _ARRAYS, args=ocp.args.PyTreeSave(arrays))
        leaves = [_described(*entry) for entry in entries]
        manifest = {"step": step, "note": note or {}, "leaves": leaves}
        (unfinished / _MANIFEST).write_text(json.dumps(manifest, indent=1))
        if final.exists():
            shutil.rmtree(final)
        unfinished.rename(final)
    except Exception as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        if not is_disk_full(error):
            raise
        kept = f"the state of step {steps(folder)[-1]}" if steps(folder) else "no earlier state"
        raise DiskFullError(
            f"the disk is full: the state of step {step} was not saved below {folder} ({kept} is "
            "there); free some space and continue with --resume"
        ) from error
    for old in steps(folder)[:-2]:
        shutil.rmtree(folder / f"{old:08d}", ignore_errors=True)
    return final


def steps(folder: Path) -> list[int]:
    """Steps of the complete states in a folder, ascending."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.name.isdigit())
    return sorted(int(path.name) for path in found if (path / _MANIFEST).is_file())


def load(folder: Path, abstract: Any | Callable[[dict[str, Any]], Any]) -> SavedState | None:
    """The newest undamaged state of a folder; a damaged one is passed over with a warning.

    Args:
      folder: of all states of a run.
      abstract: a tree of the same structure whose leaves have shape and dtype; or a function from
        the state's note to such a tree, where structures differ between stages.

    Returns:
      The state, its leaves jax arrays equal to the saved ones bit by bit; None if there is none.

    Raises:
      InputError: if the state is whole but of another structure or shape.
    """
    folder = folder.absolute()
    for step in reversed(steps(folder)):
        path = folder / f"{step:08d}"
        try:
            manifest, arrays = _read(path)
        except DamagedState as error:
            warnings.warn(
                f"{path} is damaged ({error}) and passed over; trying the state before",
                stacklevel=2,
            )
            continue
        wanted = abstract(manifest["note"]) if callable(abstract) else abstract
        return SavedState(step, manifest["note"], _rebuilt(path, wanted, manifest, arrays))
    return None


def _read(path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    try:
        manifest = json.loads((path / _MANIFEST).read_text())
        leaves = manifest["leaves"]
        as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
        wanted = {_leaf_name(i): as_numpy for i in range(len(leaves))}
        restored = {}
        if wanted:
            args = ocp.args.PyTreeRestore(restore_args=wanted)
            with _quiet() as checkpointer:
                restored = checkpointer.restore(path / _ARRAYS, args=args)
        arrays = [restored[_leaf_name(i)] for i in range(len(leaves))]
        for leaf, array in zip(leaves, arrays, strict=True):
            if leaf != _described(leaf["name"], leaf["key"], array):
                raise DamagedState(f"{leaf['name']} has changed since it was saved")
    except DamagedState:
        raise
    # Orbax and tensorstore answer damage with many kinds of error; all mean the same here.
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DamagedState(reason) from error
    return manifest, arrays


def _rebuilt(path: Path, abstract: Any, manifest: dict[str, Any], arrays: list[np.ndarray]) -> Any:
    wanted, structure = jax.tree_util.tree_flatten_with_path(abstract)
    names = [jax.tree_util.keystr(key) for key, _ in wanted]
    saved = [leaf["name"] for leaf in manifest["leaves"]]
    other = "it was saved from another generator or with other settings; start a new run"
    if names != saved:
        odd = next(iter(sorted(set(names) ^ set(saved))), "the order of entries")
        raise InputError(f"{path} does not fit this run (first difference: {odd}); {other}")
    leaves = []
    for (_, target), leaf, array in zip(wanted, manifest["leaves"], arrays, strict=True):
        value = (
            jax.random.wrap_key_data(jnp.asarray(array), impl=leaf["key"]) if leaf["key"] else array
        )
        if np.shape(target) != value.shape:
            raise InputError(
                f"{path}: {leaf['name']} has shape {list(value.shape)}, but this run needs "
                f"{list(np.shape(target))}; {other}"
            )
        leaves.append(value if leaf["key"] else jnp.asarray(value))
    return jax.tree_util.tree_unflatten(structure, leaves)


def _entries(tree: Any) -> list[tuple[str, str | None, np.ndarray]]:
    """Name, implementation if it is a random key, and host copy of each leaf."""
    entries = []
    for key, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name, kind = jax.tree_util.keystr(key), None
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            kind, leaf = str(jax.random.key_impl(leaf)), jax.random.key_data(leaf)
        entries.append((name, kind, np.asarray(leaf)))
    return entries


def _described(name: str, kind: str | None, array: np.ndarray) -> dict[str, Any]:
    array = np.asarray(array)
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    shape, dtype = list(array.shape), str(array.dtype)
    return {"name": name, "key": kind, "shape": shape, "dtype": dtype, "sha256": digest}


@contextmanager
def _quiet() -> Iterator[ocp.Checkpointer]:
    """A checkpointer whose threads do not print the traceback of what it also raises."""
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            yield checkpointer
    finally:
        log.setLevel(level)


def _leaf_name(index: int) -> str:
    return f"leaf{index:05d}"


def _discard_unfinished(folder: Path) -> None:
    for path in folder.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(path)
