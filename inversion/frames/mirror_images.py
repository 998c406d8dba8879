"""Find and leave out mirror images of frames.

EG3D's preparation of footage adds them for training; to an inversion they are another person. They
are recognized by their names, NAME_mirror.png beside NAME.png; or, where EG3D's numbering of
pictures has dropped the names, by cameras and pictures.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from eg3d_jax.cameras import mirror_image
from inversion.frames.labels import join_names

Read = Callable[[str], np.ndarray]

_ENDING = "_mirror"
_EQUAL = 1e-4  # of labels; rounding, and far less than the steps of a tracked camera
_TELLING = 1e-3  # by how much a label differs from its mirror image, unless it is frontal
_NEARLY_ALL = 0.8
_JPEG = 2.0  # mean difference of a picture that was compressed anew, of 255


def mirrored(names: Collection[str]) -> set[str]:
    """Find the names of mirror images: NAME_mirror.png beside NAME.png."""
    endings = {name: PurePosixPath(name).suffix for name in names}
    return {
        name
        for name, ending in endings.items()
        if name.endswith(_ENDING + ending) and name.removesuffix(_ENDING + ending) + ending in names
    }


def without_mirrored(path: Path, labels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Drop labels of mirror images by name, with one warning of how many there are."""
    copies = mirrored(labels)
    if copies:
        plural = "s" if len(copies) > 1 else ""
        warnings.warn(
            f"{path}: {len(copies)} mirror image{plural} of frames left out", stacklevel=2
        )
    return {name: label for name, label in labels.items() if name not in copies}


def unnamed_mirrors(
    path: Path, labels: Mapping[str, np.ndarray], read: Read | None = None
) -> set[str]:
    """Find mirror images that have lost their names, to be left out; warns of them.

    Numbering puts each beside its original, and its camera is the original's exact mirror image,
    which the next camera of a tracked video never is. A turntable to both sides has mirrored
    cameras too, but not side by side, save for two in its middle. So

    - where the *picture* as well is the mirror image of its neighbour, of two pairs or more or of
      nearly all frames, it is left out, with a warning;
    - where only the *cameras* are, of nearly all frames and of different pairs, all are kept, with
      a warning; so it is where there are no pictures.

    Args:
      path: of the labels, for messages.
      labels: [25] each by name, in natural order.
      read: the pixels [H, W, 3] of a name, if there are pictures; only those of pairs are read.

    Returns:
      Names of the mirror images.
    """
    names = list(labels)
    values = np.array(list(labels.values()))
    if len(names) < 2:
        return set()
    flipped = mirror_image(values)
    telling = np.abs(flipped - values).max(1) > _TELLING
    pairs = _neighbours(values, flipped)
    told = [pair for pair in pairs if telling[pair[0]]]
    nearly_all = 2 * len(told) >= _NEARLY_ALL * max(telling.sum(), 1)
    different = any(_distance(values[told[0][0]], values[i], flipped[i]) > _TELLING
                    for i, _ in told)  # fmt: skip
    alarm = nearly_all and len(told) > 1 and different
    if read is not None and pairs:
        if alarm:  # names of different lengths are numbered in an order that parts some
            pairs += _others(values, flipped, pairs)
        seen = {names[j] for i, j in pairs if _are_mirrored(read(names[i]), read(names[j]))}
        if len(seen) > 1 or 2 * len(seen) >= _NEARLY_ALL * len(names):
            plural = "s" if len(seen) > 1 else ""
            warnings.warn(
                f"{path}: {len(seen)} mirror image{plural} of other frames, known by picture and "
                f"camera, left out ({join_names(seen)})",
                stacklevel=2,
            )
            return seen
    if alarm:
        what = "" if read is None else ", though their pictures are not"
        first, second = (names[k] for k in told[0])
        warnings.warn(
            f"{path}: the cameras are mirror images of each other in pairs ({first} and {second}, "
            f"{len(told)} pairs){what}; if EG3D's preparation of training data has mirrored "
            "frames, remove one of each pair",
            stacklevel=2,
        )
    return set()


def _neighbours(values: np.ndarray, flipped: np.ndarray) -> list[tuple[int, int]]:
    """Pair neighbours of which one has the other's mirrored camera; each in one pair at most."""
    match = np.abs(flipped[:-1] - values[1:]).max(1) < _EQUAL
    pairs: list[tuple[int, int]] = []
    for i in np.flatnonzero(match).tolist():
        if not pairs or pairs[-1][1] < i:
            pairs.append((i, i + 1))
    return pairs


def _others(
    values: np.ndarray, flipped: np.ndarray, pairs: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Pair what is in no pair yet, in any order."""
    paired = {i for pair in pairs for i in pair}
    rest = [i for i in range(len(values)) if i not in paired]
    found: list[tuple[int, int]] = []
    while rest:
        i, rest = rest[0], rest[1:]
        match = [j for j in rest if np.abs(flipped[i] - values[j]).max() < _EQUAL]
        if match:
            found.append((i, match[0]))
            rest.remove(match[0])
    return found


def _distance(one: np.ndarray, label: np.ndarray, flipped: np.ndarray) -> float:
    return float(min(np.abs(one - label).max(), np.abs(one - flipped).max()))


def _are_mirrored(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether pictures are mirror images of each other, and not symmetric and so equal too."""
    if one.shape != other.shape:
        return False
    given, flipped = other.astype(np.float32), other[:, ::-1].astype(np.float32)
    gap = float(np.abs(one - flipped).mean())
    return gap <= _JPEG and float(np.abs(one - given).mean()) > 4 * gap + 0.01
