"""Files of latents that others have found, in W or W+, with the cameras that they belong to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eg3d_jax.config import GeneratorConfig
from experiments.array_files import as_numbers, listed_arrays, read_arrays
from experiments.errors import InputError

# What latents are called by the authors, projectors of StyleGAN, PTI and here; and cameras.
_LATENTS = ("w", "ws", "w_plus", "latent", "latents", "w_pivot", "w_pivots")
_CAMERAS = ("cs", "c", "labels")
_LABEL = 25
_WANTED = "ws [N, 1, L, D] and cs [N, 1, 25], or one latent w [1, L, D]"


@dataclass(frozen=True, kw_only=True)
class LatentFile:
    """What a file holds.

    Attributes:
      path: of the file.
      values: latents, of any shape.
      labels: [V, 25] of the cameras beside them; V is 0 if there are none.
    """

    path: Path
    values: np.ndarray
    labels: np.ndarray

    def w_plus(self, config: GeneratorConfig) -> np.ndarray:
        """The latents as a generator takes them; those of W are repeated for all layers.

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
    """The latents in an npz, an npy or a file of torch.save (spec inversion 3 and 5).

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
            f"{path} holds {listed_arrays(arrays)}; it must hold {_WANTED}, and no second of either"
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
