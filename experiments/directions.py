"""Files of directions in W: a generator's principal ones, named ones, or any that a user brings."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from eg3d_jax.generator import TriPlaneGenerator
from experiments.disk import write_atomically
from experiments.errors import InputError
from experiments.generators import frontal_mapping
from inversion.editing import Directions, principal_directions, sample_w

_ARRAYS = ("components", "std", "mean")
# They go into names of files; a word of digits would be a direction's number.
_NAME = re.compile(r"(?!\d+$)[\w-]+")


def generator_directions(
    generator: TriPlaneGenerator, num_components: int, num_samples: int, seed: int = 0
) -> Directions:
    """Principal directions of a generator's W under its frontal camera (spec inversion 9).

    Tuning does not touch the mapping network: those of a tuned generator are the original's.
    """
    config = generator.config
    batches = sample_w(frontal_mapping(generator), config.z_dim, num_samples=num_samples, seed=seed)
    return principal_directions(batches, min(num_components, config.w_dim))


def save_directions(path: Path, directions: Directions, metadata: dict[str, Any]) -> Path:
    """Write an npz, with the fingerprint of the generator whose W they are of."""
    arrays = {name: getattr(directions, name) for name in _ARRAYS}
    fingerprint = np.array(original_fingerprint(metadata) or "")
    names = np.array(directions.names, np.str_)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, fingerprint=fingerprint, names=names, **arrays)
    return write_atomically(path, buffer.getvalue())


def load_directions(path: Path, width: int, metadata: dict[str, Any]) -> Directions:
    """Directions of a file: `save_directions`' npz, or an npy of one or more directions.

    Those of an npy, such as InterFaceGAN's boundaries [1, D], count in units of W: std is 1.

    Args:
      path: of the file.
      width: D of the generator.
      metadata: of the generator's checkpoint.

    Raises:
      InputError: if it cannot be read, does not fit, or belongs to another generator.
    """
    try:
        read = np.load(path, allow_pickle=False)
        if isinstance(read, np.ndarray):
            components = np.atleast_2d(read).astype(np.float32)
            spread = np.ones(len(components), np.float32)
            arrays = {"components": components, "std": spread, "mean": np.zeros(width, np.float32)}
            made_for, names = "", ()
        else:
            with read:
                arrays = {name: read[name] for name in _ARRAYS}
                made_for = str(read["fingerprint"])
                names = tuple(map(str, read["names"].ravel())) if "names" in read else ()
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"cannot read directions from {path} ({error}); give an npy of [n, {width}], or an npz "
            "made by `python -m experiments.edit`"
        ) from None
    shapes = {name: array.shape for name, array in arrays.items()}
    count = len(arrays["components"]) if arrays["components"].ndim else 0
    if not count or shapes != {"components": (count, width), "std": (count,), "mean": (width,)}:
        raise InputError(
            f"{path} holds {shapes['components']}, not directions [n, {width}] of the generator's W"
        )
    if not all(np.all(np.isfinite(array)) for array in arrays.values()):
        raise InputError(f"{path} holds numbers that are not finite; make it again")
    if names and (len(set(names)) != count or not all(_NAME.fullmatch(n) for n in names)):
        raise InputError(
            f"{path} does not name its {count} directions by a word each; make it again"
        )
    ours = original_fingerprint(metadata)
    if made_for and ours and made_for != ours:
        raise InputError(
            f"{path} holds directions of generator {made_for}, not of {ours}; leave --directions "
            "out to find this one's own"
        )
    return Directions(**arrays, names=names)


def number_of(directions: Directions, which: int | str) -> int:
    """Number of a direction given by number or name.

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
    """A direction's name, or its number in three digits, for a file's name."""
    return directions.names[number] if directions.names else f"{number:03d}"


def original_fingerprint(metadata: dict[str, Any]) -> str | None:
    """Fingerprint of the generator that a tuned one was tuned from, or its own."""
    source = metadata.get("source")
    tuned_from = source.get("tuned_from") if isinstance(source, dict) else None
    return tuned_from or metadata.get("fingerprint")
