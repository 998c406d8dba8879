"""Whether cameras stand in EG3D's world: y up, the head at the origin looking towards +z."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.errors import InputError

WORLD = "EG3D's world has y up, and the head at the origin looking towards +z"
AXES = "its camera axes are x right, y down, z forward"

_SIDEWAYS, _UPSIDE_DOWN = 45.0, 135.0  # degrees of roll
_AXIS_NAMES = ("+x", "-x", "+z", "-z")
# Left multiplication that turns such an axis to +y, in words.
_TURNS = {
    "+x": "x, y, z become -y, x, z",
    "-x": "x, y, z become y, -x, z",
    "+z": "x, y, z become x, z, -y",
    "-z": "x, y, z become x, -z, y",
}


def check_world(path: Path, labels: Mapping[str, np.ndarray]) -> None:
    """Refuse cameras of another world or other axes than EG3D's, and tell of those that are odd.

    Refused are cameras that all hold the picture upside down, and those that all stand upright on
    another horizontal plane (z up). A camera that is rolled may be meant, as may one that sees the
    head from behind or below: they get a warning, one a file.

    Args:
      path: of the file, for messages.
      labels: [25] numbers by name, at least one, which are cameras.

    Raises:
      InputError: naming the repair.
    """
    poses = _poses(labels)
    up = -poses[:, :3, 1].mean(0)
    if wrong := other_vertical(labels):
        raise InputError(f"{path}: {wrong}; {WORLD}")
    other, _ = _other_vertical(poses)
    rolls = _rolls(poses)
    known = np.abs(rolls[np.isfinite(rolls)])
    if len(known) and (known > _UPSIDE_DOWN).all():
        raise InputError(f"{path}: {_upside_down(poses)}")
    tilted = np.nan_to_num(np.abs(rolls)) > _SIDEWAYS
    if tilted.any():
        names = list(labels)
        worst = int(np.nanargmax(np.abs(rolls)))
        world = f" (up in the pictures is mostly {other} of the world)" if other else ""
        warnings.warn(
            f"{path}: {tilted.sum()} of {len(names)} cameras hold the picture sideways or upside "
            f"down, {names[worst]} rolled by {abs(rolls[worst]):.0f} degrees{world}; {WORLD}, and "
            f"{AXES}",
            stacklevel=3,
        )
    elif other:
        warnings.warn(
            f"{path}: the cameras look steeply from {'below' if up[2] > 0 else 'above'}, up in the "
            f"pictures is mostly {other}; if that is up in your world, turn it: {WORLD}",
            stacklevel=3,
        )
    elif (poses[:, 2, 3] < -0.5 * np.linalg.norm(poses[:, :3, 3], axis=1)).all():
        warnings.warn(f"{path}: all cameras see the back of the head; {WORLD}", stacklevel=3)


def other_vertical(labels: Mapping[str, np.ndarray]) -> str:
    """What is wrong, and the repair, if z is up in the world beyond doubt; else nothing."""
    name, sure = _other_vertical(_poses(labels))
    if not sure:
        return ""
    return (
        f"up in the pictures is {name} of the world, not +y; turn the world, rotations and "
        f"positions, so that {_TURNS[name]}"
    )


def looks_upright(labels: Mapping[str, np.ndarray]) -> bool:
    """Whether cameras stand upright in EG3D's world, none rolled and none steep."""
    poses = _poses(labels)
    rolls = np.nan_to_num(np.abs(_rolls(poses)))
    return not _other_vertical(poses)[0] and bool((rolls < _SIDEWAYS).all())


def _other_vertical(poses: np.ndarray) -> tuple[str, bool]:
    """Name of the axis that is up rather than +y, or nothing; and whether there is no doubt.

    A camera that is not rolled has its right at a right angle to what is up in the world, from
    wherever it looks. Several from different sides leave no doubt, if they are upright about z and
    not about y; a head that lies on its side looks like a world with x up.
    """
    up, right = -poses[:, :3, 1], poses[:, :3, 0]
    mean = up.mean(0)
    heights = np.array([mean[0], -mean[0], mean[2], -mean[2]])
    best = int(np.argmax(heights))
    if heights[best] <= max(mean[1], 0.5):
        return "", False
    leaning = np.abs(right[:, best // 2 * 2])
    about_y = math.sqrt(np.square(right[:, 1]).mean())
    sure = best >= 2 and len(poses) > 1 and leaning.max() < math.sin(math.radians(10))
    return _AXIS_NAMES[best], bool(sure and about_y > math.sin(math.radians(15)))


def _upside_down(poses: np.ndarray) -> str:
    """What is wrong with cameras that all hold the picture upside down, and the repair."""
    if poses[:, 2, 3].mean() < 0:
        cause = "if y of your world points down, multiply cam2world from the left by"
        return f"up in the pictures is -y of the world; {cause} diag(1, -1, -1, 1); {WORLD}"
    return (
        "the cameras hold the picture upside down, their down points up in the world; if their "
        "axes are x left, y up, multiply cam2world from the right by diag(-1, -1, 1, 1); in EG3D "
        f"{AXES}"
    )


def _rolls(poses: np.ndarray) -> np.ndarray:
    """[T] degrees by which cameras are rolled, NaN where they look nearly straight up or down."""
    right, up = poses[:, 1, 0], -poses[:, 1, 1]
    rolls = np.degrees(np.arctan2(right, up))
    return np.where(np.abs(poses[:, 1, 2]) < 0.97, rolls, np.nan)


def _poses(labels: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.stack([label[:16].reshape(4, 4) for label in labels.values()])
