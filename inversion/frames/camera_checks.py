"""Check that cameras are in EG3D's world: y up, the head at the origin looking towards +z."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from eg3d_jax.cameras import nearest_camera, nearest_rotation
from eg3d_jax.errors import InputError

WORLD = "EG3D's world has y up, and the head at the origin looking towards +z"
AXES = "its camera axes are x right, y down, z forward"

_SIDEWAYS, _UPSIDE_DOWN = 45.0, 135.0  # degrees of roll
_AXIS_NAMES = ("+x", "-x", "+z", "-z")
# Left multiplication that turns an axis to +y, in words.
_TURNS = {
    "+x": "x, y, z become -y, x, z",
    "-x": "x, y, z become y, -x, z",
    "+z": "x, y, z become x, z, -y",
    "-z": "x, y, z become x, -z, y",
}


def check_world(path: Path, labels: Mapping[str, np.ndarray]) -> None:
    """Refuse cameras of another world or other axes than EG3D's, and warn of odd ones.

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
    """Describe error and repair if z is up in the world beyond doubt; else nothing."""
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
    """Find the axis that is up rather than +y, if any, and whether there is no doubt.

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
    """Describe error and repair of cameras that all hold the picture upside down."""
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


Labels = dict[str, np.ndarray]

_TOLERANCE = 5e-3  # of numbers that are 0 or 1 in every camera
# Largest entry of R^T R - 1: of labels rounded to three digits, which stay as they are; of what
# landmark fitters write, which is replaced by the nearest rotation; and of numbers that the
# authors' code was free to change.
_ROUNDED, _LOOSE, _FREE = 1e-3, 0.05, 0.3
# A ratio of the focal lengths, and a distance of the principal point from the middle, that square
# crops do not have.
_ODD_RATIO, _WRONG_RATIO, _FAR_CENTRE = 1.03, 1.2, 0.2
_CLOSE_UP = 4.0  # sides of the picture that the head's box fills
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenGL's camera axes to OpenCV's, and back
_RADIUS = 2.7


def check_cameras(
    path: Path,
    labels: Mapping[str, np.ndarray],
    *,
    box_side: float = 1.0,
    ray_range: tuple[float, float] | None = None,
) -> Labels:
    """Refuse labels that are no camera or see no head, and repair loose rotations.

    Args:
      path: of the file, for messages.
      labels: [25] finite numbers each, by name.
      box_side: side of the box round the origin that holds the head, world units.
      ray_range: first and last distance that the generator samples on a ray, world units.

    Returns:
      The labels. Rotations that are off by more than rounding are the nearest rotation now, with
      one warning; all else is as given. Other things that are odd get one warning each.

    Raises:
      InputError: naming file, label, value and repair.
    """
    labels = with_rotations(path, labels)

    def problem(label: np.ndarray) -> str | None:
        return _view_problem(label, box_side, ray_range)

    for name, label in labels.items():
        if wrong := _intrinsics_problem(label):
            raise InputError(f"{path}: {name}: {wrong}")
        if wrong := problem(label):
            hint = _repair(labels, problem) or other_vertical(labels)
            raise InputError(f"{path}: {name}: {wrong}{hint and f'; {hint}'}")
    check_world(path, labels)
    _tell_of_odd_intrinsics(path, labels, box_side)
    return labels


def nearest_cameras(path: Path, labels: Mapping[str, np.ndarray], *, box_side: float) -> Labels:
    """Convert labels that the authors' code may have optimised as 25 free numbers to cameras.

    Args:
      path: of the file, for messages.
      labels: [25] finite numbers each, by name.
      box_side: see `check_cameras`.

    Returns:
      The labels: cameras, to rounding, as given, others as the nearest one, and one warning of how
      far that is.

    Raises:
      InputError: if a label is no camera by far, or cannot see the head.
    """
    found, turns, changes = {}, {}, {}
    for name, label in labels.items():
        nearest = nearest_camera(label)
        change = float(np.abs(nearest - label)[16:].max())
        exact = _pose_problem(label, _ROUNDED) is None and change <= _TOLERANCE
        found[name] = label if exact else nearest
        wrong = (
            _pose_problem(label, _FREE, _FREE)
            or _intrinsics_problem(label if change > _FREE else nearest)
            or _view_problem(found[name], box_side, None)
        )
        if wrong:
            raise InputError(f"{path}: {name}: {wrong}")
        if not exact:
            turns[name], changes[name] = _turned_axes(label, nearest), change
    if turns:
        furthest = max(turns, key=turns.__getitem__)
        warnings.warn(
            f"{path}: {len(turns)} of {len(labels)} cameras are 25 numbers that were optimised "
            f"freely; the nearest cameras are taken, whose axes turn by up to {turns[furthest]:.2g}"
            f" degrees ({furthest}) and whose intrinsics change by up to "
            f"{max(changes.values()):.2g}",
            stacklevel=2,
        )
    return found


def with_rotations(path: Path, labels: Mapping[str, np.ndarray]) -> Labels:
    """Replace loose rotations in labels by the nearest ones, with one warning.

    Raises:
      InputError: if a label is no pose; naming it and the repair.
    """
    found, errors = {}, {}
    for name, label in labels.items():
        if wrong := _pose_problem(label, _LOOSE):
            raise InputError(f"{path}: {name}: {wrong}")
        error = _rotation_error(_rotation(label))
        if error > _ROUNDED:
            errors[name] = error
            cam2world = label[:16].reshape(4, 4).copy()
            cam2world[:3, :3] = nearest_rotation(cam2world[:3, :3])
            label = np.concatenate([cam2world.ravel(), label[16:]])
        found[name] = label
    if errors:
        worst = max(errors, key=errors.__getitem__)
        warnings.warn(
            f"{path}: {len(errors)} of {len(labels)} rotations are not orthonormal, off by up to "
            f"{errors[worst]:.2g} ({worst}); the nearest rotations are taken",
            stacklevel=3,
        )
    return found


def _pose_problem(label: np.ndarray, most: float, row: float = _TOLERANCE) -> str | None:
    """Explain why cam2world is no pose, if rotation and last row may be off by `most` and `row`."""
    cam2world = label[:16].reshape(4, 4)
    rotation, last = cam2world[:3, :3], cam2world[3]
    if np.abs(last - [0, 0, 0, 1]).max() > row:
        scale = last[3]
        alone = np.abs(last[:3]).max() <= _TOLERANCE * abs(scale)
        if abs(scale) > 1e-6 and alone and _is_pose(cam2world / scale):
            return (
                f"cam2world is scaled as a whole, its last row is {_row(last)}; divide its 16 "
                f"numbers by {scale:.4g}"
            )
        return (
            f"the last row of cam2world is {_row(last)}, not 0 0 0 1; the label holds the 4 x 4 "
            "camera-to-world matrix row by row (is yours transposed?)"
        )
    error, determinant = _rotation_error(rotation), float(np.linalg.det(rotation))
    if error > most:
        scale = math.copysign(abs(determinant) ** (1 / 3), determinant)
        if abs(scale) > 1e-6 and _rotation_error(rotation / scale) <= _LOOSE:
            return (
                f"the rotation is scaled by {scale:.4g}; divide its 9 numbers by that, and the "
                "position too if all of cam2world was scaled"
            )
        return (
            f"the rotation is not orthonormal (off by {error:.2g}, at most {most:g} is mended); "
            "remove scale and shear from cam2world"
        )
    if determinant < 0:
        return (
            "the rotation mirrors (determinant -1); the camera axes must be right-handed: "
            "x right, y down, z forward"
        )
    return None


def _intrinsics_problem(label: np.ndarray) -> str | None:
    intrinsics = label[16:].reshape(3, 3)
    focal = intrinsics[0, 0], intrinsics[1, 1]
    if min(focal) <= 0:
        return f"the focal length is {min(focal):.4g}; it must be positive"
    if np.abs(intrinsics[2] - [0, 0, 1]).max() > _TOLERANCE or abs(intrinsics[1, 0]) > _TOLERANCE:
        return (
            f"the intrinsics are {' / '.join(_row(r) for r in intrinsics)}; they must be "
            "fx skew cx / 0 fy cy / 0 0 1"
        )
    centre = intrinsics[:2, 2]
    if centre.min() < 0 or centre.max() > 1 or max(focal) > 100:
        return (
            f"focal length {max(focal):.4g} and principal point {_row(centre)} look like pixels; "
            "divide the intrinsics by the image side"
        )
    if max(focal) > _WRONG_RATIO * min(focal):
        return (
            f"the focal lengths are {_row(np.array(focal))}, too far apart for square pictures; "
            "divide both by one side, that of the square crop"
        )
    return None


def _view_problem(
    label: np.ndarray, box_side: float, ray_range: tuple[float, float] | None
) -> str | None:
    """Explain why the head cannot be seen from a camera."""
    cam2world, intrinsics = label[:16].reshape(4, 4), label[16:].reshape(3, 3)
    position = cam2world[:3, 3]
    if np.abs(position).max() < box_side / 2:
        return (
            f"the camera at {_row(position)} is inside the head, a box of side {box_side:.4g} at "
            f"the origin; {WORLD}"
        )
    distance = float(np.linalg.norm(position))
    reach = box_side * math.sqrt(3) / 2
    if ray_range and not ray_range[0] - reach < distance < ray_range[1] + reach:
        return (
            f"the camera is {distance:.4g} units from the origin, but the generator looks between "
            f"{ray_range[0]:.4g} and {ray_range[1]:.4g} only; scale the camera positions, once "
            f"origin and axes are right, to EG3D's world units (orbit radius {_RADIUS}): {WORLD}"
        )
    ahead = float(cam2world[:3, 2] @ -position)
    if ahead <= 0:
        return f"the camera looks away from the head; {WORLD}, and {AXES}"
    pixel = (intrinsics @ (cam2world[:3, :3].T @ -position))[:2] / ahead
    # Half the box as it appears; it is outside the image if its centre is further out than this.
    margin = reach * max(intrinsics[0, 0], intrinsics[1, 1]) / ahead
    if pixel.min() < -margin or pixel.max() > 1 + margin:
        return (
            f"the head is outside the image, its centre at {_row(pixel)} of the image side; "
            f"{WORLD}, and {AXES}"
        )
    return None


def _repair(labels: Labels, problem: Callable[[np.ndarray], str | None]) -> str:
    """Describe the repair of the matrices by which all cameras see the head upright, if known."""
    found = {name: label[:16].reshape(4, 4) for name, label in labels.items()}
    distance = float(np.median([np.linalg.norm(pose[:3, 3]) for pose in found.values()]))
    scale = np.array([[1, 1, 1, _RADIUS / max(distance, 1e-12)]] * 3 + [[1, 1, 1, 1]])
    transposed = np.pad(np.ones((3, 3)), (0, 1)) > 0
    repairs: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = [
        ("all cameras would see it with their axes y and z turned round: multiply cam2world from "
         "the right by diag(1, -1, -1, 1)", lambda pose: pose @ _FLIP),
        *(("all cameras would see it if these are world-to-camera matrices: invert them",
           lambda pose, a=a, b=b: a @ np.linalg.inv(pose) @ b)
          for a, b in ((np.eye(4), np.eye(4)), (np.eye(4), _FLIP), (_FLIP, np.eye(4)),
                       (_FLIP, _FLIP))),
        ("all cameras would see it with their rotations transposed: transpose them",
         lambda pose: np.where(transposed, pose.T, pose)),
        (f"all cameras would see it with positions times {scale[0, 3]:.4g}",
         lambda pose: pose * scale),
    ]  # fmt: skip
    for text, repair in repairs:
        mended = {
            name: np.concatenate([repair(pose).ravel(), labels[name][16:]])
            for name, pose in found.items()
        }
        if looks_upright(mended) and not any(map(problem, mended.values())):
            return text
    return ""


def _tell_of_odd_intrinsics(path: Path, labels: Labels, box_side: float) -> None:
    ratios = {name: max(f := (label[16], label[20])) / min(f) for name, label in labels.items()}
    worst = max(ratios, key=ratios.__getitem__)
    if ratios[worst] > _ODD_RATIO:
        warnings.warn(
            f"{path}: the focal lengths of {worst} are {_row(labels[worst][[16, 20]])}, "
            f"{100 * (ratios[worst] - 1):.0f} % apart; square crops have equal ones, so divide "
            "both by the side of the crop",
            stacklevel=3,
        )
    off = {name: np.abs(label[[18, 21]] - 0.5).max() for name, label in labels.items()}
    worst = max(off, key=off.__getitem__)
    if off[worst] > _FAR_CENTRE:
        warnings.warn(
            f"{path}: the principal point of {worst} is {_row(labels[worst][[18, 21]])}, far from "
            "the middle, 0.5 0.5; divide the intrinsics by the side of the pictures they are of",
            stacklevel=3,
        )
    sizes = {
        name: box_side * label[16] / np.linalg.norm(label[[3, 7, 11]])
        for name, label in labels.items()
    }
    worst = max(sizes, key=sizes.__getitem__)
    if sizes[worst] > _CLOSE_UP:
        warnings.warn(
            f"{path}: the focal length of {worst} is {labels[worst][16]:.4g} of the image side, so "
            f"that the head is {sizes[worst]:.3g} pictures wide; give it over the image side, "
            "neither in millimetres nor in pixels",
            stacklevel=3,
        )


def _turned_axes(label: np.ndarray, nearest: np.ndarray) -> float:
    """Largest angle by which a camera's axes turn, degrees."""
    given = _rotation(label)
    cosine = (given * _rotation(nearest)).sum(0) / np.linalg.norm(given, axis=0)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).max())


def _rotation(label: np.ndarray) -> np.ndarray:
    return label[:16].reshape(4, 4)[:3, :3]


def _rotation_error(rotation: np.ndarray) -> float:
    return float(np.abs(rotation.T @ rotation - np.eye(3)).max())


def _is_pose(cam2world: np.ndarray) -> bool:
    rotation = cam2world[:3, :3]
    return _rotation_error(rotation) <= _LOOSE and np.linalg.det(rotation) > 0


def _row(values: np.ndarray) -> str:
    return " ".join(f"{v:.4g}" for v in values)
