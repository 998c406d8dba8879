"""What an inversion starts from instead of the mean latent: another one, a file, or numbers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from eg3d_jax.cameras import FRONTAL
from eg3d_jax.errors import InputError
from eg3d_jax.generator import Origin, TriPlaneGenerator
from inversion.latent_files import LatentFile, read_latents
from inversion.latents import Latents, latents_at
from inversion.noise_maps import NoiseMaps
from inversion.result import Inversion, lineage

_NAME = "the start"


@dataclass(frozen=True, kw_only=True)
class Start:
    """Latents from which the stages of an inversion start.

    Attributes:
      w_plus: [K, L, D].
      azimuth: [K] radians, ascending, of the view that each is seen from; None where nobody knows,
        so that only as many knots can start from them, in the order of their azimuths.
      noise_maps: fitted with them; empty if none were.
      name: of where they come from, for messages.
    """

    w_plus: Array
    azimuth: Array | None
    noise_maps: NoiseMaps = field(default_factory=dict)
    name: str = _NAME

    @classmethod
    def of(cls, found: Inversion) -> Start:
        """Start where another inversion ended."""
        latents = found.latents
        return cls(w_plus=latents.w_plus, azimuth=latents.azimuth, noise_maps=found.noise_maps)

    def at(self, angles: ArrayLike) -> Array:
        """Latents [M, L, D] seen from azimuths [M], ascending: interpolated between those known."""
        count = np.size(angles)
        if len(self.w_plus) == 1:
            return jnp.tile(self.w_plus[0], (count, 1, 1))
        if self.azimuth is None:
            self.check(count)
            return self.w_plus
        known = Latents(w_plus=self.w_plus, azimuth=self.azimuth)
        return jax.vmap(lambda angle: latents_at(known, angle))(jnp.asarray(angles, jnp.float32))

    def check(self, count: int) -> None:
        """Refuse to start `count` latents from these, if nobody knows which from which.

        Raises:
          InputError: if they are neither one nor as many, and from no known azimuths.
        """
        if self.azimuth is None and len(self.w_plus) not in (1, count):
            fitted = "one latent is fitted" if count == 1 else f"{count} latents are fitted"
            raise InputError(
                f"{self.name} has {len(self.w_plus)} latents and no cameras, but {fitted}; give "
                f"1{'' if count == 1 else f' or {count}'}, or the cameras, cs "
                f"[{len(self.w_plus)}, 25], in an npz"
            )


StartLike = Inversion | Latents | ArrayLike | Path | str


def start_of(given: StartLike, generator: TriPlaneGenerator) -> Start:
    """What an inversion with a generator starts from.

    Args:
      given: an inversion, latents, numbers [L, D], [1, L, D] or [K, L, D], or the path of a file of
        latents: a run's result/latents.npz, the authors' npz, or others' npz, npy or .pt. A latent
        [D] of W counts for all layers.
      generator: whose latents they must be.

    Raises:
      InputError: if they are no latents of such a generator, or a file cannot be read.
    """
    if isinstance(given, Inversion):
        start = Start.of(given)
    elif isinstance(given, Latents):
        start = Start(w_plus=given.w_plus, azimuth=given.azimuth)
    elif isinstance(given, str | os.PathLike):
        return _of_file(read_latents(Path(given)), generator)
    else:
        numbers = np.asarray(given, np.float32)
        if not (numbers.size and np.isfinite(numbers).all()):
            raise InputError(f"{_NAME}, {list(numbers.shape)}, must be finite numbers; give others")
        file = LatentFile(path=Path(_NAME), values=numbers, labels=np.zeros((0, 25), np.float32))
        return _of_file(file, generator)
    config, shape = generator.config, start.w_plus.shape
    if shape[1:] != (config.num_ws, config.w_dim):
        raise InputError(
            f"{_NAME}: latents {list(shape)} do not fit the generator, which takes "
            f"[K, {config.num_ws}, {config.w_dim}]; start from one of the same size"
        )
    return start


def _of_file(file: LatentFile, generator: TriPlaneGenerator) -> Start:
    _warn_of_another(file, getattr(generator, "origin", Origin()).metadata)
    w_plus, name = file.w_plus(generator.config), str(file.path)
    if len(w_plus) > 1 and not (file.azimuth.size or len(file.labels)):
        return Start(w_plus=jnp.asarray(w_plus), azimuth=None, name=name)
    if len(w_plus) == 1:  # seen from everywhere, whatever its cameras
        return Start(w_plus=jnp.asarray(w_plus), azimuth=jnp.asarray([FRONTAL]), name=name)
    latents, _ = file.latents(generator.config)
    return Start(w_plus=latents.w_plus, azimuth=latents.azimuth, name=name)


def _warn_of_another(file: LatentFile, metadata: Mapping[str, Any]) -> None:
    """Warn of latents that were fitted with a generator of another origin."""
    ours = lineage(metadata)
    if file.fingerprints and ours and not set(file.fingerprints) & set(ours):
        warnings.warn(
            f"{file.path} was fitted with another generator ({file.fingerprints[0][:12]}, not "
            f"{ours[0][:12]}), for which these latents are another head",
            stacklevel=4,
        )
