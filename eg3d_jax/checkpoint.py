"""Checkpoints, folders or single files: a generator's configuration, arrays, source and licence.

A folder holds `checkpoint.json` and the arrays as written by orbax in `arrays/`. A file, whose name
ends in .safetensors, holds the same values in its metadata. Either appears under its name only when
it is complete.
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
from eg3d_jax.folders import (
    check_file_writable,
    check_room,
    check_writable,
    flush,
    flush_names,
    made,
    sha256,
)
from eg3d_jax.generator import Origin, TriPlaneGenerator
from eg3d_jax.safetensors_file import SUFFIX, read_metadata, read_tensors, write_tensors

FORMAT = 1
_JSON, _ARRAYS = "checkpoint.json", "arrays"
_DTYPES = ("float32", "float16")
_AGAIN = "convert or copy the checkpoint again"
_NAME = "name a folder or .safetensors file written by `eg3d-jax convert`"
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
    """Write a generator to a new folder or file, completely or not at all.

    Args:
      folder: must not exist, or be empty, unless `overwrite`; a file if its name ends in
        .safetensors.
      generator: what to keep.
      source: where the weights come from, as JSON values (name, SHA-256, ...).
      license: note on the licence of the weights.
      dtype: type of the stored numbers, float32 or float16; they are loaded as float32.
      overwrite: replace the checkpoint in the folder, which must hold nothing else, or the file.

    Returns:
      The metadata, as `load` returns them.

    Raises:
      InputError: if the folder or file is taken, or the numbers do not fit the type.
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
    if is_file(folder):
        with made(folder.parent):
            write_tensors(folder, stored, metadata)
        return metadata
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


def is_file(path: str | Path) -> bool:
    """Whether a checkpoint of that name is a single file, not a folder."""
    return Path(path).suffix.lower() == SUFFIX


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
    """Refuse a folder, or a .safetensors file, that `save` could not write.

    Raises:
      InputError: if it is there and not to be overwritten, holds anything else than a checkpoint,
        or is a file where a folder is wanted, or the other way round.
    """
    folder = Path(folder)
    if is_file(folder):
        return _check_file_free(folder, overwrite)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder to write to")
    held = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if held and not overwrite:
        raise InputError(
            f"{folder} is not empty; name another folder, or allow to overwrite it (--overwrite)"
        )
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
    return None


def _check_file_free(path: Path, overwrite: bool) -> None:
    check_file_writable(path, option="output")
    if path.exists() and not overwrite:
        raise InputError(
            f"{path} exists; name another file, or allow to overwrite it (--overwrite)"
        )
    if path.exists():
        read_metadata(path)  # which refuses what is no checkpoint


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
    """Read a generator from a folder or .safetensors file of `save` or `eg3d-jax convert`.

    Returns:
      The generator; `generator.origin.metadata` holds 'format', 'config', 'dtype', 'source',
      'license', 'fingerprint' and, of a folder, 'files'.

    Raises:
      InputError: naming the folder, the file in it and what to do.
    """
    # Otherwise an error of JAX's devices would be reported as one of the folder.
    check_devices()
    check_float32()
    folder = Path(folder).absolute()
    return _load_file(folder) if is_file(folder) else _load_folder(folder)


def _load_folder(folder: Path) -> TriPlaneGenerator:
    metadata, where = _read_metadata(folder), f"{folder}: {_JSON}"
    config, graph, places = _model(metadata, where)
    target = {
        name: np.empty(variable.shape, metadata["dtype"]) for name, (_, variable) in places.items()
    }
    if digests(folder / _ARRAYS) != metadata["files"]:  # orbax would fail less legibly
        raise InputError(f"{folder}: files in {_ARRAYS} are missing or damaged; {_AGAIN}")
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            stored = checkpointer.restore(folder / _ARRAYS, target)
    except Exception as error:  # orbax and tensorstore raise many kinds
        if isinstance(error, MemoryError) or is_disk_full(error):
            raise
        cause = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(f"{folder}: {_ARRAYS} cannot be read ({cause}); {_AGAIN}") from error
    arrays = {name: np.array(array, np.float32) for name, array in stored.items()}
    if _fingerprint(config, arrays) != metadata["fingerprint"]:
        raise InputError(f"{folder}: {_ARRAYS} and {_JSON} do not belong together; {_AGAIN}")
    return _filled(graph, places, arrays, metadata)


def _load_file(path: Path) -> TriPlaneGenerator:
    metadata, stored = read_tensors(path)
    _check_metadata(metadata, f"{path}: its metadata", ())
    others = [name for name, array in stored.items() if array.dtype.name != metadata["dtype"]]
    if others:
        raise InputError(f"{path}: {ascii(others[0])} is not of type {metadata['dtype']}; {_AGAIN}")
    config = _config(metadata, f"{path}: its metadata")
    arrays = {name: array.astype(np.float32) for name, array in stored.items()}
    # Before a network is made, which could be one of a billion layers.
    if _fingerprint(config, arrays) != metadata["fingerprint"] or config.mapping_layers > len(
        arrays
    ):
        raise InputError(f"{path}: its arrays and metadata do not belong together; {_AGAIN}")
    _, graph, places = _model(metadata, f"{path}: its metadata")
    wanted = {name: variable.shape for name, (_, variable) in places.items()}
    if wanted != {name: array.shape for name, array in arrays.items()}:
        raise InputError(f"{path}: its arrays are not those of its configuration; {_AGAIN}")
    return _filled(graph, places, arrays, metadata)


def _config(metadata: dict[str, Any], where: str) -> GeneratorConfig:
    try:
        return config_from_json(metadata["config"])
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{where} holds no configuration ({error}); {_AGAIN}") from error


def _model(metadata: dict[str, Any], where: str) -> tuple[GeneratorConfig, Any, dict[str, Any]]:
    """Configuration, graph, and path and variable of each array by name, without numbers."""
    config = _config(metadata, where)
    try:
        model = nnx.eval_shape(lambda: TriPlaneGenerator(config, rngs=nnx.Rngs(0)))
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise InputError(f"{where} holds no configuration ({error}); {_AGAIN}") from error
    graph, abstract = nnx.split(model)
    places = {"/".join(map(str, path)): (path, v) for path, v in nnx.to_flat_state(abstract)}
    return config, graph, places


def _filled(
    graph: Any, places: dict[str, Any], arrays: dict[str, np.ndarray], metadata: dict[str, Any]
) -> TriPlaneGenerator:
    """Put numbers into a model, onto the device."""
    on_device = jax.device_put(arrays)
    filled = {path: v.replace(on_device[name]) for name, (path, v) in places.items()}
    generator = jax.block_until_ready(nnx.merge(graph, nnx.from_flat_state(filled)))
    generator.origin = Origin(metadata)
    return generator


def _read_metadata(folder: Path) -> dict[str, Any]:
    if not (folder / _JSON).is_file():
        raise InputError(f"{folder} holds no {_JSON}, so it is no checkpoint; {_NAME}")
    try:
        metadata = json.loads((folder / _JSON).read_text())
    except ValueError as error:
        raise InputError(f"{folder}: {_JSON} is damaged; {_NAME}") from error
    _check_metadata(metadata, f"{folder}: {_JSON}", ("files",))
    return metadata


def _check_metadata(metadata: Any, where: str, beside: tuple[str, ...]) -> None:
    """Refuse metadata of another format, or without what loading takes for granted."""
    if not isinstance(metadata, dict) or "format" not in metadata:
        raise InputError(f"{where} is damaged; {_NAME}")
    if metadata["format"] != FORMAT:
        raise InputError(f"{where} has format {metadata['format']}, not {FORMAT}; convert it again")
    if (
        not metadata.keys() >= {"config", "dtype", "fingerprint", *beside}
        or metadata["dtype"] not in _DTYPES
    ):
        raise InputError(f"{where} is incomplete; {_NAME}")


# The generator in the package.
EMBEDDED = Path(__file__).parent / "pretrained" / "heads128"


def embedded_fingerprint() -> str:
    """Fingerprint of the generator in the package."""
    return json.loads((EMBEDDED / _JSON).read_text())["fingerprint"]


def load_embedded() -> TriPlaneGenerator:
    """Load the small pretrained generator of synthetic heads in the package: 128 pixels."""
    return load(EMBEDDED)
