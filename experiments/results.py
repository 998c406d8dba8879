"""The fitted state of a run on disk: the latent, and the tuned generator beside it."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax import Array

from eg3d_jax import checkpoint
from eg3d_jax.generator import TriPlaneGenerator
from experiments.errors import InputError

_LATENT, _GENERATOR = "latent.npz", "generator"


def save_result(
    folder: Path, generator: TriPlaneGenerator, ws: Array, labels: np.ndarray, metadata: dict
) -> None:
    """Write `folder`/generator and `folder`/latent.npz.

    Args:
      folder: the run's result folder.
      generator: tuned.
      ws: [L, D].
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
    with (folder / _LATENT).open("wb") as file:
        np.savez(file, ws=np.asarray(ws), labels=labels, fingerprint=saved["fingerprint"])


def load_result(folder: Path) -> tuple[TriPlaneGenerator, Array, np.ndarray]:
    """The tuned generator, ws [L, D] and the labels [V, 25] of the views it was fitted to.

    Raises:
      InputError: if something is missing, or the latent is another generator's.
    """
    path = folder / _LATENT
    try:
        generator, metadata = checkpoint.load(folder / _GENERATOR)
        with np.load(path, allow_pickle=False) as file:
            ws, labels, fingerprint = file["ws"], file["labels"], str(file["fingerprint"])
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{folder} holds no complete result ({error}); run it again") from None
    if fingerprint != metadata["fingerprint"]:
        raise InputError(
            f"{path} was fitted with another generator than the one in {folder / _GENERATOR}; "
            "keep the two of one run together"
        )
    return generator, jnp.asarray(ws), labels
