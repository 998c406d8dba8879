"""Output folder of a command, inside a run or apart from it, replaced as a whole or not at all.

A command names folder and files at its start, when those that may not be replaced are refused and
nothing is changed. It writes into a hidden folder inside; only when all files are complete are
those of an earlier call removed and the new ones moved into place. So a failure before that, of an
option, the disk or the process, leaves the earlier files. The hidden folder is on the same disk,
where moving is renaming: nothing is copied, and a long video needs only its own space beside the
earlier one's. During the renaming, which takes milliseconds, the folder's mark is empty. A kill
just then leaves it empty, and the next call may replace such a folder without --overwrite; it also
removes hidden folders that killed calls have left.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from eg3d_jax.errors import InputError
from eg3d_jax.folders import check_writable, flush, flush_names, made
from experiments.command import deferred_interrupt
from experiments.runs.folder import RunLock
from inversion.files import write_json

# Prefixes of hidden names, which are no command's files.
_UNFINISHED, _LOCK = ".unfinished", ".unfinished.lock"
_EMPTY_MARK: dict = {}


class OutputFolder:
    """Folder for a command's files, filled by `writing`."""

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
        """Temporary folder for all files, which move into place when the context ends.

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
    """Temporary folder whose files replace those of their names: all, or none."""

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
            flush(staging)
            with deferred_interrupt() as interrupt:
                take_over(staging)
                flush_names(folder)
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
