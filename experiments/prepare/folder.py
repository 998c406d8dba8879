"""Folders of prepared frames, with the page by which a person judges them."""

from __future__ import annotations

import json
from pathlib import Path

from eg3d_jax.errors import InputError
from experiments.prepare.page import write_page
from experiments.runs.output_folder import OutputFolder
from inversion.files import to_json
from inversion.footage.pictures import Source, source_fingerprint
from inversion.footage.prepare import FOOTAGE_FILE, LANDMARKS_FILE, Footage, FootageSettings
from inversion.frames.folder import MASKS, SUFFIXES
from inversion.frames.labels import LABELS_FILE
from inversion.monitor import Monitor

PAGE = "report.html"
_FRAMES = "frame[0-9][0-9][0-9][0-9][0-9]*.png"


class PreparedFolder:
    """A folder for frames, written as a whole or not at all."""

    def __init__(self, path: Path, *, overwrite: bool):
        """Refuse a folder that must not be written; nothing is changed.

        Args:
          path: new, empty, or of an earlier call.
          overwrite: whether an earlier call's may be replaced.

        Raises:
          InputError: if it holds other pictures or what may not be replaced.
        """
        self.path = path
        others = (LABELS_FILE, LANDMARKS_FILE, PAGE, _FRAMES, MASKS)
        self._output = OutputFolder(path, FOOTAGE_FILE, others, overwrite=overwrite)
        strange = [
            file
            for file in (path.iterdir() if path.is_dir() else ())
            if file.suffix.lower() in SUFFIXES and not file.match(_FRAMES)
        ]
        if strange:
            raise InputError(
                f"{strange[0]} would lie among the frames without a label; choose another --output"
            )

    def holds(self, source: Source, settings: FootageSettings) -> bool:
        """Whether the folder holds what was prepared of the same files with the same settings."""
        try:
            made = json.loads((self.path / FOOTAGE_FILE).read_text())
            same = made["settings"] == to_json(settings)
            return same and made["fingerprint"] == source_fingerprint(source)
        except (OSError, ValueError, LookupError, TypeError):
            return False

    def write(self, footage: Footage, *, next_command: str, monitor: Monitor) -> None:
        """Write frames, labels, what was found, and the page: all, or nothing.

        Args:
          footage: prepared.
          next_command: to be shown at the page's end.
          monitor: told of every frame.
        """
        with self._output.writing() as staging:
            footage.save(staging, monitor=monitor)
            with monitor.task(PAGE):
                write_page(staging / PAGE, footage, next_command=next_command)
