"""Camera labels of EG3D's `dataset.json`, read and written."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from eg3d_jax.cameras import Cameras, to_label
from eg3d_jax.errors import InputError
from inversion.files import write_atomically

LABELS_FILE = "dataset.json"
_FORM = '{"labels": [[file name, [25 numbers]], ...]}'
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
# What lists of other lengths than 25 usually hold.
_OTHER_LENGTHS = {
    7: "a position and a quaternion?",
    9: "the intrinsics alone?",
    12: "3 x 4 of cam2world alone?",
    16: "the intrinsics are missing?",
    21: "the last row of cam2world, 0 0 0 1, is missing?",
}


def natural_key(name: str) -> tuple:
    """Sort key that orders numbers in names by value: frame2 before frame10."""
    parts = re.split(r"(\d+)", name)
    return (*((int(p), "") if p.isdecimal() else (-1, p) for p in parts), (-1, name))


def join_names(names: Iterable[str], limit: int = 5) -> str:
    """Join names in natural order for a message, cut after `limit`."""
    names = sorted(names, key=natural_key)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def plain_name(name: str) -> str:
    r"""Normalize a path: parts divided by /, no ./ and no \, composed accents."""
    name = unicodedata.normalize("NFC", name).replace("\\", "/")
    root = "/" if name.startswith("/") else ""
    return root + "/".join(part for part in name.split("/") if part not in ("", "."))


def as_number(value: object) -> float | None:
    """Convert a number, or text that reads as one, to a float; None for anything else.

    Numbers may be infinite or not a number; text may not.
    """
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def read_json(path: Path) -> object:
    """Read a JSON file.

    Raises:
      InputError: if it cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # also of bytes that are no text
        raise InputError(f"{path} is not valid JSON ({error}); export it again") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def parse_labels(path: Path, content: object) -> dict[str, np.ndarray]:
    """Parse the camera labels of a `dataset.json` that has been read.

    Args:
      path: of the file, for messages.
      content: {"labels": [[name, [25 numbers]], ...]}; a dictionary in place of the list of pairs
        is taken too, and text that reads as a number in place of one.

    Returns:
      float64 [25] for each name, in natural order of the names: finite numbers, 16 of cam2world and
      9 of the intrinsics, row by row.

    Raises:
      InputError: if the content has another form, names a frame twice or holds a label that is not
        25 finite numbers.
    """
    pairs = _pairs(path, content)
    check_distinct(path, [name for name, _ in pairs])
    pairs.sort(key=lambda pair: natural_key(pair[0]))
    return {name: label_of(f"{path}: the label of {name}", label) for name, label in pairs}


def check_distinct(path: Path, names: Sequence[str]) -> None:
    """Refuse two labels of one name.

    Raises:
      InputError: naming some.
    """
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise InputError(
            f"{path} has more than one label for {join_names(repeated)}; keep one label per frame"
        )


def label_of(where: str, label: object) -> np.ndarray:
    """Convert one label to float64 [25].

    Raises:
      InputError: if it is not a list of 25 finite numbers.
    """
    if not isinstance(label, list):
        raise InputError(f"{where} is {shorten(label)}; it must be a list of 25 numbers")
    if len(label) == 1 and isinstance(label[0], list):
        raise InputError(f"{where} has one bracket too many; remove the outer [ ] of the label")
    if any(isinstance(value, list) for value in label):
        raise InputError(f"{where} is a list of lists; write its 25 numbers in one, row by row")
    if len(label) != 25:
        guess = _OTHER_LENGTHS.get(len(label), "")
        raise InputError(
            f"{where} has {len(label)} numbers{guess and f' ({guess})'}; it must have 25: 16 of "
            "cam2world and 9 of the intrinsics, row by row"
        )
    numbers = [as_number(value) for value in label]
    for index, (value, number) in enumerate(zip(label, numbers, strict=True)):
        if number is None:
            raise InputError(f"{where} holds {shorten(value)} at index {index}; want a number")
        if not abs(number) < 1e30:  # NaN too; float32, in which all is computed, ends at 3e38
            raise InputError(
                f"{where} holds {shorten(value)} at index {index}; want finite numbers"
            )
    return np.array(numbers, np.float64)


def write_labels(folder: Path, names: Sequence[str], cameras: Cameras) -> None:
    """Write `folder`/dataset.json for frames of such names with cameras [T]."""
    labels = np.asarray(to_label(cameras), np.float64).tolist()
    content = {"labels": [list(pair) for pair in zip(names, labels, strict=True)]}
    write_atomically(folder / LABELS_FILE, json.dumps(content).encode())


def shorten(value: object, length: int = 40) -> str:
    """Show a value of a file in a message, cut where it is longer than so many characters."""
    text = repr(value)
    return text if len(text) <= length else text[: length - 3] + "..."


def _pairs(path: Path, content: object) -> list[tuple[str, object]]:
    """Normalize the names of pairs, with what stands beside them."""
    labels = content.get("labels") if isinstance(content, dict) else None
    if isinstance(labels, dict):
        labels = [list(pair) for pair in labels.items()]
    if not isinstance(labels, list) or not labels:
        bare = isinstance(content, list) and _are_pairs(content)
        advice = '; put {"labels": } round its list' if bare else f"; it must be {_FORM}"
        raise InputError(f"{path} holds no labels{advice}")
    if len(labels) == 1 and _are_pairs(labels[0]):
        raise InputError(f"{path}: labels has one bracket too many; remove the outer [ ] of it")
    for number, pair in enumerate(labels):
        if not _is_pair(pair):
            raise InputError(
                f"{path}: entry {number} of labels is {shorten(pair)}; {_bracket_advice(pair)}"
            )
        if not plain_name(pair[0]):
            raise InputError(f"{path}: entry {number} of labels has no file name; give it one")
    return [(plain_name(name), label) for name, label in labels]


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)


def _are_pairs(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_pair, value))


def _bracket_advice(pair: object) -> str:
    if isinstance(pair, list) and len(pair) == 1 and _is_pair(pair[0]):
        return "it has one bracket too many: remove the outer [ ]"
    if isinstance(pair, list) and len(pair) > 2 and isinstance(pair[0], str):
        return "it lacks brackets round the numbers: write [file name, [25 numbers]]"
    if isinstance(pair, str):
        return "it lacks brackets round name and label: write [file name, [25 numbers]]"
    return "it must be [file name, [25 numbers]]"
