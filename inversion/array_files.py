"""Read named arrays from files of NumPy and PyTorch: npy, npz, and torch.save's .pt and .pth.

A file is what its first bytes say, whatever its name ends in; any may be compressed by gzip.
Nothing in it is executed.
"""

from __future__ import annotations

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convert_weights.array_pickle import MAX_BYTES, CheckpointError, printable, read_bytes
from convert_weights.file_kinds import TORCH_ARCHIVE, recognize
from convert_weights.state_dict import read_tensors
from eg3d_jax.config import GeneratorConfig
from eg3d_jax.errors import InputError

# The name of an array whose file gives it none: an npy's, or a tensor saved by itself.
ALONE = ""
_WANTED = "save the numbers by numpy.save, numpy.savez or torch.save"
_DAMAGE = (
    OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, OverflowError, MemoryError,
    NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error, struct.error,
    tokenize.TokenError,
)  # fmt: skip
# Result of reading pickled objects; `as_numbers` refuses it.
_OBJECTS = np.empty(0, object)
# Number of arrays named in a message.
_NAMED = 8


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays in a file, as it holds them.

    Args:
      path: an npy, an npz, or a file of torch.save.

    Returns:
      The arrays by name; the one that its file gives no name is `ALONE`. Pickled objects, which are
      not read, are an empty array of objects.

    Raises:
      InputError: if there is no such file, or it is something else or damaged.
    """
    try:
        data = read_bytes(path)
        kind = recognize(data)
        if kind is None:
            name = "a pickle of objects" if data[:1] == b"\x80" else "no known kind of file"
            raise CheckpointError(f"it is {name}; {_WANTED}")
        if kind.name.endswith("(.npy)"):
            return {ALONE: _read_npy(io.BytesIO(data))}
        if kind.name.endswith("(.npz)"):
            return _read_npz(data)
        if kind.name.startswith(TORCH_ARCHIVE):
            return read_tensors(path)
        raise CheckpointError(f"it is {kind.name}; {kind.way_on or _WANTED}")
    except CheckpointError as error:
        said = str(error)
        raise InputError(said if str(path) in said else f"cannot read {path}: {said}") from None
    except _DAMAGE as error:
        reason = printable(" ".join(str(error).split()))[:200]
        raise InputError(
            f"cannot read {path}: it is damaged or truncated ({reason}); copy or save it again"
        ) from None


def as_numbers(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """Convert an array of a file to float32.

    Args:
      path: of the file.
      name: of the array in it.
      array: from `read_arrays`.

    Raises:
      InputError: if it holds something other than finite numbers.
    """
    what = f"{path}: {printable(name)}" if name else str(path)
    if array.dtype.hasobject:
        raise InputError(
            f"{what} holds pickled objects, which could run code and are not read; save the "
            "numbers themselves, as an array of float32"
        )
    if array.dtype.kind not in "fiu":
        raise InputError(f"{what} is of type {array.dtype}; it must be real numbers")
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise InputError(f"{what} holds numbers that are not finite; make it again")
    return numbers


def listed_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """Names and shapes of arrays, for a message."""
    texts = [f"{printable(name)} {list(a.shape)}".strip() for name, a in arrays.items()]
    more = [f"{len(texts) - _NAMED} more"] * (len(texts) > _NAMED)
    return ", ".join([*texts[:_NAMED], *more]) or "no array"


def _read_npy(stream: io.IOBase) -> np.ndarray:
    try:
        return np.lib.format.read_array(stream, allow_pickle=False)
    except ValueError as error:
        if "Object arrays" in str(error):
            return _OBJECTS
        raise


def _read_npz(data: memoryview) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        if sum(info.file_size for info in members) > MAX_BYTES:
            raise CheckpointError(f"it unpacks to more than the {MAX_BYTES} bytes allowed")
        arrays = {}
        for info in members:
            with archive.open(info) as member:
                arrays[info.filename.removesuffix(".npy")] = _read_npy(io.BytesIO(member.read()))
    return arrays


# Names of latents by the authors, projectors of StyleGAN, PTI and here; and of cameras.
_LATENTS = ("w", "ws", "w_plus", "latent", "latents", "w_pivot", "w_pivots")
_CAMERAS = ("cs", "c", "labels")
_LABEL = 25
_LATENT_WANTED = "ws [N, 1, L, D] and cs [N, 1, 25], or one latent w [1, L, D]"


@dataclass(frozen=True, kw_only=True)
class LatentFile:
    """Contents of a file of latents.

    Attributes:
      path: of the file.
      values: latents, of any shape.
      labels: [V, 25] of the cameras beside them; V is 0 if there are none.
    """

    path: Path
    values: np.ndarray
    labels: np.ndarray

    def w_plus(self, config: GeneratorConfig) -> np.ndarray:
        """Latents of W+ for a generator; those of W are repeated for all layers.

        An array [L, D] is one latent of W+, unless L cameras make it L of W.

        Args:
          config: of the generator.

        Returns:
          [K, L, D], one latent for all cameras or one for each.

        Raises:
          InputError: if they are another generator's, or not as many as the cameras.
        """
        num_ws, width, cameras = config.num_ws, config.w_dim, len(self.labels)
        shape = self.values.shape
        axes, last = shape[:-1], shape[-1] if shape else 0
        several_of_w = len(axes) == 1 and axes[0] == cameras > 1
        if last == num_ws * width or (
            last == width and axes[-1:] == (num_ws,) and not several_of_w
        ):
            found = self.values.reshape(-1, num_ws, width)
        elif last == width and math.prod(axes[1:]) == 1:
            found = np.repeat(self.values.reshape(-1, 1, width), num_ws, axis=1)
        else:
            raise InputError(
                f"{self.path}: latents {list(shape)} do not fit the generator, which takes "
                f"[{num_ws}, {width}], or [{width}] in W; import the two of one run"
            )
        if len(found) == 1:
            return found
        if not cameras:
            raise InputError(
                f"{self.path} has {len(found)} latents and no cameras, without which nobody knows "
                f"from where each is seen; add their cs [{len(found)}, 25] in an npz, or give one "
                "latent"
            )
        if len(found) != cameras:
            raise InputError(
                f"{self.path} has {len(found)} latents and {cameras} cameras; it needs pairs"
            )
        return found


def read_latents(path: Path) -> LatentFile:
    """Read the latents in an npz, an npy or a file of torch.save (spec inversion 3 and 5).

    Raises:
      InputError: if the file cannot be read or holds something else.
    """
    arrays = read_arrays(path)
    # Projectors save a dict of one such dict a picture, whose names come out as PICTURE.latent.
    short = {name: name.rpartition(".")[2] for name in arrays}
    cameras = [name for name in arrays if short[name] in _CAMERAS]
    known = [name for name in arrays if short[name] in _LATENTS]
    others = [name for name, array in arrays.items() if name not in cameras and array.ndim]
    # A lone array needs no name, whatever the numbers beside it.
    names = known or (others if len(others) == 1 else [])
    if len(names) != 1 or len(cameras) > 1:
        raise InputError(
            f"{path} holds {listed_arrays(arrays)}; it must hold {_LATENT_WANTED}, and no second "
            "of either"
        )
    values = as_numbers(path, names[0], arrays[names[0]])
    if not values.size:
        raise InputError(f"{path} holds no latent, but an array {list(values.shape)}")
    labels = np.zeros((0, _LABEL), np.float32)
    if cameras:
        labels = as_numbers(path, cameras[0], arrays[cameras[0]])
        if labels.shape[-1:] != (_LABEL,):
            raise InputError(
                f"{path}: {cameras[0]} is {list(labels.shape)}; cameras are [N, {_LABEL}]"
            )
    return LatentFile(path=path, values=values, labels=labels.reshape(-1, _LABEL))
