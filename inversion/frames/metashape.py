"""Cameras exported by Agisoft Metashape as XML (File > Export > Export Cameras), read.

After "Camera models" in the appendix of Metashape's user manual: camera-to-world in OpenCV's camera
axes; the principal point is given from the picture's middle; Brown's distortion, whose p1 and p2
are OpenCV's p2 and p1, or a fisheye on which angles are lengths. The world of a chunk does not
matter here, as another similarity follows.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from eg3d_jax.errors import InputError
from inversion.frames.labels import as_number, plain_name
from inversion.frames.scene import Lens, Scene, find_picture, sorted_scene, without_zeros

_LEAST_SKEW = 1e-3  # of the focal length


def find_metashape(folder: Path) -> Path | None:
    """The file of cameras in a folder, if there is one."""
    for path in sorted(folder.glob("*.xml")):
        try:
            with path.open("rb") as file:
                start = file.read(4096)
        except OSError:
            continue
        if b"<document" in start and b"<chunk" in start:
            return path
    return None


def read_metashape(path: Path) -> Scene:
    """Read cameras and find their pictures, beside the file or in a folder images there.

    Pictures that were not aligned are left out, with a note, as are those of smaller components.

    Raises:
      InputError: if the file has another form, or a lens that OpenCV does not know.
    """
    chunks = [chunk for chunk in _parse(path).iter("chunk") if chunk.find(".//camera") is not None]
    if not chunks:
        raise InputError(f"{path} has no chunk with cameras; export cameras as XML again")
    chunk, notes = chunks[0], []
    if len(chunks) > 1:
        notes.append(f"the first of {len(chunks)} chunks is taken; export another one by itself")
    cameras = list(chunk.iter("camera"))
    sensors = {sensor.get("id"): sensor for sensor in chunk.iter("sensor")}
    aligned = [camera for camera in cameras if _text(camera, "transform")]
    parts = Counter(camera.get("component_id") for camera in aligned)
    if len(aligned) < len(cameras):
        notes.append(f"{len(cameras) - len(aligned)} pictures were not aligned, and are left out")
    if len(parts) > 1:
        largest = parts.most_common(1)[0][0]
        apart = [camera for camera in aligned if camera.get("component_id") != largest]
        aligned = [camera for camera in aligned if camera not in apart]
        notes.append(f"{len(apart)} pictures of other components are left out")
    names, poses, lenses = [], [], []
    for camera in aligned:
        name = plain_name(camera.get("label") or "")
        if not name:
            raise InputError(f"{path} has a camera without a label; export the cameras again")
        sensor = sensors.get(camera.get("sensor_id"))
        if sensor is None:
            raise InputError(f"{path}: {name} has no sensor; export the cameras again")
        names.append(name)
        poses.append(_pose(f"{path}: {name}", _text(camera, "transform")))
        lenses.append(_lens(f"{path}: sensor {sensor.get('id')}", sensor))
    return sorted_scene(
        Scene(
            source=path,
            form="Metashape",
            names=tuple(names),
            cam2world=np.stack(poses) if poses else np.zeros((0, 4, 4)),
            lenses=tuple(lenses),
            pictures=tuple(find_picture(name, [path.parent]) for name in names),
            notes=tuple(notes),
        )
    )


def _parse(path: Path) -> ElementTree.Element:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    # Entities of a document of its own could grow without end; Metashape writes none.
    if any(mark in content for mark in (b"<!DOCTYPE", b"<!ENTITY", b"\0")):  # UTF-16 has zeros
        raise InputError(
            f"{path} defines a document type, which Metashape does not; export the cameras again"
        )
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path} is no XML that can be read ({error}); export it again") from None


def _text(element: ElementTree.Element, name: str) -> str:
    return (element.findtext(name) or "").strip()


def _pose(where: str, text: str) -> np.ndarray:
    values = [as_number(word) for word in text.split()]
    if len(values) != 16 or any(v is None or not abs(v) < 1e30 for v in values):
        raise InputError(f"{where}: transform is not 16 finite numbers; export the cameras again")
    return np.array(values, np.float64).reshape(4, 4)


def _lens(where: str, sensor: ElementTree.Element) -> Lens:
    kind = sensor.get("type", "frame")
    if kind not in ("frame", "fisheye"):
        raise InputError(
            f"{where} is of type {kind}; only frame and fisheye cameras are known here, so convert "
            "the pictures first"
        )
    found = list(sensor.iter("calibration"))
    adjusted = [c for c in found if c.get("class") == "adjusted"] or found
    size = sensor.find("resolution")
    if not adjusted or size is None:
        raise InputError(f"{where} has no calibration with a resolution; align the pictures first")
    calibration = adjusted[-1]

    def value(name: str, text: str | None = None) -> float:
        text = _text(calibration, name) if text is None else text
        number = as_number(text) if text else 0.0
        if number is None or not abs(number) < 1e30:
            raise InputError(f"{where}: {name} is {text!r}; it must be a finite number")
        return number

    width, height = value("width", size.get("width")), value("height", size.get("height"))
    focal = value("f")
    if not focal and value("fx"):  # with the principal point from the corner, too
        raise InputError(
            f"{where} is of PhotoScan's first releases; open the project in a newer one, and "
            "export the cameras again"
        )
    k1, k2, k3, k4, p1, p2 = (value(name) for name in ("k1", "k2", "k3", "k4", "p1", "p2"))
    fisheye = kind == "fisheye"
    skewed = abs(value("b2")) > _LEAST_SKEW * abs(focal)
    further = any(value(name) for name in ("p3", "p4"))
    if skewed or further or (fisheye and (p1 or p2)) or (not fisheye and k4):
        raise InputError(
            f"{where} has coefficients that OpenCV does not know (b2, p3, p4, k4 or, of a fisheye, "
            "p1 and p2); optimise the cameras without them, or undistort the photos in Metashape"
        )
    distortion = [k1, k2, k3, k4] if fisheye else [k1, k2, p2, p1, k3]
    return Lens(
        width=width,
        height=height,
        fx=focal + value("b1"),
        fy=focal,
        cx=width / 2 + value("cx"),
        cy=height / 2 + value("cy"),
        distortion=without_zeros(distortion),
        fisheye=fisheye,
    )
