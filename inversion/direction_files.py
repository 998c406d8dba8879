"""Files of directions in W or W+: a generator's principal ones, named ones, or a user's."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convert_weights.array_pickle import printable
from eg3d_jax.config import GeneratorConfig
from eg3d_jax.errors import InputError
from eg3d_jax.generator import TriPlaneGenerator
from inversion.array_files import as_numbers, listed_arrays, read_arrays
from inversion.editing import Directions, principal_directions, sample_w
from inversion.files import write_atomically
from inversion.latents import frontal_mapping

# Arrays of directions, by their names in our files and in GANSpace's.
_COMPONENTS, _STD, _MEAN = ("components", "lat_comp"), ("std", "lat_stdev"), ("mean", "lat_mean")
# Number of latents on which a deviation is measured, to about a hundredth.
_MEASURED = 10_000
# Names go into file names; a word of digits would be a direction's number.
_NAME = re.compile(r"(?!\d+$)[\w-]+")


def generator_directions(
    generator: TriPlaneGenerator, num_components: int, num_samples: int, seed: int = 0
) -> Directions:
    """Compute principal directions of W under the frontal camera (spec inversion 9).

    Tuning does not touch the mapping network: those of a tuned generator are the original's.
    """
    config = generator.config
    batches = sample_w(frontal_mapping(generator), config.z_dim, num_samples=num_samples, seed=seed)
    return principal_directions(batches, min(num_components, config.w_dim))


def save_directions(path: Path, directions: Directions, metadata: dict[str, Any]) -> Path:
    """Write directions as npz, with the fingerprint of the generator to whose W they belong."""
    arrays = {name: getattr(directions, name) for name in ("components", "std", "mean")}
    fingerprint = np.array(original_fingerprint(metadata) or "")
    names = np.array(directions.names, np.str_)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, fingerprint=fingerprint, names=names, **arrays)
    return write_atomically(path, buffer.getvalue())


def load_directions(
    path: Path,
    generator: TriPlaneGenerator,
    metadata: dict[str, Any],
    say: Callable[[str], None],
) -> Directions:
    """Read directions from `save_directions`' npz, or from others' npy, npz or .pt.

    Principal components have the name components, or lat_comp as in GANSpace's files; where neither
    std nor lat_stdev lies beside those of W, it is measured. One array alone, such as a boundary
    [1, D] of InterFaceGAN, counts in units of W: std is 1. So do several arrays of a direction
    each, whose names are the directions'. Directions of W are [D], [n, D] or [n, 1, D]; [L, D] are
    L of them, as any other number would be. Directions of W+ are [n, L, D], or flat, [L * D] or
    [n, L * D].

    Args:
      path: of the file.
      generator: whose latents the directions are to move.
      metadata: of the generator's checkpoint.
      say: told in one line what strength 1 is, or how the array was understood, where the file
        leaves it open.

    Raises:
      InputError: if it cannot be read, does not fit, or belongs to another generator.
    """
    arrays = read_arrays(path)
    _check_fingerprint(path, arrays, metadata)
    given, std, mean = (_find(path, arrays, names) for names in (_COMPONENTS, _STD, _MEAN))
    if given is None:
        return _without_components(path, arrays, generator.config, say)
    components = _shaped(path, given, generator.config)
    count, width = len(components), components.shape[-1]
    if std is not None and std.size != count:
        raise InputError(f"{path} holds {std.size} standard deviations of {count} directions")
    if std is None:
        if components.ndim == 2:
            components, std = _measured(generator, components)
            said = f"a standard deviation, measured on {_MEASURED:,} latents of this generator"
        else:
            std = np.ones(count, np.float32)
            said = "a unit of W+, times the direction's length"
        say(f"{path} has no std: strength 1 is {said}")
    return Directions(
        components=components,
        std=std.reshape(count),
        mean=np.zeros(width, np.float32) if mean is None or mean.size != width else mean.ravel(),
        names=_names(path, arrays, count),
    )


def _without_components(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    config: GeneratorConfig,
    say: Callable[[str], None],
) -> Directions:
    """Read directions in units of W: all of one array, or one of each, named as the arrays are."""
    count, width = config.num_ws, config.w_dim
    found = {name: array for name, array in arrays.items() if array.ndim}  # no settings
    sizes = {array.size for array in found.values()}
    one_each = len(sizes) == 1 and sizes <= {width, count * width}
    if not found or (len(found) > 1 and not one_each):
        raise InputError(
            f"{path} holds {listed_arrays(arrays)}; name the directions 'components', or save them "
            "alone"
        )
    numbers = [as_numbers(path, name, array) for name, array in found.items()]
    if [array.shape for array in numbers] == [(count, width)]:
        say(
            f"{path}: [{count}, {width}] is taken as {count} directions of W; one of W+ would be "
            f"[1, {count}, {width}]"
        )
    if len(numbers) > 1:  # each is one direction, whose axes are known by their size
        numbers = [array.reshape(1, *[count] * (array.size != width), width) for array in numbers]
    components = np.concatenate([_shaped(path, array, config) for array in numbers])
    named = len(numbers) > 1 and all(map(_NAME.fullmatch, found))
    return Directions(
        components=components,
        std=np.ones(len(components), np.float32),
        mean=np.zeros(width, np.float32),
        names=tuple(found) if named else (),
    )


def _find(path: Path, arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray | None:
    """Look up the numbers stored under one of several names."""
    name = next((name for name in names if name in arrays), None)
    return None if name is None else as_numbers(path, name, arrays[name])


def _shaped(path: Path, array: np.ndarray, config: GeneratorConfig) -> np.ndarray:
    """Reshape directions, in whatever shape they are written, to [n, D] of W or [n, L, D] of W+."""
    num_ws, width = config.num_ws, config.w_dim
    *axes, last = array.shape or (0,)
    if array.size and last == width and axes[1:] and axes[-1] == num_ws:
        return array.reshape(-1, num_ws, width)
    if array.size and last == width and math.prod(axes[1:]) == 1:
        return array.reshape(-1, width)
    if array.size and last == num_ws * width and math.prod(axes[1:]) == 1:
        return array.reshape(-1, num_ws, width)
    turned = "; transpose it" if array.ndim == 2 and len(array) == width else ""
    raise InputError(
        f"{path} holds {list(array.shape)}, not directions of this generator, [n, {width}] of W or "
        f"[n, {num_ws}, {width}] of W+{turned}"
    )


def _measured(
    generator: TriPlaneGenerator, components: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scale directions [n, D] to length one, with the deviation of mapped latents along each."""
    length = np.linalg.norm(components, axis=1, keepdims=True)
    components = components / np.where(length > 0, length, 1)
    batches = sample_w(
        frontal_mapping(generator), generator.config.z_dim, num_samples=_MEASURED, batch=_MEASURED
    )
    w = np.concatenate([np.asarray(batch, np.float64) for batch in batches])
    return components, (w @ components.T).std(axis=0).astype(np.float32)


def _names(path: Path, arrays: Mapping[str, np.ndarray], count: int) -> tuple[str, ...]:
    """Names of the directions, if the file has any."""
    names = tuple(map(str, arrays["names"].ravel())) if "names" in arrays else ()
    if names and (
        len(set(names)) != count
        or len(names) != count
        or not all(_NAME.fullmatch(name) for name in names)
    ):
        raise InputError(
            f"{path} does not name its {count} directions by a word each; make it again"
        )
    return names


def _check_fingerprint(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: dict[str, Any]
) -> None:
    """Refuse directions that `save_directions` wrote for another generator."""
    made_for, ours = str(arrays.get("fingerprint", "")), original_fingerprint(metadata)
    if made_for and ours and made_for != ours:
        raise InputError(
            f"{path} holds directions of generator {printable(made_for)}, not of {ours}; leave "
            "--directions out to find this one's own"
        )


def number_of(directions: Directions, which: int | str) -> int:
    """Look up a direction by number or name; its number.

    Raises:
      InputError: if there is none such.
    """
    if which in directions.names:
        return directions.names.index(str(which))
    if isinstance(which, int) and 0 <= which < len(directions):
        return which
    named = f"and the names {', '.join(directions.names)}" if directions.names else "without names"
    raise InputError(f"--which {which}: there are directions 0 to {len(directions) - 1} {named}")


def label_of(directions: Directions, number: int) -> str:
    """Label of a direction in file names: its name, or its number in three digits."""
    return directions.names[number] if directions.names else f"{number:03d}"


def original_fingerprint(metadata: dict[str, Any]) -> str | None:
    """Fingerprint of the generator that a tuned one was tuned from, or its own."""
    source = metadata.get("source")
    tuned_from = source.get("tuned_from") if isinstance(source, dict) else None
    return tuned_from or metadata.get("fingerprint")
