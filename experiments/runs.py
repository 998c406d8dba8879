"""The folder of a run: what lies where, who may write, and when a run may go on in it.

runs/NAME/  config.json   settings and versions       metrics.json    numbers over all frames
state/        last two states a stage     log.csv         losses of every step
result/       latents, tuned generator    tensorboard/    the same, as event files
pictures/     target | inversion | depth  turntable.mp4   report.html
render/       of experiments.render       mesh/           of experiments.mesh
edit/         of experiments.edit         evaluation/     of experiments.evaluate
view/         of experiments.view
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.disk import check_space, check_writable, flat, plain, write_json
from experiments.errors import InputError
from experiments.run_lock import RunLock
from experiments.versions import versions

STATES = "state"
_LOCK, _CONFIG = "run.lock", "config.json"
_FORMAT = "eg3d_jax run 1"
_OWN_FOLDERS = (STATES, "result", "pictures", "tensorboard")
# What other commands make of the result.
_LATER_FOLDERS = ("render", "mesh", "edit", "evaluation", "view")
# The configuration last: an overwriting that was killed can be repeated while it is there.
_OWN_FILES = ("log.csv", "metrics.json", "turntable.mp4", "report.html", _CONFIG)


class RunFolder:
    """One run's folder, locked while open; made by `create` or `resume`, closed by `with`."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = RunLock(path / _LOCK)

    @classmethod
    def create(
        cls,
        path: Path | str,
        settings: Mapping[str, Any],
        *,
        needed_bytes: int = 0,
        overwrite: bool = False,
        frames_folder: Path | None = None,
    ) -> RunFolder:
        """Start a run in a new or empty folder.

        Args:
          path: the folder; made if missing.
          settings: everything that the result depends on; dataclasses, paths and arrays are taken.
          needed_bytes: disk space that the run will fill.
          overwrite: remove an earlier run from the folder. Only a folder that holds a run, and
            only the files of a run in it, are touched.
          frames_folder: where the frames lie, noted for later commands; no setting, as they may
            move.

        Raises:
          InputError: if the folder holds anything else, is in use, or cannot be written.
        """
        run = cls(Path(path))
        run._prepare(needed_bytes)
        with _release_on_error(run):
            earlier = cls.begun(run.path)
            if earlier and not overwrite:
                raise InputError(
                    f"{run.path} holds a run already; continue it with --resume, or choose another "
                    "--run"
                )
            if earlier:
                run._check_format()
                run._clear()
            others = sorted(p.name for p in run.path.iterdir() if p.name != _LOCK)
            if others:
                raise InputError(
                    f"{run.path} is not empty and not a run (it holds {', '.join(others[:3])}); "
                    "choose another --run"
                )
            content = {
                "format": _FORMAT,
                "settings": settings,
                "frames_folder": None if frames_folder is None else frames_folder.resolve(),
                "versions": versions(),
            }
            run.write_json(_CONFIG, content)
            run._make_folders()
        return run

    @classmethod
    def resume(
        cls, path: Path | str, settings: Mapping[str, Any], *, needed_bytes: int = 0
    ) -> RunFolder:
        """Open the folder of an earlier run to go on with it.

        Raises:
          InputError: if there is no run, its settings differ (the message names which), or the
            folder is in use or cannot be written.
        """
        run = cls(Path(path))
        if not cls.begun(run.path):
            raise InputError(f"{run.path} holds no run to resume; start it without --resume")
        run._prepare(needed_bytes)
        with _release_on_error(run):
            run._check_settings(settings)
            run._make_folders()
        return run

    @staticmethod
    def begun(path: Path) -> bool:
        """Whether a folder holds a run, finished or not."""
        return (path / _CONFIG).exists()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes have the folder."""
        self._lock.release()

    @property
    def result(self) -> Path:
        """Folder of latents and tuned generator."""
        return self.path / "result"

    @property
    def pictures(self) -> Path:
        """Folder of pictures."""
        return self.path / "pictures"

    @property
    def video(self) -> Path:
        """The turntable."""
        return self.path / "turntable.mp4"

    @property
    def report(self) -> Path:
        """The page that shows everything."""
        return self.path / "report.html"

    @property
    def states(self) -> Path:
        """Folder of the states to go on from, one folder a stage."""
        return self.path / STATES

    def write_json(self, name: str, content: Any) -> Path:
        """Write plain values, dataclasses, paths and arrays; the file changes at once or not."""
        return write_json(self.path / name, content)

    def _prepare(self, needed_bytes: int) -> None:
        check_writable(self.path)
        check_space(self.path, needed_bytes)
        self._lock.acquire()

    def _make_folders(self) -> None:
        for name in _OWN_FOLDERS:
            (self.path / name).mkdir(exist_ok=True)

    def _clear(self) -> None:
        for name in (*_OWN_FOLDERS, *_LATER_FOLDERS):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in _OWN_FILES:
            (self.path / name).unlink(missing_ok=True)

    def _check_format(self) -> dict[str, Any]:
        path = self.path / _CONFIG
        try:
            config = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}); choose another --run") from None
        if not isinstance(config, dict) or config.get("format") != _FORMAT:
            raise InputError(f"{path} is not of a run of this program; choose another --run")
        return config

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        then, now = flat(self._check_format().get("settings")), flat(plain(settings))
        missing = "(none)"
        differ = [
            f"{name} was {then.get(name, missing)}, is {now.get(name, missing)}"
            for name in sorted({*then, *now})
            if then.get(name, missing) != now.get(name, missing)
        ]
        if differ:
            more = f"; and {len(differ) - 5} more" if len(differ) > 5 else ""
            raise InputError(
                f"{self.path} was started with other settings: {'; '.join(differ[:5])}{more}; "
                "resume with the same ones, or choose another --run"
            )


@contextmanager
def _release_on_error(run: RunFolder) -> Iterator[None]:
    try:
        yield
    except BaseException:
        run.close()
        raise
