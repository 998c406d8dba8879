"""Safetensors files: named arrays of floats, with JSON values in the metadata; read strictly.

The header is what the package `safetensors` makes and takes: no name twice, every byte of the file
part of one array. Refused beyond that are long headers, other types, numbers that are not finite,
and metadata with a name twice. Nothing in a file is executed.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from eg3d_jax.errors import InputError
from eg3d_jax.folders import write_atomically

SUFFIX = ".safetensors"
# The one name in the metadata: of several the package writes the order at random.
_KEY = "eg3d_jax"
_DTYPES = {"F32": np.float32, "F16": np.float16}
# The format allows 100 MB; a generator takes a twentieth of this.
_MAX_HEADER = 2**20
_AGAIN = "copy or convert it again"


def write_tensors(path: Path, arrays: Mapping[str, np.ndarray], metadata: Any) -> None:
    """Write arrays and JSON values as a file; the same ones give the same bytes.

    Args:
      path: of the file, which appears complete or not at all.
      arrays: float32 or float16, by name.
      metadata: JSON values.
    """
    text = json.dumps(metadata, sort_keys=True, allow_nan=False)
    content = save({name: np.asarray(a, order="C") for name, a in arrays.items()}, {_KEY: text})
    write_atomically(path, content)


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the JSON values of a file, without its arrays.

    Raises:
      InputError: see `read_tensors`.
    """
    with _opened(path) as file:
        return _metadata(path, file)


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read the JSON values and the arrays, as they are stored, of a file.

    Raises:
      InputError: if there is no such file, it is damaged or none of ours, or an array is of another
        type or holds numbers that are not finite.
    """
    with _opened(path) as file:
        metadata = _metadata(path, file)
        arrays = {}
        for name in file.keys():
            kind = file.get_slice(name).get_dtype()
            if kind not in _DTYPES:
                raise InputError(f"{path}: {_shown(name)} is of type {kind}, not F32 or F16")
            try:
                array = np.array(file.get_tensor(name))
            except (SafetensorError, ValueError, TypeError) as error:
                raise InputError(f"{path}: {_shown(name)} cannot be read ({error})") from None
            if not np.isfinite(array).all():
                raise InputError(
                    f"{path}: {_shown(name)} holds numbers that are not finite; {_AGAIN}"
                )
            arrays[name] = array
    return metadata, arrays


def _opened(path: Path) -> Any:
    """Open a file whose header the package takes."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file written by `eg3d-jax convert`")
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; name one written by `eg3d-jax convert`")
    with path.open("rb") as file:
        start, header = file.read(8), file.read(_MAX_HEADER)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= path.stat().st_size - 8:
        raise InputError(f"{path} is truncated, or no safetensors file; {_AGAIN}")
    if length > _MAX_HEADER:
        raise InputError(
            f"{path} has a header of {length} bytes, of which {_MAX_HEADER} are allowed; {_AGAIN}"
        )
    try:
        # Of two entries of one name the package takes the last.
        json.loads(header[:length], object_pairs_hook=_once_each)
        return safe_open(path, framework="np")
    except (SafetensorError, ValueError, OSError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path} is damaged, or no safetensors file ({_shown(reason)}); {_AGAIN}"
        ) from None


def _metadata(path: Path, file: Any) -> dict[str, Any]:
    text = (file.metadata() or {}).get(_KEY)
    if text is None:
        raise InputError(
            f"{path} holds arrays without a generator's configuration; name a file written by "
            "`eg3d-jax convert`"
        )
    try:
        metadata = json.loads(
            text, object_pairs_hook=_once_each, parse_float=_finite, parse_constant=_finite
        )
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its metadata are damaged ({error}); {_AGAIN}") from None
    if not isinstance(metadata, dict):
        raise InputError(f"{path}: its metadata are no JSON object; {_AGAIN}")
    return metadata


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no finite number")
    return value


def _shown(text: str) -> str:
    """Shorten and escape a text out of a file, so that a message stays one harmless line."""
    return ascii(text[:200])[1:-1]
