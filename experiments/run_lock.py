"""A lock on a run folder, so that two processes never write into the same one."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path

from experiments.errors import InputError


class RunLock:
    """Held from `acquire` to `release`, or until the process ends in whatever way.

    The operating system holds the lock and lets go of it when the process dies, so the file that a
    killed run leaves behind locks nothing. Its content only tells who holds it.
    """

    def __init__(self, path: Path, *, option: str = "--run"):
        """`option` is what the user chose the folder with."""
        self.path, self._option = path, option
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
          InputError: if another live process holds it; the message says which.
        """
        while self._descriptor is None:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise InputError(
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
        """Let go; does nothing if the lock is not held."""
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
