"""What is known of frames beside their pictures: depth.npz and mask.npz."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments.array_files import ALONE, read_arrays
from experiments.errors import InputError


def read_truth(folder: Path, key: str, num_frames: int) -> np.ndarray | None:
    """One map a frame, of `folder`/KEY.npz if there is such a file.

    Args:
      folder: of the frames.
      key: 'depth' or 'mask'.
      num_frames: T.

    Returns:
      [T, S, S] float32 depths, or whether the head is there.

    Raises:
      InputError: naming the file, what is wrong and what to do.
    """
    path = folder / f"{key}.npz"
    if not path.exists():
        return None
    values = _array(path, key)
    square = values.ndim == 3 and values.shape[1] == values.shape[2] > 0
    if not square or len(values) != num_frames or values.dtype.kind not in "fiub":
        raise InputError(
            f"{path}: {key} is {values.dtype} {list(values.shape)}; it must be numbers "
            f"[{num_frames}, side, side], one square map per frame"
        )
    if not np.isfinite(values).all():
        raise InputError(f"{path}: {key} holds numbers that are not finite; use 0 where empty")
    if key == "depth":
        return values.astype(np.float32)
    # Of opacities, half of one is the outline; of eight bits, too.
    return values >= (127.5 if values.max(initial=0) > 1 else 0.5)


def _array(path: Path, key: str) -> np.ndarray:
    arrays = read_arrays(path)
    if ALONE in arrays:
        raise InputError(f"{path} is a lone array, no archive; write it by numpy.savez")
    if key not in arrays:
        raise InputError(f"{path} has no array named {key}; save it under that name")
    return arrays[key]
