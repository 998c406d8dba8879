"""Log of every step's losses: a table `log.csv`, and event files for TensorBoard."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inversion.files import write_atomically

# tensorboardX imports PyTorch where it finds it, for tensors, of which none is logged here; that
# would take the most of a command's start.
_HIDDEN = "torch" not in sys.modules
if _HIDDEN:
    sys.modules["torch"] = None  # pyright: ignore[reportArgumentType]  # so is a module refused
try:
    from tensorboardX import summary
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import (
        Event,  # pyright: ignore[reportAttributeAccessIssue]  # made as it is imported
    )
finally:
    if _HIDDEN:
        del sys.modules["torch"]

_FIXED = ("stage", "step")
_FLUSH_SECONDS = 30.0


class EventLog:
    """Log in `folder`/log.csv and `folder`/tensorboard; `history` reads the table back.

    Columns of the table: stage, step (within the stage) and the given terms, empty where a stage
    has no such term.
    """

    def __init__(
        self, folder: Path, terms: Sequence[str], *, keep: Mapping[str, int] | None = None
    ):
        """Open the log of a run.

        Args:
          folder: of the run.
          terms: names of all loss terms that any stage may log, the table's columns.
          keep: for a resumed run, the steps done of each stage in the state it goes on from; later
            rows, and stages not named, are removed. None starts a new table.
        """
        self.path = folder / "log.csv"
        self.terms = tuple(terms)
        rows = self._rows() if keep and self.path.is_file() else []
        self._begin([row for row in rows if int(row["step"]) < (keep or {}).get(row["stage"], 0)])
        self._events = _Events(folder / "tensorboard")

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Flush and close the files."""
        try:
            self._file.close()
        finally:
            self._events.close()

    def go_back(self, stage: str, steps: int) -> None:
        """Remove what is logged of a stage beyond its first steps, which are repeated."""
        rows = self._rows()
        kept = [row for row in rows if row["stage"] != stage or int(row["step"]) < steps]
        if len(kept) < len(rows):
            self._file.close()
            self._begin(kept)

    def scalars(self, stage: str, first_step: int, terms: Mapping[str, np.ndarray]) -> None:
        """Log consecutive steps of a stage.

        Args:
          stage: name, also the group of the curves in TensorBoard.
          first_step: step within the stage of the first value.
          terms: [num_steps] values by term, all of one length.

        Raises:
          ValueError: if a term is not one of the table's.
        """
        unknown = sorted(set(terms) - set(self.terms))
        if unknown:
            raise ValueError(f"terms {unknown} are not among the log's {list(self.terms)}")
        values = {name: np.atleast_1d(np.asarray(value)) for name, value in terms.items()}
        writer = csv.DictWriter(self._file, (*_FIXED, *self.terms))
        for offset in range(max((len(v) for v in values.values()), default=0)):
            step = first_step + offset
            row = {name: float(value[offset]) for name, value in values.items()}
            writer.writerow(
                {"stage": stage, "step": step} | {k: f"{v:.8g}" for k, v in row.items()}
            )
            for name, value in row.items():
                self._events.add(summary.scalar(f"{stage}/{name}", value), step)
        self._file.flush()

    def image(self, name: str, step: int, picture: np.ndarray) -> None:
        """Log a picture, uint8 [H, W, 3], for TensorBoard."""
        self._events.add(summary.image(name, picture, dataformats="HWC"), step)

    def history(self, stage: str) -> dict[str, np.ndarray]:
        """Read all steps of a stage, also from before a resumption: [num_steps] by term."""
        self._file.flush()
        rows = [row for row in self._rows() if row["stage"] == stage]
        found = [term for term in self.terms if any(row.get(term) for row in rows)]
        return {term: np.array([float(row[term] or "nan") for row in rows]) for term in found}

    def _begin(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Rewrite the table and open it for more."""
        text = io.StringIO()
        writer = csv.DictWriter(text, (*_FIXED, *self.terms), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue().encode())
        self._file = self.path.open("a", newline="")

    def _rows(self) -> list[dict[str, str]]:
        with self.path.open(newline="") as file:
            # A run that was killed may have left half a line.
            rows = [row for row in csv.DictReader(file) if None not in row.values()]
        return [row for row in rows if row["step"].isdigit()]


class _Events:
    """Event file written in the caller's thread, which is told of a full disk.

    tensorboardX's own writer uses a thread, which dies of a full disk; closing then never ends.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        self._flushed = time.monotonic()

    def add(self, content: Any, step: int) -> None:
        self._writer.write_event(Event(summary=content, step=step, wall_time=time.time()))
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._writer.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        self._writer.close()
