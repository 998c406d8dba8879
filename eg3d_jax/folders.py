"""Files and folders: digests, and checks before any change of where one may write."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from eg3d_jax.errors import InputError

_BESIDE_ARRAYS = 2**18  # bytes: names, shapes and digests


def check_writable(folder: Path, *, option: str = "--run") -> None:
    """Refuse a path that is no folder, or cannot be made or written; nothing is changed.

    Args:
      folder: need not exist, nor those that it lies in.
      option: what the user chose it with.

    Raises:
      InputError: if so.
    """
    existing = innermost_existing(folder)
    if not existing.is_dir():
        raise InputError(
            f"{folder} cannot be written ({existing} is a file); choose another {option}"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(
            f"{folder} cannot be written ({existing} is read-only); choose another {option}"
        )


def check_file_writable(path: Path, *, option: str) -> None:
    """Refuse a file that is a folder, or cannot be made or written; nothing is changed.

    Args:
      path: need not exist, nor the folders that it lies in.
      option: what the user chose it with.

    Raises:
      InputError: if so.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; choose a file as {option}")
    check_writable(path.parent, option=option)


def check_room(folder: Path, arrays: Iterable[np.ndarray]) -> None:
    """Refuse arrays that exceed the disk or a quota, by allocating their size for a moment.

    orbax and tensorstore, which then write them, report a full disk by errors of many threads.

    Raises:
      OSError: of errno ENOSPC or EDQUOT.
    """
    size = sum(array.nbytes for array in arrays)
    path = folder / f".room.{os.getpid()}"
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size + size // 50 + _BESIDE_ARRAYS)
    except (OSError, AttributeError) as error:  # not every system can
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            error.filename = str(folder)
            raise
    finally:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Have the disk hold a file, or all that is in a folder, before this returns.

    Whoever moves it to its name after that, and then calls `flush_names` of where it went, finds it
    whole or not at all after a power loss, as far as the file system keeps its promises.
    """
    if path.is_dir():
        for entry in path.iterdir():
            if not entry.is_symlink():
                flush(entry)
        flush_names(path)
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())


def flush_names(folder: Path) -> None:
    """Have the disk hold the names in a folder, such as one that was moved there just now."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> Path:
    """Write a file so that a reader, or a crash, meets the old content or the new, never a part.

    So does a power loss: the content is on the disk before it gets the name, and the name before
    this returns.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        flush_names(path.parent)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):  # a full disk is reported without the file
            error.filename, error.filename2 = str(path), None
        raise
    return path


def innermost_existing(path: Path) -> Path:
    """Absolute path, or the innermost folder above it that exists."""
    path = path.absolute()
    return next(found for found in (path, *path.parents) if found.exists())


def missing_folders(folder: Path) -> list[Path]:
    """List the folder and its parents that do not exist, the innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, in this order, up to the first that is not empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


@contextmanager
def made(folder: Path) -> Iterator[Path]:
    """Make a folder, and remove it again if the context fails and leaves it empty."""
    missing = missing_folders(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except BaseException:
        remove_empty(missing)
        raise


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file as it lies on disk."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
