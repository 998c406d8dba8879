"""The fitted state of a run on disk: the latents, and the tuned generator beside them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from eg3d_jax import checkpoint
from eg3d_jax.generator import TriPlaneGenerator
from experiments.disk import save_arrays
from experiments.errors import InputError
from inversion.latents import Latents

_LATENTS, _GENERATOR = "latents.npz", "generator"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What an inversion found; all that rendering, editing and measuring start from.

    Attributes:
      generator: tuned, or the original one.
      latents: K latents with their azimuths; K = 1 serves all views.
      labels: [V, 25] EG3D labels of the fitted views.
      metadata: of the generator's checkpoint: source, licence, fingerprint.
    """

    generator: TriPlaneGenerator
    latents: Latents
    labels: np.ndarray
    metadata: dict[str, Any]


def save_result(
    folder: Path,
    generator: TriPlaneGenerator,
    latents: Latents,
    labels: np.ndarray,
    metadata: dict[str, Any],
) -> None:
    """Write `folder`/generator and `folder`/latents.npz.

    Args:
      folder: the run's result folder.
      generator: tuned.
      latents: K latents.
      labels: [V, 25] of the fitted views.
      metadata: of the original generator, whose source and licence the tuned one keeps.
    """
    saved = checkpoint.save(
        folder / _GENERATOR,
        generator,
        source={"tuned_from": metadata.get("fingerprint"), "original": metadata.get("source")},
        license=metadata.get("license"),
        overwrite=True,
    )
    arrays = {"w_plus": latents.w_plus, "azimuth": latents.azimuth, "labels": labels}
    kept = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    save_arrays(folder / _LATENTS, {"fingerprint": np.array(saved["fingerprint"]), **kept})


def load_result(folder: Path) -> Result:
    """Read what `save_result` wrote.

    Raises:
      InputError: if something is missing or damaged, or the latents are another generator's.
    """
    path = folder / _LATENTS
    try:
        generator, metadata = checkpoint.load(folder / _GENERATOR)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("w_plus", "azimuth", "labels")}
            fingerprint = str(file["fingerprint"])
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{folder} holds no complete result ({error}); run it again") from None
    if fingerprint != metadata["fingerprint"]:
        raise InputError(
            f"{path} was fitted with another generator than the one in {folder / _GENERATOR}; "
            "keep the two of one run together"
        )
    config, shape = generator.config, arrays["w_plus"].shape
    if shape[1:] != (config.num_ws, config.w_dim) or arrays["azimuth"].shape != shape[:1]:
        raise InputError(
            f"{path}: w_plus {shape} and azimuth {arrays['azimuth'].shape} are not K latents "
            f"[K, {config.num_ws}, {config.w_dim}] and their angles; run it again"
        )
    latents = Latents(w_plus=jnp.asarray(arrays["w_plus"]), azimuth=jnp.asarray(arrays["azimuth"]))
    return Result(generator=generator, latents=latents, labels=arrays["labels"], metadata=metadata)
