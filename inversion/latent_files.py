"""Files of latents: `result/latents.npz` of our runs, the authors' results, and other projectors'.

docs/latents.md names every field of our own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from eg3d_jax.cameras import FRONTAL, azimuth, from_label
from eg3d_jax.config import GeneratorConfig
from eg3d_jax.errors import InputError
from inversion.array_files import as_numbers, listed_arrays, read_arrays
from inversion.frames.camera_checks import nearest_cameras
from inversion.latents import Latents
from inversion.views import continuous_azimuths

# What the numbers in our own files mean, kept in them.
CONVENTION = (
    "w_plus [K, L, D]: K latents of W+, one style for each of L layers, not truncated. "
    "azimuth [K]: radians, of the view that each latent is seen from, atan2(z, x) of the camera "
    "about the origin, pi / 2 in front, ascending; between them latents are interpolated. "
    "labels [V, 25]: cameras of the fitted views as in EG3D's dataset.json, cam2world [4, 4] row "
    "by row (OpenCV axes: x right, y down, z into the picture; world: y up, the face towards +z), "
    "then intrinsics [3, 3] divided by the image side. names [V]: of the fitted frames. "
    "fingerprint: of the generator beside this file. tuned_from: fingerprints of those that it was "
    "tuned from, the last one first."
)

# Names of latents by the authors, projectors of StyleGAN, PTI and here; of cameras; of angles.
_LATENTS = ("w", "ws", "w_plus", "latent", "latents", "w_pivot", "w_pivots")
_CAMERAS = ("cs", "c", "labels")
_AZIMUTH = "azimuth"
_LABEL = 25
_LATENT_WANTED = "ws [N, 1, L, D] and cs [N, 1, 25], or one latent w [1, L, D]"


@dataclass(frozen=True, kw_only=True)
class LatentFile:
    """Contents of a file of latents.

    Attributes:
      path: of the file.
      values: latents, of any shape.
      labels: [V, 25] of the cameras beside them; V is 0 if there are none.
      azimuth: [K] radians, if the file tells from where each latent is seen; else empty.
      fingerprints: of the generators that the latents belong to, if the file tells.
    """

    path: Path
    values: np.ndarray
    labels: np.ndarray
    azimuth: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    fingerprints: tuple[str, ...] = ()

    def w_plus(self, config: GeneratorConfig) -> np.ndarray:
        """Latents of W+ for a generator; those of W are repeated for all layers.

        An array [L, D] is one latent of W+, unless L cameras make it L of W.

        Args:
          config: of the generator.

        Returns:
          [K, L, D].

        Raises:
          InputError: if they are another generator's.
        """
        num_ws, width, cameras = config.num_ws, config.w_dim, len(self.labels)
        shape = self.values.shape
        axes, last = shape[:-1], shape[-1] if shape else 0
        several_of_w = len(axes) == 1 and axes[0] == cameras > 1
        if last == num_ws * width or (
            last == width and axes[-1:] == (num_ws,) and not several_of_w
        ):
            return self.values.reshape(-1, num_ws, width)
        if last == width and math.prod(axes[1:]) == 1:
            return np.repeat(self.values.reshape(-1, 1, width), num_ws, axis=1)
        raise InputError(
            f"{self.path}: latents {list(shape)} do not fit the generator, which takes "
            f"[{num_ws}, {width}], or [{width}] in W; give the two of one run"
        )

    def latents(self, config: GeneratorConfig) -> tuple[Latents, np.ndarray]:
        """Latents for a generator by ascending azimuth, and the labels [V, 25] in the same order.

        One latent without a camera of its own counts as frontal.

        Args:
          config: of the generator.

        Raises:
          InputError: if they are another generator's, or nobody knows from where each is seen.
        """
        w_plus = self.w_plus(config)
        count = len(w_plus)
        labels = self._cameras(config)
        if self.azimuth.size:
            if self.azimuth.shape != (count,) or np.any(np.diff(self.azimuth) < 0):
                raise InputError(
                    f"{self.path}: azimuth {list(self.azimuth.shape)} must be {count} ascending "
                    "angles, one for each latent; make it again"
                )
            return _latents(w_plus, self.azimuth), labels
        if count > 1 and not len(labels):
            raise InputError(
                f"{self.path} has {count} latents and no cameras, without which nobody knows "
                f"from where each is seen; add their cs [{count}, 25] in an npz, or give one "
                "latent"
            )
        if count > 1 and len(labels) != count:
            raise InputError(
                f"{self.path} has {count} latents and {len(labels)} cameras; it needs pairs"
            )
        if len(labels) != count:
            return _latents(w_plus, np.array([FRONTAL])), labels
        angles = continuous_azimuths(np.asarray(azimuth(from_label(labels))))
        order = np.argsort(angles, kind="stable")
        return _latents(w_plus[order], angles[order]), labels[order]

    def _cameras(self, config: GeneratorConfig) -> np.ndarray:
        """Labels as cameras; the authors' code may have optimised all 25 numbers."""
        named = {f"cs[{i}]": label.astype(np.float64) for i, label in enumerate(self.labels)}
        found = nearest_cameras(self.path, named, box_side=config.render.box_warp)
        return np.array([*found.values()], np.float32).reshape(-1, _LABEL)


def _latents(w_plus: np.ndarray, angles: np.ndarray) -> Latents:
    return Latents(w_plus=jnp.asarray(w_plus), azimuth=jnp.asarray(angles, jnp.float32))


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
    angles = np.zeros(0, np.float32)
    if _AZIMUTH in arrays and _AZIMUTH not in names:
        angles = as_numbers(path, _AZIMUTH, arrays[_AZIMUTH])
    texts = [arrays[name] for name in ("fingerprint", "tuned_from") if name in arrays]
    return LatentFile(
        path=path,
        values=values,
        labels=labels.reshape(-1, _LABEL),
        azimuth=angles,
        fingerprints=tuple(str(text) for array in texts for text in array.ravel()),
    )
