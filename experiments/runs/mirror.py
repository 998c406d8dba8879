"""A folder's copy in an object store: s3://, gs:// or whatever else fsspec has a package for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eg3d_jax.errors import DiskFullError, InputError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):/+(?=[^/])")
# What a run needs while it is written, and no reader of it.
_PASSING = re.compile(r"(.*/)?(run\.lock|\.[^/]+\.\d+|[^/]*\.orbax-checkpoint-tmp[^/]*/.*)")
# Files that must not be older than the others.
_FIRST = "log.csv"


class StoreError(DiskFullError):
    """A store that refuses to be written or read; the message says what is still intact."""


def url_of(path: Path | str) -> str | None:
    """The URL that a path was meant to be, whose double slash `Path` has lost; None if none."""
    found = _SCHEME.match(str(path))
    if found is None:
        return None
    root = "/" if found[1] == "file" else ""  # others begin with a host or a bucket
    return f"{found[1]}://{root}{str(path)[found.end() :]}"


class Mirror:
    """A local folder, and a URL to which it is copied whenever something in it is complete.

    A store has no locks: nobody else may write to the URL meanwhile.
    """

    def __init__(self, folder: Path, url: str, names: str = ".*"):
        """Look at what is there.

        Args:
          folder: local; need not exist.
          url: of its copy.
          names: regular expression of the files that are copied, by their path below the folder.

        Raises:
          InputError: if the URL's kind is not known here.
          StoreError: if the store cannot be read.
        """
        self.folder, self.url = folder, url.rstrip("/")
        self._names = re.compile(names)
        self._files, self._root = _file_system(self.url)
        self._there: dict[str, tuple[int, int] | None] = dict.fromkeys(self._listed())

    def fetch(self) -> None:
        """Copy everything from the URL into the folder.

        Raises:
          StoreError: if the store cannot be read.
        """
        for name in self._there:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._explained("read"):
                self._files.get_file(f"{self._root}/{name}", str(path))
            self._there[name] = _stamp(path)

    def push(self) -> None:
        """Copy what is new or has changed to the URL, then remove there what is gone here.

        Raises:
          StoreError: if the store refuses; what was there is still there.
        """
        here = self._here()
        for name in sorted(here, key=lambda name: (not name.endswith(_FIRST), name)):
            if self._there.get(name) != here[name]:
                with self._explained("written"):
                    self._files.put_file(str(self.folder / name), f"{self._root}/{name}")
                self._there[name] = here[name]
        gone = [name for name in self._there if name not in here]
        if gone:
            with self._explained("written"):
                self._files.rm([f"{self._root}/{name}" for name in gone])
            for name in gone:
                del self._there[name]

    def _listed(self) -> list[str]:
        with self._explained("read"):
            found = self._files.find(self._root)
        names = [path[len(self._root) :].lstrip("/") for path in found]
        return [name for name in names if self._names.fullmatch(name)]

    def _here(self) -> dict[str, tuple[int, int]]:
        found = {}
        # Files may vanish meanwhile: os.walk passes over them, and Path.rglob fails.
        for folder, _, files in os.walk(self.folder):
            for path in (Path(folder, file) for file in files):
                name = path.relative_to(self.folder).as_posix()
                if self._names.fullmatch(name) and not _PASSING.fullmatch(name):
                    with suppress(FileNotFoundError):
                        found[name] = _stamp(path)
        return found

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each store has its own
            reason = str(error).strip() or type(error).__name__
            raise StoreError(
                f"{self.url} cannot be {what} ({reason}); what was copied there before is intact"
            ) from error


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _file_system(url: str):
    """fsspec's file system of a URL, and the path there.

    Raises:
      InputError: if fsspec or its package for such URLs is not installed.
    """
    try:
        from fsspec.core import url_to_fs

        # Stores have no folders, and a disk's must be made first.
        return url_to_fs(url, **({"auto_mkdir": True} if url.startswith("file:") else {}))
    except (ImportError, ValueError) as error:
        raise InputError(
            f"--run {url}: {str(error).splitlines()[0]} (pip install -e '.[cluster]', and s3fs for "
            "s3:// or gcsfs for gs://)"
        ) from None
