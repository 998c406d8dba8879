"""The files of a saved state's arrays, and their digests beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from eg3d_jax.checkpoint import digests

_DIGESTS = "digests.json"


class DigestedArrays(ocp.PyTreeCheckpointHandler):
    """Writes the digests of all files once they are written, before the state appears."""

    def finalize(self, directory: Any) -> None:
        """Called by orbax with the folder of the arrays."""
        super().finalize(directory)
        folder = Path(directory)
        (folder / _DIGESTS).write_text(json.dumps(digests(folder)))


@ocp.args.register_with_handler(DigestedArrays, for_save=True, for_restore=True)
class SaveArrays(ocp.args.PyTreeSave):
    """Asks orbax for `DigestedArrays`."""


def are_whole(folder: Path) -> bool:
    """Whether the files are as `DigestedArrays` left them."""
    saved = json.loads((folder / _DIGESTS).read_text())
    return saved.items() <= digests(folder).items()
