"""Checkpoint folders: a generator's configuration, arrays, source and licence.

A folder holds `checkpoint.json` and the arrays as written by orbax in `arrays/`. It appears under
its name only when it is complete.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from jax.typing import DTypeLike

from eg3d_jax.config import GeneratorConfig, RenderConfig, SuperResolutionConfig
from eg3d_jax.errors import InputError, check_devices, check_float32, is_disk_full
from eg3d_jax.folders import check_room, check_writable, flush, flush_names, made, sha256
from eg3d_jax.generator import Origin, TriPlaneGenerator

FORMAT = 1
_JSON, _ARRAYS = "checkpoint.json", "arrays"
_DTYPES = ("float32", "float16")
_NESTED = {"render": RenderConfig, "superresolution": SuperResolutionConfig}


def config_to_json(config: GeneratorConfig) -> dict[str, Any]:
    """Convert the configuration to JSON values; `config_from_json` gives back an equal one."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def config_from_json(values: dict[str, Any]) -> GeneratorConfig:
    """Undo `config_to_json`.

    Raises:
      InputError: if a field is missing, unknown or impossible.
    """
    parts = {name: _build(kind, values.get(name)) for name, kind in _NESTED.items()}
    return _build(GeneratorConfig, {**values, **parts})


def _build(kind: Any, values: Any) -> Any:
    wanted = {field.name for field in dataclasses.fields(kind)}
    if not isinstance(values, dict) or values.keys() != wanted:
        found = values.keys() if isinstance(values, dict) else set()
        raise InputError(f"{kind.__name__}: fields {sorted(found ^ wanted)} are missing or unknown")
    return kind(**{name: _tuples(value) for name, value in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _named_arrays(generator: TriPlaneGenerator) -> dict[str, np.ndarray]:
    flat = nnx.to_flat_state(nnx.state(generator))
    return {"/".join(map(str, path)): np.asarray(variable[...]) for path, variable in flat}


def fingerprint(generator: TriPlaneGenerator) -> str:
    """SHA-256 over configuration and arrays; equal only for generators that render the same."""
    return _fingerprint(generator.config, _named_arrays(generator))


def _fingerprint(config: GeneratorConfig, arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(config_to_json(config), sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], "<f4")
        digest.update(f"\n{name} {arrays[name].shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def save(
    folder: str | Path,
    generator: TriPlaneGenerator,
    *,
    source: dict[str, Any] | None = None,
    license: str | None = None,
    dtype: DTypeLike = np.float32,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a generator to a new folder, completely or not at all.

    Args:
      folder: must not exist, or be empty, unless `overwrite`.
      generator: what to keep.
      source: where the weights come from, as JSON values (name, SHA-256, ...).
      license: note on the licence of the weights.
      dtype: type of the stored numbers, float32 or float16; they are loaded as float32.
      overwrite: replace the checkpoint in the folder, which must hold nothing else.

    Returns:
      The metadata, as `load` returns them.

    Raises:
      InputError: if the folder is taken, or the numbers do not fit the type.
    """
    folder = Path(folder).absolute()
    check_free(folder, overwrite=overwrite)
    if np.dtype(dtype).name not in _DTYPES:
        raise InputError(f"dtype {np.dtype(dtype).name} is none of {', '.join(_DTYPES)}")
    arrays = _named_arrays(generator)
    with np.errstate(over="ignore"):
        stored = {name: array.astype(dtype) for name, array in arrays.items()}
    too_large = [name for name, array in stored.items() if not np.isfinite(array).all()]
    if too_large:
        raise InputError(f"{', '.join(too_large)} cannot be stored as {np.dtype(dtype).name}")
    metadata = {
        "format": FORMAT,
        "config": config_to_json(generator.config),
        "dtype": np.dtype(dtype).name,
        "source": source,
        "license": license,
        "fingerprint": _fingerprint(
            generator.config, {name: array.astype(np.float32) for name, array in stored.items()}
        ),
    }
    partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
    with made(folder.parent), _removed_afterwards(partial):
        partial.mkdir()
        check_room(partial, stored.values())
        # Otherwise a save that fails at once would leave a thread that waits for minutes.
        options = ocp.AsyncOptions(create_directories_asynchronously=False)
        with ocp.StandardCheckpointer(async_options=options) as checkpointer:
            checkpointer.save(partial / _ARRAYS, stored)
        # orbax may leave a note with the path of this machine, which nothing reads
        (partial / _ARRAYS / "commit_success.txt").unlink(missing_ok=True)
        metadata["files"] = digests(partial / _ARRAYS)
        (partial / _JSON).write_text(json.dumps(metadata, indent=1) + "\n")
        flush(partial)
        _replace(partial, folder)
    return metadata


@contextmanager
def _removed_afterwards(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of all files of a folder, by their path in it."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def check_free(folder: str | Path, *, overwrite: bool = False) -> None:
    """Refuse a folder that `save` could not write.

    Raises:
      InputError: if it is a file, holds anything and is not to be overwritten, or holds anything
        else than a checkpoint.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder to write to")
    held = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if held and not overwrite:
        raise InputError(f"{folder} is not empty; name another folder, or allow to overwrite it")
    others = [name for name in held if name not in (_JSON, _ARRAYS)]
    if others:
        raise InputError(
            f"{folder} holds {others[0]}, which is no part of a checkpoint, so it is not "
            "overwritten; name another folder, or move that away"
        )
    if held and _JSON not in held:
        raise InputError(
            f"{folder} holds no {_JSON}, so it is no checkpoint and not overwritten; name another "
            "folder"
        )
    check_writable(folder, option="folder")


def _replace(partial: Path, folder: Path) -> None:
    """Move a complete folder to its name; an earlier one is removed last, or comes back."""
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    if folder.exists():
        folder.rename(old)
    try:
        partial.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    flush_names(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def load(folder: str | Path) -> TriPlaneGenerator:
    """Read a generator from a folder that `save`, or `python -m convert_weights`, wrote.

    Returns:
      The generator; `generator.origin.metadata` holds 'format', 'config', 'dtype', 'source',
      'license', 'fingerprint' and 'files'.

    Raises:
      InputError: naming the folder, the file in it and what to do.
    """
    # Otherwise an error of JAX's devices would be reported as one of the folder.
    check_devices()
    check_float32()
    folder = Path(folder).absolute()
    metadata = _read_metadata(folder)
    advice = "convert or copy the checkpoint again"
    try:
        config = config_from_json(metadata["config"])
        model = nnx.eval_shape(lambda: TriPlaneGenerator(config, rngs=nnx.Rngs(0)))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{folder}: {_JSON} holds no configuration ({error}); {advice}") from error
    graph, abstract = nnx.split(model)
    places = {"/".join(map(str, path)): (path, v) for path, v in nnx.to_flat_state(abstract)}
    target = {
        name: np.empty(variable.shape, metadata["dtype"]) for name, (_, variable) in places.items()
    }
    if digests(folder / _ARRAYS) != metadata["files"]:  # orbax would fail less legibly
        raise InputError(f"{folder}: files in {_ARRAYS} are missing or damaged; {advice}")
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            stored = checkpointer.restore(folder / _ARRAYS, target)
    except Exception as error:  # orbax and tensorstore raise many kinds
        if isinstance(error, MemoryError) or is_disk_full(error):
            raise
        cause = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(f"{folder}: {_ARRAYS} cannot be read ({cause}); {advice}") from error
    arrays = {name: np.array(array, np.float32) for name, array in stored.items()}
    if _fingerprint(config, arrays) != metadata["fingerprint"]:
        raise InputError(f"{folder}: {_ARRAYS} and {_JSON} do not belong together; {advice}")
    arrays = jax.device_put(arrays)
    filled = {path: v.replace(arrays[name]) for name, (path, v) in places.items()}
    generator = jax.block_until_ready(nnx.merge(graph, nnx.from_flat_state(filled)))
    generator.origin = Origin(metadata)
    return generator


def _read_metadata(folder: Path) -> dict[str, Any]:
    advice = "name a folder written by `python -m convert_weights`"
    if not (folder / _JSON).is_file():
        raise InputError(f"{folder} holds no {_JSON}, so it is no checkpoint; {advice}")
    try:
        metadata = json.loads((folder / _JSON).read_text())
        version = metadata["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{folder}: {_JSON} is damaged; {advice}") from error
    if version != FORMAT:
        raise InputError(f"{folder}: {_JSON} has format {version}, not {FORMAT}; convert it again")
    if (
        not metadata.keys() >= {"config", "dtype", "fingerprint", "files"}
        or metadata["dtype"] not in _DTYPES
    ):
        raise InputError(f"{folder}: {_JSON} is incomplete; {advice}")
    return metadata


# The generator in the package.
EMBEDDED = Path(__file__).parent / "pretrained" / "heads128"


def load_embedded() -> TriPlaneGenerator:
    """Load the small pretrained generator of synthetic heads in the package: 128 pixels."""
    return load(EMBEDDED)
