"""A worker of a cluster on its machine: it works in one thread, and tells its news in others."""

from __future__ import annotations

import os
import pickle
import socket
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from eg3d_jax.errors import InputError
from inversion.fitting.memory import device_memory
from inversion.monitor import Monitor, Stopped

# The variable by which XLA knows how many threads a CPU's programs may have.
CORES = "NPROC"
# Seconds between two times that a worker tells of its progress.
BEAT = 1.0


class Worker(Protocol):
    """What is made on a worker, once, and then works on batches until none is left."""

    at_once: int  # how many make a batch

    def work(self, batch: Sequence[Any], *, again: bool) -> None:
        """Do all of a batch, which other workers may have begun that died.

        What is raised ends the work of all workers.
        """
        ...


class Outbox(Monitor):
    """Monitor on a worker, which sends everything to the one of whoever started the run.

    Attributes:
      memory: bytes that this worker may use of each device; None if that is not known.
    """

    def __init__(self, memory: float | None = None):
        self.memory = memory
        self.stop, self.news = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._calls: list[tuple] = []
        self._contexts = 0

    def send(self, value: Any) -> None:
        """Send a value; it arrives once, unless this worker dies first."""
        self._add("sent", value)

    def take(self) -> list[tuple]:
        """What was said since the last time."""
        with self._lock:
            calls, self._calls = self._calls, []
        return calls

    def _add(self, *call: Any) -> None:
        with self._lock:
            self._calls.append(call)

    def say(self, text: str, video: str = "") -> None:  # noqa: D102
        self._add("say", text, video)

    @contextmanager
    def task(self, name: str, video: str = "") -> Iterator[None]:  # noqa: D102
        with self._context("task", name, video):
            yield

    def resumed(self, video: str, stage: str, step: int) -> None:  # noqa: D102
        self._add("resumed", video, stage, step)
        self.news.set()  # for a worker may die soon, of which it must be known that it came further

    @contextmanager
    def stages(  # noqa: D102
        self, videos: Sequence[str], stages: Sequence[str], num_steps: int, done: Sequence[int]
    ) -> Iterator[None]:
        with self._context("stages", list(videos), list(stages), num_steps, list(done)):
            yield

    def steps(self, video: str, stage: str, first: int, terms: Mapping[str, np.ndarray]) -> None:  # noqa: D102
        self._add("steps", video, stage, first, dict(terms))

    def stop_requested(self) -> bool:  # noqa: D102
        return self.stop.is_set()

    @contextmanager
    def _context(self, kind: str, *args: Any) -> Iterator[None]:
        self._contexts += 1
        number = self._contexts
        self._add("enter", number, kind, args)
        try:
            yield
        except BaseException:
            self._add("exit", number, False)
            raise
        self._add("exit", number, True)


class Actor:
    """A worker as Ray has it: one thread works, others send its outbox and hear of a stop."""

    def __init__(self, make: Callable[[Outbox], Worker]):
        """Remember how the worker is made."""
        self._make, self._outbox = make, Outbox()

    def place(self) -> str:
        """Name of the machine, as soon as there is one."""
        return socket.gethostname()

    def prepare(self) -> tuple[list, Any]:
        """Make the worker; how many make a batch, or the error."""
        with _warnings_said(self._outbox):
            found = _result(self._prepared)
        return self._outbox.take(), found

    def _prepared(self) -> int:
        if cores := os.environ.get(CORES):  # others are given the rest
            share = min(int(cores) / (os.cpu_count() or 1), 1.0)
            self._outbox.memory = share * (device_memory() or 0.0) or None
        self._worker = self._make(self._outbox)
        return self._worker.at_once

    def work(self, batch: Sequence[Any], again: bool) -> tuple[list, Any]:
        """Do a batch; the error that ended it, if any."""
        with _warnings_said(self._outbox):
            found = _result(lambda: self._worker.work(batch, again=again))
        self._outbox.news.set()
        return self._outbox.take(), found

    def tell(self) -> list:
        """What was said, after a while or when there is news that should not wait."""
        self._outbox.news.wait(BEAT)
        self._outbox.news.clear()
        return self._outbox.take()

    def stop(self) -> None:
        """Have the batch stop after its step, with everything saved."""
        self._outbox.stop.set()


def _result(call: Callable[[], Any]) -> Any:
    """What is returned or raised, in a form that can be sent."""
    try:
        return call()
    except Stopped as stopped:
        return stopped
    except Exception as error:
        told = "".join(traceback.format_exception(error))
        try:
            error = pickle.loads(pickle.dumps(error))
        except Exception:  # of many packages
            error = RuntimeError(f"{type(error).__name__}: {error}")
        if not isinstance(error, InputError):
            error.add_note(f"on {socket.gethostname()}:\n{told}")
        return error


@contextmanager
def _warnings_said(outbox: Outbox) -> Iterator[None]:
    """Send warnings, which would be lost in a log of Ray."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: outbox.say(f"warning: {message}")
        yield
