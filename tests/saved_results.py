"""Saves an inversion made of parts, for commands and tests that start from a result."""

from pathlib import Path
from typing import Any

from eg3d_jax.cameras import from_label
from inversion.result import Inversion


def save_result(folder: Path, generator, latents, labels, metadata: dict[str, Any]) -> None:
    """Write an inversion whose fitted views have these labels [V, 25]."""
    head = Inversion(
        generator=generator, latents=latents, cameras=from_label(labels), metadata=metadata
    )
    head.save(folder)
