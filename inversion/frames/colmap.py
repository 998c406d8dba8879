"""COLMAP's sparse models, text and binary, read and written.

After "Output Format" (colmap.github.io/format.html) and "Camera Models"
(colmap.github.io/cameras.html). Poses there are world-to-camera, a quaternion with its real part
first and a translation, of OpenCV's camera axes. A model is the files `cameras` and `images`, with
`.bin` or `.txt`; points are not needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from eg3d_jax.errors import InputError
from inversion.files import write_atomically
from inversion.frames.labels import as_number, plain_name, shorten
from inversion.frames.scene import (
    DISTORTION,
    FISHEYE_DISTORTION,
    Lens,
    Scene,
    find_picture,
    sorted_scene,
    without_zeros,
)

# Where models lie below the folder of a project: in folders with a number, or a single one.
MODELS = ("sparse/*", "sparse", "colmap/sparse/*", "")


@dataclass(frozen=True)
class _Model:
    """A camera model: its number in binary files, and what its parameters are in turn."""

    number: int
    parameters: tuple[str, ...]
    fisheye: bool = False


_SIMPLE, _FULL = ("f", "cx", "cy"), ("fx", "fy", "cx", "cy")
_KNOWN = {
    "SIMPLE_PINHOLE": _Model(0, _SIMPLE),
    "PINHOLE": _Model(1, _FULL),
    "SIMPLE_RADIAL": _Model(2, (*_SIMPLE, "k1")),
    "RADIAL": _Model(3, (*_SIMPLE, "k1", "k2")),
    "OPENCV": _Model(4, (*_FULL, "k1", "k2", "p1", "p2")),
    "OPENCV_FISHEYE": _Model(5, (*_FULL, "k1", "k2", "k3", "k4"), fisheye=True),
    "FULL_OPENCV": _Model(6, (*_FULL, "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")),
    "SIMPLE_RADIAL_FISHEYE": _Model(8, (*_SIMPLE, "k1"), fisheye=True),
    "RADIAL_FISHEYE": _Model(9, (*_SIMPLE, "k1", "k2"), fisheye=True),
}
_NAMES = {model.number: name for name, model in _KNOWN.items()}


def find_model(folder: Path) -> Path | None:
    """The folder of a COLMAP model in a project's folder, or in that of the model itself."""
    for below in MODELS:
        places = _numbered(folder / below[:-2]) if below.endswith("/*") else [folder / below]
        models = [place for place in places if _ending(place)]
        if models:
            return max(models, key=_size)  # the first of several that are as large
    return None


def _numbered(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in found if path.name.isdigit()), key=lambda path: int(path.name))


def _ending(folder: Path) -> str:
    """Of a model's files, those of COLMAP's choice; '' if there is no model."""
    for ending in (".bin", ".txt"):
        if all((folder / f"{name}{ending}").is_file() for name in ("cameras", "images")):
            return ending
    return ""


def _size(model: Path) -> int:
    """Bytes of the images, of which several models of a project have more and fewer."""
    return (model / f"images{_ending(model)}").stat().st_size


def read_colmap(folder: Path) -> Scene:
    """Read a model and find its pictures, in a folder images beside or above it.

    Of a model in both forms the binary one is read, as COLMAP does.

    Raises:
      InputError: if there is none, a file is damaged, or a camera's model is unknown.
    """
    found = find_model(folder)
    if found is None:
        raise InputError(f"{folder} holds no COLMAP model: cameras.bin and images.bin, or .txt")
    ending = _ending(found)
    binary = ending == ".bin"
    cameras_path, images_path = found / f"cameras{ending}", found / f"images{ending}"
    lenses = dict(_binary_cameras(cameras_path) if binary else _text_cameras(cameras_path))
    images = list(_binary_images(images_path) if binary else _text_images(images_path))
    names, poses, used = [], [], []
    for name, numbers, camera in images:
        if camera not in lenses:
            raise InputError(
                f"{images_path}: {name} is by camera {camera}, which {cameras_path.name} lacks; "
                "export the model again"
            )
        names.append(plain_name(name))
        poses.append(_cam2world(f"{images_path}: {name}", numbers))
        used.append(lenses[camera])
    around = [p / "images" for p in (found, *found.absolute().parents[:3])]
    return sorted_scene(
        Scene(
            source=found,
            form="COLMAP",
            names=tuple(names),
            cam2world=np.stack(poses) if poses else np.zeros((0, 4, 4)),
            lenses=tuple(used),
            pictures=tuple(find_picture(name, [*around, found, folder]) for name in names),
            notes=_told_of_others(found),
        )
    )


def _told_of_others(model: Path) -> tuple[str, ...]:
    """COLMAP makes several models of pictures that it cannot join."""
    beside = _numbered(model.absolute().parent) if model.name.isdigit() else []
    others = [path.name for path in beside if path.name != model.name and _ending(path)]
    if not others:
        return ()
    return (f"of several models {model} is taken, the largest; {', '.join(others)} are left",)


def write_colmap(folder: Path, scene: Scene, *, binary: bool = True) -> None:
    """Write a model without points: cameras, images and points3D.

    Args:
      folder: of the model, which is there.
      scene: whose names are the pictures', from the folder images.
      binary: or text.
    """
    lenses = list(dict.fromkeys(scene.lenses))
    number_of = {lens: i + 1 for i, lens in enumerate(lenses)}
    cameras = [(number_of[lens], *_parameters(lens), lens) for lens in lenses]
    world2cam = np.linalg.inv(scene.cam2world)
    quaternions = Rotation.from_matrix(world2cam[:, :3, :3]).as_quat(canonical=True)
    poses = np.concatenate([quaternions[:, [3, 0, 1, 2]], world2cam[:, :3, 3]], axis=1)
    images = [
        (i + 1, pose.tolist(), number_of[lens], name)
        for i, (pose, lens, name) in enumerate(zip(poses, scene.lenses, scene.names, strict=True))
    ]
    files = _binary_model(cameras, images) if binary else _text_model(cameras, images)
    for name, content in files.items():
        write_atomically(folder / name, content)


def _binary_model(cameras: Sequence[tuple], images: Sequence[tuple]) -> dict[str, bytes]:
    parts = [struct.pack("<Q", len(cameras))]
    for number, model, values, lens in cameras:
        parts.append(
            struct.pack(
                "<IiQQ", number, _KNOWN[model].number, round(lens.width), round(lens.height)
            )
        )
        parts.append(struct.pack(f"<{len(values)}d", *values))
    shown = [struct.pack("<Q", len(images))]
    for number, pose, camera, name in images:
        shown.append(struct.pack("<I7dI", number, *pose, camera))
        shown.append(name.encode() + b"\0" + struct.pack("<Q", 0))
    return {
        "cameras.bin": b"".join(parts),
        "images.bin": b"".join(shown),
        "points3D.bin": struct.pack("<Q", 0),
    }


def _text_model(cameras: Sequence[tuple], images: Sequence[tuple]) -> dict[str, bytes]:
    lines = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for number, model, values, lens in cameras:
        size = f"{round(lens.width)} {round(lens.height)}"
        lines.append(f"{number} {model} {size} {' '.join(map(repr, values))}")
    shown = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME; then a line of points"]
    for number, pose, camera, name in images:
        shown += [f"{number} {' '.join(map(repr, pose))} {camera} {name}", ""]
    points = ["# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[]"]
    files = {"cameras.txt": lines, "images.txt": shown, "points3D.txt": points}
    return {name: ("\n".join(text) + "\n").encode() for name, text in files.items()}


def _parameters(lens: Lens) -> tuple[str, list[float]]:
    """Name the model of a lens, and list its parameters."""
    order = FISHEYE_DISTORTION if lens.fisheye else DISTORTION
    bent = dict(zip(order, lens.distortion, strict=False))
    if lens.fisheye:
        model = "OPENCV_FISHEYE"
    elif not any(lens.distortion):
        model = "PINHOLE"
    else:
        model = "OPENCV" if not any(lens.distortion[4:]) else "FULL_OPENCV"
    known = {"fx": lens.fx, "fy": lens.fy, "cx": lens.cx, "cy": lens.cy}
    values = known | dict.fromkeys(order, 0.0) | bent
    return model, [float(values[name]) for name in _KNOWN[model].parameters]


def _lens(where: str, model: str, size: tuple[float, float], values: Sequence[float]) -> Lens:
    known = _model(where, model)
    if len(values) != len(known.parameters):
        raise InputError(
            f"{where}: a {model} has {len(known.parameters)} parameters, not {len(values)}; "
            "export the model again"
        )
    named = dict(zip(known.parameters, map(float, values), strict=True))
    order = FISHEYE_DISTORTION if known.fisheye else DISTORTION
    focal = named.get("f", 0.0)
    return Lens(
        width=float(size[0]),
        height=float(size[1]),
        fx=named.get("fx", focal),
        fy=named.get("fy", focal),
        cx=named["cx"],
        cy=named["cy"],
        distortion=without_zeros([named.get(name, 0.0) for name in order]),
        fisheye=known.fisheye,
    )


def _model(where: str, model: str) -> _Model:
    if model not in _KNOWN:
        raise InputError(
            f"{where}: the camera model {model} is not known here ({', '.join(_KNOWN)} are); "
            "undistort the pictures by `colmap image_undistorter`, and give its output"
        )
    return _KNOWN[model]


def _cam2world(where: str, numbers: Sequence[float]) -> np.ndarray:
    """Invert a pose of seven numbers, quaternion and translation."""
    values = np.array(numbers, np.float64)
    length = np.linalg.norm(values[:4])
    if not np.isfinite(values).all() or not 1e-6 < length < 1e6 or np.abs(values).max() > 1e30:
        raise InputError(f"{where}: the pose is no quaternion and translation; export it again")
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(values[[1, 2, 3, 0]]).as_matrix().T
    pose[:3, 3] = -pose[:3, :3] @ values[4:]
    return pose


# Text.


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); export the model again") from None


def _text_cameras(path: Path) -> Iterator[tuple[int, Lens]]:
    for line in _lines(path):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 5:
            raise _broken(path, line)
        number, width, height, *values = _numbers(path, line, [words[0], *words[2:]])
        yield int(number), _lens(f"{path}: camera {words[0]}", words[1], (width, height), values)


def _text_images(path: Path) -> Iterator[tuple[str, list[float], int]]:
    lines = iter(_lines(path))
    for line in lines:
        words = line.split(maxsplit=9)
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 10:
            raise _broken(path, line)
        _, *pose, camera = _numbers(path, line, words[:9])
        _check_points(path, line, next(lines, ""))
        yield words[9].strip(), pose, int(camera)


def _check_points(path: Path, line: str, points: str) -> None:
    """Refuse a file whose images are not each followed by a line of points, which may be empty."""
    words = points.split()
    # Three numbers a point; the first ones will do.
    if len(words) % 3 or any(as_number(word) is None for word in words[:12]):
        raise InputError(
            f"{path} has no line of points, which may be empty, behind {shorten(line, 60)}; export "
            "it again"
        )


def _numbers(path: Path, line: str, words: Sequence[str]) -> list[float]:
    found = [as_number(word) for word in words]
    if any(value is None or not abs(value) < 1e30 for value in found):
        raise _broken(path, line)
    return [value for value in found if value is not None]


def _broken(path: Path, line: str) -> InputError:
    return InputError(
        f"{path} has a line that is no camera or image: {shorten(line, 60)}; export it again"
    )


# Binary; little endian.


class _Bytes:
    """A file's content, read from the start on."""

    def __init__(self, path: Path):
        self._path, self._place = path, 0
        try:
            self._content = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from None

    def take(self, form: str) -> tuple:
        """The next values, in the notation of `struct`."""
        size = struct.calcsize(f"<{form}")
        self._need(size)
        values = struct.unpack_from(f"<{form}", self._content, self._place)
        self._place += size
        return values

    def skip(self, size: int) -> None:
        """Pass over bytes."""
        self._need(size)
        self._place += size

    def text(self) -> str:
        """The next text, which a zero ends."""
        end = self._content.find(b"\0", self._place)
        self._need(1 if end >= 0 else len(self._content) + 1)
        text = self._content[self._place : end].decode("utf-8", errors="replace")
        self._place = end + 1
        return text

    def _need(self, size: int) -> None:
        if self._place + size > len(self._content):
            raise InputError(f"{self._path} is cut off or damaged; copy or export it again")


def _binary_cameras(path: Path) -> Iterator[tuple[int, Lens]]:
    content = _Bytes(path)
    for _ in range(content.take("Q")[0]):
        number, model, width, height = content.take("IiQQ")
        where = f"{path}: camera {number}"
        name = _NAMES.get(model, f"number {model}")
        values = content.take(f"{len(_model(where, name).parameters)}d")
        yield number, _lens(where, name, (width, height), values)


def _binary_images(path: Path) -> Iterator[tuple[str, list[float], int]]:
    content = _Bytes(path)
    for _ in range(content.take("Q")[0]):
        _, *pose, camera = content.take("I7dI")
        name = content.text()
        content.skip(24 * content.take("Q")[0])
        yield name, pose, camera
