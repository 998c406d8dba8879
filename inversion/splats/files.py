"""Files of Gaussians: the reference implementation's `.ply` and Niantic's `.spz`.

Both hold metres. A `.ply` has the axes of the reference implementation, x right, y down and z
forward for a camera in front of the face, which viewers turn upright; an `.spz` has those that its
format prescribes, x right, y up, z backward, which are EG3D's own. So from world to file nothing
turns but signs of y and z. `.splat` is what pages show: the axes of a `.ply`, any unit.

In memory a splat is its fields by name, as `inversion.splats.gaussians.Gaussians` describes them.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from eg3d_jax.errors import InputError
from inversion.files import write_atomically

Fields = Mapping[str, np.ndarray]

# Signs that half a turn about x gives to what a file holds. Harmonics are by degree; those of the
# world are told in the axes of a `.ply` (`harmonic_basis`), so that only `.spz` needs them.
_TURN_POINT, _TURN_ROTATION = np.array([1, -1, -1]), np.array([1, 1, -1, -1])
_TURN_HARMONICS = np.array([1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1])


def write_splat(path: Path, fields: Fields, metres: float) -> Path:
    """Write Gaussians as `.ply` or `.spz`, by the suffix.

    Args:
      path: of the file.
      fields: of `Gaussians`, in world units.
      metres: of a world unit.

    Raises:
      InputError: if the suffix is none of these, or a number is not finite.
    """
    encode = {".ply": ply_bytes, ".spz": spz_bytes}.get(path.suffix)
    if encode is None:
        raise InputError(f"{path}: a splat is written as .ply or .spz; choose one of these")
    for name, values in fields.items():
        if not np.isfinite(values).all():
            raise InputError(f"{path}: {name} holds numbers that are not finite; fit it again")
    return write_atomically(path, encode(_scaled(fields, metres)))


def read_splat(path: Path, metres: float) -> dict[str, np.ndarray]:
    """Read what `write_splat` wrote, or another program, as `.ply` or `.spz`.

    Args:
      path: of the file.
      metres: of the world unit in which the fields are wanted.

    Raises:
      InputError: if it cannot be read, or is damaged or something else.
    """
    decode = {".ply": _from_ply, ".spz": _from_spz}.get(path.suffix)
    if decode is None:
        raise InputError(f"{path}: a splat is read from .ply or .spz; choose one of these")
    try:
        scaled = _scaled(decode(path.read_bytes()), 1 / metres)
    except (OSError, EOFError, ValueError, KeyError, struct.error, zlib.error) as error:
        raise InputError(f"{path} is no complete splat ({error}); write it again") from None
    return {name: np.asarray(values, np.float32) for name, values in scaled.items()}


def _scaled(fields: Fields, factor: float) -> dict[str, np.ndarray]:
    """Fields in another unit, with quaternions of unit length; still y up."""
    rotations = np.asarray(fields["rotations"], np.float64)
    return {
        **fields,
        "centres": fields["centres"] * factor,
        "log_scales": fields["log_scales"] + math.log(factor),
        "rotations": rotations / np.linalg.norm(rotations, axis=-1, keepdims=True),
    }


def ply_names(degree: int) -> list[str]:
    """Properties of a `.ply` in the order of the reference implementation."""
    rest = 3 * ((degree + 1) ** 2 - 1)
    return [
        *"xyz", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(rest)), "opacity", *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]  # fmt: skip


def ply_bytes(fields: Fields) -> bytes:
    """Encode fields in metres as the reference implementation does.

    Binary, little-endian float32: position, a normal of zeros, harmonics (of degree 0, then the
    others of red, of green, of blue), logit of the opacity, logarithms of the scales, and the
    quaternion with w first.
    """
    harmonics = fields["harmonics"]
    count, names = len(harmonics), ply_names(math.isqrt(harmonics.shape[1]) - 1)
    columns = np.concatenate(
        [
            fields["centres"] * _TURN_POINT,
            np.zeros((count, 3)),
            harmonics[:, 0],
            harmonics[:, 1:].transpose(0, 2, 1).reshape(count, -1),
            fields["opacity_logits"][:, None],
            fields["log_scales"],
            fields["rotations"] * _TURN_ROTATION,
        ],
        axis=1,
    )
    header = [
        "ply", "format binary_little_endian 1.0", "comment metres; x right, y down, z forward",
        f"element vertex {count}", *(f"property float {name}" for name in names), "end_header",
    ]  # fmt: skip
    return ("\n".join(header) + "\n").encode() + columns.astype("<f4").tobytes()


def _from_ply(content: bytes) -> dict[str, np.ndarray]:
    header, mark, body = content.partition(b"end_header\n")
    text = header.decode("ascii")
    if not mark or not text.startswith("ply\nformat binary_little_endian 1.0\n"):
        raise ValueError("not a ply of little-endian binary numbers")
    elements = re.findall(r"^element (\S+) (\d+)$", text, re.MULTILINE)
    names = re.findall(r"^property float (\S+)$", text, re.MULTILINE)
    if len(elements) != 1 or text.count("\nproperty ") != len(names):
        raise ValueError("it has more than one element of float properties")
    rows = np.frombuffer(body, "<f4")
    if rows.size != int(elements[0][1]) * len(names):
        raise ValueError(f"{rows.size} numbers for {elements[0][1]} times {len(names)}")
    columns = dict(zip(names, rows.reshape(-1, len(names)).T, strict=True))

    def gather(prefix: str, count: int) -> np.ndarray:
        return np.stack([columns[f"{prefix}{i}"] for i in range(count)], axis=-1)

    rest = sum(name.startswith("f_rest_") for name in names)
    harmonics = [gather("f_dc_", 3)[:, None]]
    if rest:
        _degree(rest // 3)
        others = gather("f_rest_", rest).reshape(-1, 3, rest // 3)
        harmonics.append(others.transpose(0, 2, 1))
    fields = {
        "centres": np.stack([columns[name] for name in "xyz"], axis=-1) * _TURN_POINT,
        "log_scales": gather("scale_", 3),
        "rotations": gather("rot_", 4) * _TURN_ROTATION,
        "opacity_logits": columns["opacity"],
        "harmonics": np.concatenate(harmonics, axis=1),
    }
    return fields


def _degree(beyond: int) -> int:
    """Degree of so many harmonics beyond the first."""
    degree = math.isqrt(beyond + 1) - 1
    if (degree + 1) ** 2 != beyond + 1 or degree > 3:
        raise ValueError(f"{beyond} harmonics beyond the first are none of 0, 3, 8 and 15")
    return degree


# SPZ (github.com/nianticlabs/spz), version 3: gzip over a header and a block a field.
_SPZ_MAGIC, _SPZ_VERSION = 0x5053474E, 3
_SPZ_BITS = 18  # of the fraction of a coordinate: 4 micrometres, up to 32 metres
_SPZ_COLOUR = 0.15
_SPZ_LEAST_SCALE, _SPZ_SCALE_STEPS = -10.0, 16.0
_SPZ_LARGEST_PART = 511 / math.sqrt(0.5)  # a quaternion's three smaller parts, 9 bits and a sign


def spz_bytes(fields: Fields) -> bytes:
    """Encode fields in metres as SPZ: about a sixth of a `.ply`, by fixed-point numbers and gzip.

    Coordinates of 24 bits, opacity, colours, scales and harmonics of 8, quaternions of 32.
    """
    harmonics = fields["harmonics"]
    count, beyond = len(harmonics), harmonics.shape[1] - 1
    fixed = np.round(fields["centres"] * 2.0**_SPZ_BITS).astype("<i4")
    turned = harmonics[:, 1:] * _TURN_HARMONICS[1 : beyond + 1, None]
    blocks = [
        struct.pack("<3I4B", _SPZ_MAGIC, _SPZ_VERSION, count, _degree(beyond), _SPZ_BITS, 0, 0),
        fixed[..., None].view(np.uint8)[..., :3].tobytes(),
        _byte(255 / (1 + np.exp(-fields["opacity_logits"].astype(np.float64)))),
        _byte((harmonics[:, 0] * _SPZ_COLOUR + 0.5) * 255),
        _byte((fields["log_scales"] - _SPZ_LEAST_SCALE) * _SPZ_SCALE_STEPS),
        _pack_rotations(fields["rotations"]).tobytes(),
        _byte(turned * 128 + 128),
    ]
    return gzip.compress(b"".join(blocks), mtime=0)


def _byte(values: np.ndarray) -> bytes:
    return np.clip(np.round(values), 0, 255).astype(np.uint8).tobytes()


def _pack_rotations(rotations: np.ndarray) -> np.ndarray:
    """Unit quaternions [N, 4], w first, as 32 bits: which part is largest, and the other three."""
    parts = np.roll(rotations, -1, axis=-1)  # w last, as the format counts
    largest = np.abs(parts).argmax(-1)
    parts = parts * np.where(np.take_along_axis(parts, largest[:, None], -1) < 0, -1, 1)
    packed = largest.astype("<u4")
    for index in range(4):
        part = parts[:, index]
        size = np.minimum(np.abs(part) * _SPZ_LARGEST_PART + 0.5, 511).astype("<u4")
        longer = (packed << 10) | ((part < 0).astype("<u4") << 9) | size
        packed = np.where(largest == index, packed, longer)
    return packed


def _unpack_rotations(packed: np.ndarray) -> np.ndarray:
    largest = packed >> 30
    parts = np.zeros((len(packed), 4))
    for index in (3, 2, 1, 0):
        size = (packed & 511) / _SPZ_LARGEST_PART
        stored = largest != index
        parts[stored, index] = np.where(packed & 512, -size, size)[stored]
        packed = np.where(stored, packed >> 10, packed)
    left = np.sqrt(np.maximum(1 - np.sum(parts**2, axis=-1), 0))
    np.put_along_axis(parts, largest[:, None].astype(np.int64), left[:, None], -1)
    return np.roll(parts, 1, axis=-1)


def _from_spz(content: bytes) -> dict[str, np.ndarray]:
    content = gzip.decompress(content)
    magic, version, count, degree, bits, flags, _ = struct.unpack_from("<3I4B", content)
    if (magic, version) != (_SPZ_MAGIC, _SPZ_VERSION) or degree > 3 or flags & ~1:
        raise ValueError(f"not spz of version {_SPZ_VERSION} without extensions")
    beyond = (degree + 1) ** 2 - 1
    sizes = [9 * count, count, 3 * count, 3 * count, 4 * count, 3 * beyond * count]
    if len(content) != 16 + sum(sizes):
        raise ValueError(f"{len(content)} bytes for {count} Gaussians of degree {degree}")
    ends = 16 + np.cumsum(sizes)
    blocks = [
        np.frombuffer(content[end - size : end], np.uint8)
        for end, size in zip(ends, sizes, strict=True)
    ]
    centres, opacities, colours, scales, rotations, others = blocks
    # The three bytes go on top, so that the sign comes along when they are shifted down.
    fixed = np.pad(centres.reshape(-1, 3), ((0, 0), (1, 0))).view("<i4") >> 8
    share = np.clip(opacities / 255, 0.5 / 255, 254.5 / 255)
    beyond_first = (others.reshape(count, beyond, 3) - 128.0) / 128
    fields = {
        "centres": fixed.reshape(-1, 3) / 2.0**bits,
        "log_scales": scales.reshape(-1, 3) / _SPZ_SCALE_STEPS + _SPZ_LEAST_SCALE,
        "rotations": _unpack_rotations(rotations.view("<u4")),
        "opacity_logits": np.log(share / (1 - share)),
        "harmonics": np.concatenate(
            [
                ((colours.reshape(-1, 1, 3) / 255 - 0.5) / _SPZ_COLOUR),
                beyond_first * _TURN_HARMONICS[1 : beyond + 1, None],
            ],
            axis=1,
        ),
    }
    return fields


def splat_bytes(fields: Fields, *, units_a_world_unit: float) -> bytes:
    """Encode as `.splat`: 32 bytes a Gaussian, colours of degree 0 alone; what web viewers stream.

    Position and scales as float32, colour and opacity as bytes, the quaternion, w first, as
    bytes about 128. The most visible come first.
    """
    fields = _scaled(fields, units_a_world_unit)
    opacity = 1 / (1 + np.exp(-fields["opacity_logits"].astype(np.float64)))
    colours = fields["harmonics"][:, 0] * 0.28209479177387814 + 0.5
    records = np.zeros(
        len(opacity), [("floats", "<f4", 6), ("colour", "u1", 4), ("rotation", "u1", 4)]
    )
    records["floats"][:, :3] = fields["centres"] * _TURN_POINT
    records["floats"][:, 3:] = np.exp(fields["log_scales"])
    colour = np.concatenate([colours, opacity[:, None]], axis=1)
    records["colour"] = np.clip(np.round(colour * 255), 0, 255)
    rotations = fields["rotations"] * _TURN_ROTATION
    records["rotation"] = np.clip(np.round(rotations * 128 + 128), 0, 255)
    weight = np.log(np.maximum(opacity, 1e-6)) + fields["log_scales"].sum(1)
    return records[np.argsort(-weight, kind="stable")].tobytes()
