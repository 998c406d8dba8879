"""Run folders: what lies in one, how a run begins or resumes in it, and the lock that it holds."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax

from eg3d_jax.errors import InputError
from eg3d_jax.folders import check_writable, missing_folders, remove_empty
from eg3d_jax.generator import TriPlaneGenerator
from experiments.runs.mirror import Mirror
from experiments.runs.settings import check_same, versions
from inversion.files import check_space, write_json
from inversion.fitting.states import StateFolder


class InUse(InputError):
    """A folder in which another process writes."""


class RunLock:
    """Lock of a folder, held from `acquire` to `release`, or until the process ends.

    Two processes never write into the same run folder. The operating system holds the lock and
    releases it when the process dies, so the file that a killed run leaves behind locks nothing.
    Its content only names the holder.
    """

    def __init__(self, path: Path, *, option: str = "--run"):
        """Name the lock's file, and the option by which the user chose its folder."""
        self.path, self._option = path, option
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
          InUse: if another live process holds it; the message says which.
        """
        while self._descriptor is None:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise InUse(
                    f"{self.path.parent} is in use by {self._holder()}; wait for it to end, or "
                    f"choose another {self._option}"
                ) from None
            if self._is_current(descriptor):
                self._descriptor = descriptor
            else:  # the holder removed the file between our open and our lock
                os.close(descriptor)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(holder).encode(), 0)

    def release(self) -> None:
        """Release the lock; does nothing if it is not held."""
        if self._descriptor is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(self, *_) -> None:
        self.release()

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False

    def _holder(self) -> str:
        try:
            holder = json.loads(self.path.read_text())
            return f"process {holder['pid']} on {holder['host']} since {holder['started']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"


STATES = "state"
_LOCK, _CONFIG, _LOG = "run.lock", "config.json", "log.csv"
_FORMAT = "eg3d_jax run 1"
# Files that a killed write of ours leaves, and those of file managers.
_LITTER = re.compile(r"\..+\.\d+|\.DS_Store|Thumbs\.db|desktop\.ini")
_OWN_FOLDERS = (STATES, "result", "pictures", "tensorboard")
# Folders and files that other commands make from the result.
_LATER_FOLDERS = ("render", "mesh", "splat", "edit", "evaluation", "view", "cameras")
_LATER_FILES = ("head.html",)
# The configuration last: an overwriting that was killed can be repeated while it is there.
_OWN_FILES = (_LOG, "metrics.json", "turntable.mp4", "report.html", _CONFIG)


class RunFolder:
    """One run's folder, locked by `create`, `resume` or `lock` until `close` or the end of `with`.

    A long command locks the folder first and begins in it later, once nothing can be refused any
    more: `lock`, then `begin`. `create` and `resume` do both at once.
    """

    def __init__(self, path: Path, *, resumed: bool = False):
        self.path, self._resumed = path, resumed
        self._lock = RunLock(path / _LOCK)
        self._made = missing_folders(path)
        self.mirror: Mirror | None = None

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
        """Start a run in a new or empty folder: `lock` it and `begin`.

        Args:
          path: see `lock`.
          settings: see `begin`.
          needed_bytes: see `lock`.
          overwrite: see `lock`.
          frames_folder: see `begin`.

        Raises:
          InputError: see `lock`.
        """
        run = cls.lock(path, overwrite=overwrite, needed_bytes=needed_bytes)
        with _release_on_error(run):
            run.begin(settings, frames_folder)
        return run

    @classmethod
    def resume(
        cls, path: Path | str, settings: Mapping[str, Any], *, needed_bytes: int = 0
    ) -> RunFolder:
        """Resume the run in a folder: `lock` it and `begin`.

        Raises:
          InputError: see both.
        """
        run = cls.lock(path, resume=True, needed_bytes=needed_bytes)
        with _release_on_error(run):
            run.begin(settings)
        return run

    @classmethod
    def lock(
        cls,
        path: Path | str,
        *,
        resume: bool = False,
        overwrite: bool = False,
        needed_bytes: int = 0,
    ) -> RunFolder:
        """Lock a folder in which a run may begin, or be resumed; nothing in it is changed yet.

        Args:
          path: the folder; made if missing.
          resume: whether `begin` resumes the run in it. If not, the folder must be new or empty.
          overwrite: whether it may hold a run as well, which `begin` replaces.
          needed_bytes: disk space that the run will fill.

        Raises:
          InputError: if there is no run to resume, or something that must not be removed, or
            the folder is in use or cannot be written.
        """
        run = cls(Path(path), resumed=resume)
        if resume and not cls.has_run(run.path):
            raise InputError(f"{run.path} holds no run to resume; start it without --resume")
        check_writable(run.path)
        check_space(run.path, needed_bytes)
        with _release_on_error(run):
            run.path.mkdir(parents=True, exist_ok=True)
            run._lock.acquire()
            if not resume:
                run._check_new(overwrite)
        return run

    @contextmanager
    def staging(self, settings: Mapping[str, Any]) -> Iterator[Path]:
        """Temporary folder for all files of a short run, which move into place when it ends well.

        Args:
          settings: see `begin`.
        """
        with tempfile.TemporaryDirectory(dir=self.path, prefix=".", suffix=f".{os.getpid()}") as at:
            yield (staging := Path(at))
            self.begin(settings)
            for path in staging.iterdir():
                if (self.path / path.name).is_dir():  # empty, and such cannot be replaced by files
                    (self.path / path.name).rmdir()
                path.replace(self.path / path.name)

    def begin(self, settings: Mapping[str, Any], frames_folder: Path | None = None) -> None:
        """Start a run in the locked folder, in place of an earlier one, or resume the one in it.

        Args:
          settings: everything that the result depends on; dataclasses, paths and arrays are taken.
          frames_folder: where the frames lie, noted for later commands; no setting, as they may
            move, and left as it is by a run that is resumed.

        Raises:
          InputError: if the run that is resumed has other settings; see `check_settings`.
        """
        if self._resumed:
            self.check_settings(self.path, settings)
            self._make_folders()
            return
        self._clear()
        content = {
            "format": _FORMAT,
            "settings": settings,
            "frames_folder": None if frames_folder is None else frames_folder.resolve(),
            "versions": versions(),
        }
        self.write_json(_CONFIG, content)
        self._make_folders()

    def adopt(self, other: Path, stages: Collection[str]) -> None:
        """Take over stages that a run in another folder has finished; see `StateFolder.adopt`.

        Their losses come along, so that the run is as if it had taken the steps itself.

        Args:
          other: the other run's folder.
          stages: their names.
        """
        shutil.copy(other / _LOG, self.path / _LOG)  # of steps without a state it is cut
        StateFolder(self.states).adopt(StateFolder(other / STATES), stages)

    @classmethod
    def check_settings(cls, path: Path, settings: Mapping[str, Any]) -> None:
        """Refuse to resume the run in a folder with other settings.

        Raises:
          InputError: if they differ (`OtherSettings`, naming which), or are not known.
        """
        check_same(path, cls._config(path).get("settings", {}), settings)

    @staticmethod
    def has_run(path: Path) -> bool:
        """Whether a folder holds a run, finished or not."""
        return (path / _CONFIG).exists()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Unlock the folder, and remove it again if it was made for a run that did not begin."""
        self._lock.release()
        if not self.has_run(self.path):
            remove_empty(self._made)

    def push(self) -> None:
        """Copy what is complete to the store that the run is kept in, if there is one.

        Raises:
          StoreError: if the store refuses.
        """
        if self.mirror is not None:
            self.mirror.push()

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
        """Video of the turntable."""
        return self.path / "turntable.mp4"

    @property
    def report(self) -> Path:
        """Report page that shows everything."""
        return self.path / "report.html"

    @property
    def states(self) -> Path:
        """Folder of the saved states to resume from, one folder a stage."""
        return self.path / STATES

    def write_json(self, name: str, content: Any) -> Path:
        """Write plain values, dataclasses, paths and arrays; the file changes at once or not."""
        return write_json(self.path / name, content)

    def _check_new(self, overwrite: bool) -> None:
        """Refuse a folder that holds a run to be kept, or files that no run left."""
        known = {_LOCK}
        if self.has_run(self.path):
            if not overwrite:
                raise InputError(
                    f"{self.path} holds a run already; continue it with --resume, or choose "
                    "another --run"
                )
            self._config(self.path)
            known |= {*_OWN_FOLDERS, *_LATER_FOLDERS, *_OWN_FILES, *_LATER_FILES}
        found = sorted(p.name for p in self.path.iterdir() if not _LITTER.fullmatch(p.name))
        others = [name for name in found if name not in known]
        if others:
            raise InputError(
                f"{self.path} holds {', '.join(others[:3])}, which is not of a run; move it away, "
                "or choose another --run"
            )

    def _make_folders(self) -> None:
        for name in _OWN_FOLDERS:
            (self.path / name).mkdir(exist_ok=True)

    def _clear(self) -> None:
        for name in (*_OWN_FOLDERS, *_LATER_FOLDERS):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in (*_LATER_FILES, *_OWN_FILES):
            (self.path / name).unlink(missing_ok=True)

    @staticmethod
    def _config(folder: Path) -> dict[str, Any]:
        path = folder / _CONFIG
        try:
            config = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read ({error}); choose another --run") from None
        if not isinstance(config, dict) or config.get("format") != _FORMAT:
            raise InputError(f"{path} is not of a run of this program; choose another --run")
        return config


@contextmanager
def _release_on_error(run: RunFolder) -> Iterator[None]:
    try:
        yield
    except BaseException:
        run.close()
        raise


def read_config(run: Path) -> dict[str, Any]:
    """The run's config.json; empty if it has none, as an edited head.

    Raises:
      InputError: if it is damaged.
    """
    path = run / _CONFIG
    if not path.exists():
        return {}
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); run the inversion again") from None
    if not isinstance(config, dict) or not isinstance(config.get("settings"), dict):
        raise InputError(f"{path} is not of a run of this program; name another run")
    return config


def frames_folder(run: Path) -> Path:
    """Folder of the frames that a run was made of, with refined cameras if it refined them.

    Raises:
      InputError: if there is no run, or it does not name its frames.
    """
    if not run.is_dir():
        raise InputError(f"{run} is no folder; name a run made by `eg3d-jax invert`, or its frames")
    folder = read_config(run).get("frames_folder")
    if not isinstance(folder, str):
        raise InputError(f"{run}/{_CONFIG} does not name its frames; give their folder instead")
    return Path(folder)


def disk_bytes(generator: TriPlaneGenerator, methods: int) -> int:
    """Disk space of a run: two states of parameters and moments a method, and the result."""
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(generator))
    return size * (6 * methods + 2) + 50 * 2**20
