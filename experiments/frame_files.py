"""Which picture of a folder belongs to which label of its `dataset.json`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from experiments.errors import InputError
from experiments.labels import LABELS_FILE, listed, natural_key, plain_name

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def picture_files(
    folder: Path, labelled: Collection[str], copies: Collection[str] = ()
) -> dict[str, Path]:
    """The picture of each label.

    Pictures that all lie one folder below their names are taken from there, with a warning, if
    there is one such folder.

    Args:
      folder: of the pictures; those in folders below count if labels name any such.
      labelled: names of the labels, in one way of writing (`plain_name`).
      copies: names of pictures that are left out.

    Returns:
      Paths by name, in natural order of the names.

    Raises:
      InputError: unless there is one label for each picture, and one picture for each label; saying
        where the pictures are, or what they are called, if that can be seen.
    """
    _check_inside(folder, labelled)
    found = _pictures(folder, nested=any("/" in name for name in [*labelled, *copies]))
    if not found.keys() & set(labelled):
        found = _from_below(folder, labelled) or found
    found = {name: path for name, path in found.items() if name not in copies}
    unlabelled, missing = set(found) - set(labelled), set(labelled) - set(found)
    if unlabelled or missing:
        hint = _hint(folder, unlabelled, missing)
        if not found:
            advice = hint or "put png, jpg or webp images there"
            raise InputError(f"{folder} holds no frames; {advice}")
        parts = [f"no label for {listed(unlabelled)}"] if unlabelled else []
        parts += [f"no image for {listed(missing)}"] if missing else []
        raise InputError(
            f"{folder / LABELS_FILE} has {len(labelled)} labels for {len(found)} images: "
            f"{'; '.join(parts)}; {hint or 'give every image one label of exactly its name'}"
        )
    return {name: found[name] for name in sorted(found, key=natural_key)}


def _check_inside(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        parts = PurePosixPath(name)
        if name.startswith("/") or re.match("[A-Za-z]:/", name) or ".." in parts.parts:
            raise InputError(
                f"{folder / LABELS_FILE} names {name}, which is not below {folder}; name pictures "
                f"by their path from there, such as {parts.name}"
            )


def _pictures(folder: Path, *, nested: bool) -> dict[str, Path]:
    """Pictures in a folder, and below it if asked for, by their path from it."""
    return {
        plain_name(path.relative_to(folder).as_posix()): path
        for path in (folder.rglob("*") if nested else folder.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    }


def _from_below(folder: Path, labelled: Collection[str]) -> dict[str, Path]:
    """Pictures of the labelled names in the one folder that has them all."""
    nested = any("/" in name for name in labelled)
    below = {sub.name: _pictures(sub, nested=nested) for sub in _folders(folder)}
    whole = [name for name, found in below.items() if set(labelled) <= found.keys()]
    if len(whole) > 1:
        raise InputError(
            f"{folder} has pictures of the labelled names in {listed(f'{n}/' for n in whole)}; "
            f"copy {LABELS_FILE} into the one that is meant, and give that folder"
        )
    if not whole:
        return {}
    warnings.warn(
        f"{folder}: the pictures that {LABELS_FILE} names lie in {whole[0]}/, and are taken from "
        "there",
        stacklevel=2,
    )
    return below[whole[0]]


def _hint(folder: Path, unlabelled: Collection[str], missing: Collection[str]) -> str:
    """How labels and pictures that do not match may be meant."""
    below = {sub.name: _pictures(sub, nested=False).keys() for sub in _folders(folder)}
    counts = {name: len(names & set(missing)) for name, names in below.items()}
    if any(counts.values()):
        name = max(counts, key=counts.__getitem__)
        return (
            f"{name}/ holds {counts[name]} of these {len(missing)} images: put images and labels "
            "of one set into one folder"
        )
    last = {PurePosixPath(name).name: name for name in missing if "/" in name}
    if last and len(last) == len(missing) and all((folder / name).is_file() for name in last):
        name = min(last, key=natural_key)
        return f"{last[name]} lies in {folder} as {name}: leave the folder out of the labels' names"
    if missing and _by_stem(missing).keys() == _by_stem(unlabelled).keys():
        stem = min(_by_stem(missing), key=natural_key)
        return (
            f"only endings differ, {_by_stem(missing)[stem]} is labelled and "
            f"{_by_stem(unlabelled)[stem]} is there: name the labels exactly as the images"
        )
    other = sorted((name for name in missing if (folder / name).is_file()), key=natural_key)
    if other:
        return f"{other[0]} is there, but is no png, jpg or webp: convert the images"
    return ""


def _by_stem(names: Iterable[str]) -> dict[str, str]:
    """Names by what is left without the ending of a picture, in small letters."""
    suffix = re.compile(r"\.(png|jpe?g|webp|bmp|tiff?)$", re.IGNORECASE)
    return {suffix.sub("", name).lower(): name for name in names}


def _folders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
