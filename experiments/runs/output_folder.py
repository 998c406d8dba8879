"""The folder that a command writes its files into, beside or apart from the run: all, or none.

A command names folder and files at its start, which refuses at once what may not be replaced and
changes nothing. It writes into a hidden folder inside; only when all is there are the files of an
earlier call removed and the new ones moved to their places. So whatever fails before, be it an
option, the disk or the process, leaves the earlier files. The hidden folder lies on the same disk,
where moving is renaming: nothing is copied, and a long video needs no room but its own beside the
earlier one's. During the renaming, which takes milliseconds, the folder's mark is empty. So it is
after a kill just then, and the next call may replace such a folder without being told to; what
killed calls left in the hidden folder, it removes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from eg3d_jax.errors import InputError
from eg3d_jax.folders import check_writable, made
from experiments.command import deferred_interrupt
from experiments.runs.folder import RunLock
from inversion.files import write_json

# Beginnings of names that are hidden here, and no command's files.
_UNFINISHED, _LOCK = ".unfinished", ".unfinished.lock"
_EMPTY_MARK: dict = {}


class OutputFolder:
    """A folder that will get a command's files, made by `writing`."""

    def __init__(self, path: Path, mark: str, others: Sequence[str], *, overwrite: bool):
        """Refuse a folder that must not be written; nothing is changed.

        Args:
          path: the folder, which need not exist; files of other names in it are left alone.
          mark: the command's json file, by which its folders are known.
          others: patterns of the other files, and whole folders, that it writes.
          overwrite: whether those of an earlier call may be replaced; only in a folder with the
            mark.

        Raises:
          InputError: if there are such files that may not be replaced, or nothing can be written.
        """
        self.path, self._mark, self._patterns = path, mark, (mark, *others)
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; choose a folder as --output")
        earlier = _matching(path, self._patterns)
        if earlier:
            found = f"{path} holds {earlier[0]} already"
            if not (path / mark).is_file():
                raise InputError(f"{found}, not made by this command; choose another --output")
            if not (overwrite or _is_empty(path / mark)):
                raise InputError(
                    f"{found}; replace it with --overwrite, or choose another --output"
                )
        check_writable(path, option="--output")

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """A folder to write all files into, the mark too; they get to their places when it ends.

        Raises:
          InputError: if another process writes here just now.
        """
        with _staging(self.path, self._take_over) as staging:
            yield staging

    def _take_over(self, staging: Path) -> None:
        """Replace the files of an earlier call; the mark comes last."""
        new = _matching(staging, self._patterns)
        assert Path(self._mark) in new
        for parent in {(self.path / name).parent for name in new}:
            parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path / self._mark, _EMPTY_MARK)
        for name in _matching(self.path, self._patterns):
            if name != Path(self._mark):
                _remove(self.path / name)
        for name in (*(name for name in new if name != Path(self._mark)), Path(self._mark)):
            (staging / name).replace(self.path / name)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """The same for files without a mark, which replace those of their names: all, or none."""

    def take_over(staging: Path) -> None:
        for path in staging.iterdir():
            path.replace(folder / path.name)

    with _staging(folder, take_over) as staging:
        yield staging


@contextmanager
def _staging(folder: Path, take_over: Callable[[Path], None]) -> Iterator[Path]:
    staging = folder / _UNFINISHED
    with made(folder), RunLock(folder / _LOCK, option="--output"):
        try:
            shutil.rmtree(staging, ignore_errors=True)  # of a call that was killed
            staging.mkdir()
            yield staging
            with deferred_interrupt() as interrupt:
                take_over(staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    if interrupt.asked:
        raise KeyboardInterrupt


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    found = {path.relative_to(folder) for pattern in patterns for path in folder.glob(pattern)}
    return sorted(found)


def _is_empty(mark: Path) -> bool:
    return mark.read_bytes().split() == [b"{}"]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
