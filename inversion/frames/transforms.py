"""`transforms.json` of NeRF, instant-ngp, nerfstudio, Blender and VHAP: read and written.

`{"frames": [{"file_path": "a.png", "transform_matrix": 4 x 4}, ...]}`: camera-to-world with
OpenGL's camera axes, x right, y up and looking along -z, which become OpenCV's (x right, y down,
z forward). The focal length is `fl_x` with `w`, in pixels, or `camera_angle_x`; numbers hold for
all frames at the top, and for one in it. nerfstudio's "Data conventions" page
(docs.nerf.studio/quickstart/data_conventions.html) names the lenses and their coefficients;
instant-ngp's `docs/nerf_dataset_tips.md` the others. VHAP (`export_as_nerf_dataset.py` there) adds
`timestep_index`, `camera_index` and `fg_mask_path`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eg3d_jax.errors import InputError
from inversion.files import write_atomically
from inversion.frames.labels import (
    as_number,
    check_distinct,
    plain_name,
    read_json,
    shorten,
)
from inversion.frames.scene import (
    DISTORTION,
    FISHEYE_DISTORTION,
    Lens,
    Scene,
    find_picture,
    picture_size,
    sorted_scene,
    without_zeros,
)

# Right-multiplied: OpenGL's camera axes to OpenCV's, and back.
FLIP_AXES = np.diag([1.0, -1.0, -1.0, 1.0])
TRANSFORMS = ("transforms.json", "transforms_train.json")
_PARTS = ("transforms_train.json", "transforms_val.json", "transforms_test.json")
PINHOLES = frozenset(
    ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "FULL_OPENCV", "RADIAL", "SIMPLE_RADIAL", "PERSPECTIVE")
)
FISHEYES = frozenset(("OPENCV_FISHEYE", "FISHEYE"))
# Words of instant-ngp for lenses that are no pinhole; true, or a number other than 0.
FISHEYE_WORDS = ("is_fisheye", "fisheye")
OTHER_WORDS = ("is_equirectangular", "equirectangular", "latlong", "orthographic", "ftheta_p0")
# nerfstudio's order in `distortion_params`; its k4 of a pinhole is not OpenCV's.
_NERFSTUDIO: tuple[str, ...] = ("k1", "k2", "k3", "k4", "p1", "p2")
# What programs keep there for their own renderers.
_IGNORED = {
    "aabb_scale": "the box of instant-ngp's renderer",
    "scale": "instant-ngp's own scale",
    "offset": "instant-ngp's own offset",
    "applied_transform": "which nerfstudio has put into the matrices already",
    "applied_scale": "which nerfstudio has put into the matrices already",
}


def read_transforms(path: Path) -> Scene:
    """Read cameras and find their pictures; paths are relative to the file's folder.

    Raises:
      InputError: if the file has another form, names a frame twice, or has a lens that is unknown.
    """
    content = read_json(path)
    if not isinstance(content, dict) or "frames" not in content:
        raise InputError(f"{path} has no frames, and so is no transforms.json; give one")
    frames = frames_of(path, content)
    folder = path.parent
    pictures, masks, lenses = [], [], []
    for name, values in frames.items():
        where = f"{path}: {name}"
        named = values.get("file_path")
        picture = find_picture(plain_name(named), [folder]) if isinstance(named, str) else None
        pictures.append(picture)
        if "w" not in values and picture is not None:
            values = dict(zip(("w", "h"), picture_size(picture), strict=True)) | values
        lenses.append(lens_of(where, values))
        mask = values.get("fg_mask_path", values.get("mask_path"))
        found = find_picture(plain_name(mask), [folder]) if isinstance(mask, str) else None
        # By its last name alone it may be the picture itself.
        masks.append(None if found == picture else found)
    notes = [
        f"{key} of {path.name} is ignored, {why}" for key, why in _IGNORED.items() if key in content
    ]
    others = [name for name in _PARTS if name != path.name and (folder / name).is_file()]
    if path.name in _PARTS and others:
        notes.append(f"the frames of {' and '.join(others)} are left; name such a file for its own")
    return sorted_scene(
        Scene(
            source=path,
            form=path.name,
            names=tuple(frames),
            cam2world=np.stack([matrix_of(f"{path}: {n}", v) for n, v in frames.items()]),
            lenses=tuple(lenses),
            pictures=tuple(pictures),
            masks=tuple(masks),
            timesteps=_timesteps(path, frames),
            notes=tuple(notes),
        )
    )


def write_transforms(path: Path, scene: Scene, *, below: str = "") -> None:
    """Write cameras as nerfstudio and instant-ngp read them, pictures by their names.

    Args:
      path: of the file.
      scene: the cameras.
      below: folder beside the file in which the pictures lie, if not there.
    """
    frames = []
    for name, pose, lens in zip(scene.names, scene.cam2world, scene.lenses, strict=True):
        order = FISHEYE_DISTORTION if lens.fisheye else DISTORTION
        frames.append(
            {
                "file_path": f"{below}/{name}" if below else name,
                "fl_x": lens.fx,
                "fl_y": lens.fy,
                "cx": lens.cx,
                "cy": lens.cy,
                "w": _whole(lens.width),
                "h": _whole(lens.height),
                "camera_angle_x": 2 * math.atan(lens.width / 2 / lens.fx),
                **dict(zip(order, lens.distortion, strict=False)),
                "transform_matrix": (pose @ FLIP_AXES).tolist(),
            }
        )
    fisheye = all(lens.fisheye for lens in scene.lenses)
    content: dict[str, Any] = {"camera_model": "OPENCV_FISHEYE" if fisheye else "OPENCV"}
    # Readers that know one lens for all look for it at the top.
    if len(set(scene.lenses)) == 1:
        shared = [key for key in frames[0] if key not in ("file_path", "transform_matrix")]
        content |= {key: frames[0][key] for key in shared}
        frames = [{k: v for k, v in frame.items() if k not in shared} for frame in frames]
    content["frames"] = frames
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def frames_of(path: Path, content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """List the frames of a file that has been read, by name, with what holds for all of them.

    They are called by their `file_path`, or by their numbers if not all have one or all have the
    same; they stay in the file's order.

    Raises:
      InputError: if there are none, or two have one name.
    """
    frames = content["frames"]
    if not isinstance(frames, list) or not frames:
        raise InputError(f"{path} holds no frames; it must list one for each camera")
    for number, frame in enumerate(frames):
        if not isinstance(frame, dict):
            raise InputError(
                f"{path}: frame {number} is no object with a transform_matrix; export it again"
            )
    shared = {key: value for key, value in content.items() if key not in ("frames", "file_path")}
    names = _names(path, frames)
    # A frame's own numbers go first.
    return {name: {**shared, **frame} for name, frame in zip(names, frames, strict=True)}


def _names(path: Path, frames: Sequence[dict[str, Any]]) -> list[str]:
    paths = [frame.get("file_path") for frame in frames]
    names = [plain_name(p) for p in paths if isinstance(p, str) and plain_name(p)]
    if len(names) < len(frames) or len(set(names)) == 1 < len(frames):
        return [f"frame {number}" for number in range(len(frames))]
    check_distinct(path, names)
    return names


def _timesteps(path: Path, frames: Mapping[str, Mapping[str, Any]]) -> tuple[int, ...]:
    if not all("timestep_index" in values for values in frames.values()):
        return ()
    return tuple(
        int(number(f"{path}: {name}", values, "timestep_index", 0))
        for name, values in frames.items()
    )


def matrix_of(where: str, values: Mapping[str, Any]) -> np.ndarray:
    """Camera-to-world [4, 4] of a frame, with OpenCV's axes.

    Raises:
      InputError: if it is no matrix of finite numbers.
    """
    value = values.get("transform_matrix")
    rows = value if isinstance(value, list) else []
    numbers = [[as_number(v) for v in row] if isinstance(row, list) else [] for row in rows]
    square = len(numbers) in (3, 4) and all(len(row) == 4 for row in numbers)
    if not square or not all(v is not None and abs(v) < 1e30 for row in numbers for v in row):
        raise InputError(
            f"{where}: transform_matrix is not 4 x 4 finite numbers; it must be camera-to-world"
        )
    matrix = np.array(numbers, np.float64)
    whole = matrix if len(matrix) == 4 else np.vstack([matrix, [0.0, 0.0, 0.0, 1.0]])
    return whole @ FLIP_AXES


def lens_of(where: str, values: Mapping[str, Any]) -> Lens:
    """The lens of a frame; of a picture one wide if the frame does not tell its size.

    Raises:
      InputError: if a number is missing or wrong, or the lens is of an unknown kind.
    """
    width = number(where, values, "w", 1.0)
    height = number(where, values, "h", width)
    if min(width, height) <= 0:
        raise InputError(f"{where}: w is {width:g} and h is {height:g}; they must be positive")
    focal_x, focal_y = _focal(where, values, "x", width), _focal(where, values, "y", height)
    focal_x = focal_y if focal_x is None else focal_x
    focal_y = focal_x if focal_y is None else focal_y
    if focal_x is None or focal_y is None:
        raise InputError(
            f"{where} has no focal length; give camera_angle_x in radians, or fl_x and w in pixels"
        )
    fisheye = _is_fisheye(where, values)
    return Lens(
        width=width,
        height=height,
        fx=focal_x,
        fy=focal_y,
        cx=number(where, values, "cx", width / 2),
        cy=number(where, values, "cy", height / 2),
        distortion=_distortion(where, values, FISHEYE_DISTORTION if fisheye else DISTORTION),
        fisheye=fisheye,
    )


def _is_fisheye(where: str, values: Mapping[str, Any]) -> bool:
    model = values.get("camera_model", "PINHOLE")
    name = model.upper() if isinstance(model, str) else ""
    if name not in PINHOLES | FISHEYES:
        raise unknown_lens(where, "camera_model", model)
    if word := word_of(values, OTHER_WORDS):
        raise unknown_lens(where, word, values[word])
    return name in FISHEYES or bool(word_of(values, FISHEYE_WORDS))


def unknown_lens(where: str, key: str, value: object) -> InputError:
    """The error of a lens that is neither a pinhole nor distorted in a known way."""
    return InputError(
        f"{where}: {key} is {shorten(value)}; only pinhole cameras can be rendered, so "
        "undistort the pictures and export their cameras again"
    )


def word_of(values: Mapping[str, Any], words: Sequence[str]) -> str:
    """The first of some keys whose value says yes; '' if none does."""
    for key in words:
        value = values.get(key, False)
        if value and str(value).strip().lower() not in ("false", "0", "no", ""):
            return key
    return ""


def _distortion(where: str, values: Mapping[str, Any], order: Sequence[str]) -> tuple[float, ...]:
    found = [number(where, values, key, 0.0) for key in order]
    if any(found):
        return without_zeros(found)
    if isinstance(listed := values.get("distortion"), list):  # in OpenCV's order
        found = _numbers(where, "distortion", listed)
        if len(without_zeros(found)) > len(order):
            raise unknown_lens(where, "distortion", found)
    elif isinstance(listed := values.get("distortion_params"), list):
        named = dict(zip(_NERFSTUDIO, _numbers(where, "distortion_params", listed), strict=False))
        known = set(order) if order == FISHEYE_DISTORTION else set(order) - {"k4"}
        if len(listed) > len(_NERFSTUDIO) or any(v for k, v in named.items() if k not in known):
            raise unknown_lens(where, "distortion_params", listed)
        found = [named.get(key, 0.0) for key in order]
    return without_zeros(found)


def _numbers(where: str, key: str, listed: Sequence[Any]) -> list[float]:
    found = [as_number(value) for value in listed]
    if any(value is None or not abs(value) < 1e30 for value in found):
        raise InputError(f"{where}: {key} is {shorten(listed)}; it must be finite numbers")
    return [value for value in found if value is not None]


def _focal(where: str, values: Mapping[str, Any], axis: str, extent: float) -> float | None:
    """Focal length in the unit of `extent`, from fl_* or camera_angle_*; None if not given."""
    if f"fl_{axis}" in values:
        return number(where, values, f"fl_{axis}", 0.0)
    key = f"camera_angle_{axis}"
    if key not in values:
        return None
    angle = number(where, values, key, 0.0)
    if not 0 < angle < math.pi:
        raise InputError(f"{where}: {key} is {angle:g}; it must be radians between 0 and pi")
    return extent / 2 / math.tan(angle / 2)


def number(where: str, values: Mapping[str, Any], key: str, default: float) -> float:
    """A number of a frame.

    Raises:
      InputError: if it is none, or not finite.
    """
    value = values.get(key, default)
    found = as_number(value)
    if found is None or not abs(found) < 1e30:
        raise InputError(f"{where}: {key} is {shorten(value)}; it must be a finite number")
    return found


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value
