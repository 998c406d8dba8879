"""EG3D's `dataset.json`: camera labels, written and read."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from eg3d_jax.cameras import Cameras, to_label
from experiments.disk import write_atomically
from experiments.errors import InputError

LABELS_FILE = "dataset.json"
_MIRROR = "_mirror"


def natural_key(name: str) -> tuple:
    """Sort key that orders numbers in names by value: frame2 before frame10."""
    parts = re.split(r"(\d+)", name)
    return (*((int(p), "") if p.isdecimal() else (-1, p) for p in parts), (-1, name))


def listed(names: Iterable[str], limit: int = 5) -> str:
    """Names in natural order, cut after `limit`."""
    names = sorted(names, key=natural_key)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def read_labels(folder: Path) -> dict[str, np.ndarray]:
    """The camera labels of a folder of frames, by frame name.

    Args:
      folder: holds `dataset.json`: {"labels": [[name, [25 numbers]], ...]}; a dictionary in place
        of the list of pairs is taken too.

    Returns:
      float64 [25] for each name, finite: 16 numbers cam2world and 9 intrinsics, row by row.

    Raises:
      InputError: if the file is missing, is not JSON of that form, names a frame twice or holds a
        label that is not 25 finite numbers.
    """
    path = folder / LABELS_FILE
    if not path.is_file():
        raise InputError(
            f"{folder} has no {LABELS_FILE}; put EG3D's camera labels there as "
            '{"labels": [[file name, [25 numbers]], ...]}'
        )
    return parse_labels(path, read_json(path))


def read_json(path: Path) -> object:
    """The content of a JSON file.

    Raises:
      InputError: if it cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); export it again") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def parse_labels(path: Path, content: object) -> dict[str, np.ndarray]:
    """The camera labels of a `dataset.json` that has been read; see `read_labels`."""
    pairs = _pairs(path, content)
    repeated = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
    if repeated:
        raise InputError(
            f"{path} has more than one label for {listed(repeated)}; keep one label per frame"
        )
    return {name: _numbers(path, name, label) for name, label in pairs}


def write_labels(folder: Path, names: Sequence[str], cameras: Cameras) -> None:
    """Write `folder`/dataset.json for frames of such names with cameras [T]."""
    labels = np.asarray(to_label(cameras), np.float64).tolist()
    content = {"labels": [list(pair) for pair in zip(names, labels, strict=True)]}
    write_atomically(folder / LABELS_FILE, json.dumps(content).encode())


def mirrored(names: Collection[str]) -> set[str]:
    """Those of the names that are mirror images of others: NAME_mirror.png beside NAME.png.

    EG3D's preparation of footage adds them for training; to an inversion they are another person.
    """
    endings = {name: PurePosixPath(name).suffix for name in names}
    return {
        name
        for name, ending in endings.items()
        if name.endswith(_MIRROR + ending) and name.removesuffix(_MIRROR + ending) + ending in names
    }


def _pairs(path: Path, content: object) -> list[tuple[str, object]]:
    labels = content.get("labels") if isinstance(content, dict) else None
    if isinstance(labels, dict):
        labels = list(labels.items())
    if not isinstance(labels, list) or not labels:
        raise InputError(
            f'{path} holds no labels; it must be {{"labels": [[file name, [25 numbers]], ...]}}'
        )
    for number, pair in enumerate(labels):
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise InputError(
                f"{path}: entry {number} of labels is {_shown(pair)}; "
                "it must be [file name, [25 numbers]]"
            )
    return [(name, label) for name, label in labels]


def _numbers(path: Path, name: str, label: object) -> np.ndarray:
    where = f"{path}: the label of {name}"
    if not isinstance(label, list):
        raise InputError(f"{where} is {_shown(label)}; it must be a list of 25 numbers")
    if len(label) != 25:
        raise InputError(
            f"{where} has {len(label)} numbers; it must have 25: 16 of cam2world and 9 of the "
            "intrinsics, row by row"
        )
    for index, value in enumerate(label):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{where} holds {_shown(value)} at index {index}; want a number")
        if not abs(value) < 1e30:  # NaN too; float32, in which all is computed, ends at 3e38
            raise InputError(f"{where} holds {_shown(value)} at index {index}; want finite numbers")
    return np.array(label, np.float64)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
