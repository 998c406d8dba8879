"""Folders of prepared frames, with the page by which a person judges them."""

from __future__ import annotations

import json
from pathlib import Path

from eg3d_jax.errors import InputError
from experiments.prepare.converted_page import write_converted_page
from experiments.prepare.page import write_page
from experiments.runs.output_folder import OutputFolder
from inversion.files import to_json
from inversion.footage.prepare import FOOTAGE_FILE, LANDMARKS_FILE, Footage, FootageSettings
from inversion.foreign_cameras.convert import CAMERAS_FILE, ConversionSettings, ConvertedFrames
from inversion.frames.folder import MASKS, SUFFIXES
from inversion.frames.labels import LABELS_FILE
from inversion.monitor import Monitor
from inversion.units import World

PAGE = "report.html"
_FRAMES = "frame[0-9][0-9][0-9][0-9][0-9]*.png"


def prepared_world(folder: Path) -> World | None:
    """For which generators' world a folder's frames were prepared; None if any, or not known."""
    for name in (FOOTAGE_FILE, CAMERAS_FILE):
        try:
            return json.loads((folder / name).read_text())["world"]
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return None


class PreparedFolder:
    """A folder for frames, written as a whole or not at all."""

    def __init__(self, path: Path, *, overwrite: bool, mark: str = FOOTAGE_FILE):
        """Refuse a folder that must not be written; nothing is changed.

        Args:
          path: new, empty, or of an earlier call.
          overwrite: whether an earlier call's may be replaced.
          mark: FOOTAGE_FILE of footage, CAMERAS_FILE of frames that have cameras.

        Raises:
          InputError: if it holds other pictures or what may not be replaced.
        """
        self.path, self._mark = path, mark
        others = (LABELS_FILE, LANDMARKS_FILE, PAGE, _FRAMES, MASKS)
        self._output = OutputFolder(path, mark, others, overwrite=overwrite)
        strange = [
            file
            for file in (path.iterdir() if path.is_dir() else ())
            if file.suffix.lower() in SUFFIXES and not file.match(_FRAMES)
        ]
        if strange:
            raise InputError(
                f"{strange[0]} would lie among the frames without a label; choose another --output"
            )

    def holds(self, fingerprint: str, settings: FootageSettings | ConversionSettings) -> bool:
        """Whether the folder holds what was prepared of the same files with the same settings."""
        try:
            made = json.loads((self.path / self._mark).read_text())
            return made["settings"] == to_json(settings) and made["fingerprint"] == fingerprint
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

    def write_converted(
        self, converted: ConvertedFrames, *, next_command: str, monitor: Monitor
    ) -> None:
        """Write frames with cameras of others, labels, what was done, and the page, as a whole.

        Args:
          converted: into EG3D's world.
          next_command: to be shown at the page's end.
          monitor: told of every frame.
        """
        with self._output.writing() as staging:
            converted.save(staging, monitor=monitor)
            with monitor.task(PAGE):
                write_converted_page(staging / PAGE, converted, next_command=next_command)
