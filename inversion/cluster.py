"""A queue of videos, and workers of a Ray cluster of whom each takes the next when it is free.

Ray places the workers, carries what is sent to them and from them, and notices when a worker or its
machine dies. A video then goes to another worker, and resumes from the last state in its store.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from eg3d_jax.errors import InputError
from inversion.monitor import Monitor, Stopped
from inversion.outbox import BEAT, CORES, Actor, Outbox, Worker

# Workers for which Ray's autoscaler is asked beyond those that there are.
_AHEAD = 16
# Seconds without any worker after which that is said.
_LONG = 30.0
# A video is given up after so many of its workers have died without coming further.
_DEATHS = 3
# Of the environment of whoever starts the run, as it decides what is computed.
_PASSED_ON = ("JAX_", "XLA_", "EG3D_JAX_", "TF_CPP_", "GLIBC_TUNABLES")
# The share of a GPU's memory that JAX takes by default.
_USUAL_MEMORY = 0.75


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where videos are inverted, and what each worker takes there (extra `cluster`).

    Attributes:
      address: HOST:PORT of the head of a Ray cluster that this machine is of; 'auto' for whichever
        cluster this machine is of and, if none, for its own cores and GPUs.
      workers: at most so many; as many as there is room for, if None.
      gpus: of each worker; a fraction lets several share one. One where the cluster has any and
        else none, if None.
      cores: of each worker.
    """

    address: str = "auto"
    workers: int | None = None
    gpus: float | None = None
    cores: int = 1

    def __post_init__(self):
        """Check the values.

        Raises:
          InputError: naming the one that cannot be.
        """
        host, _, port = self.address.rpartition(":")
        if self.address != "auto" and not (host and port.isdecimal() and int(port) < 2**16):
            raise InputError(f"{self.address!r} must be 'auto' or HOST:PORT, such as head:6379")
        if self.workers is not None and self.workers < 1:
            raise InputError(f"{self.workers} workers must be at least 1")
        if self.cores < 1:
            raise InputError(f"{self.cores} cores a worker must be at least 1")
        if self.gpus is not None and not (0 <= self.gpus <= 1 or self.gpus == int(self.gpus) > 1):
            raise InputError(
                f"{self.gpus} GPUs a worker must be a fraction of one or a whole number"
            )


def cluster_at(cluster: Cluster | str) -> Cluster:
    """A cluster by its address alone, or as it is."""
    return Cluster(address=cluster) if isinstance(cluster, str) else cluster


class Named(Protocol):
    """Something of the queue, such as a video."""

    @property
    def name(self) -> str:
        """By which it is spoken of."""
        ...


@dataclass
class _Batch:
    """So many videos.

    Attributes:
      items: the videos.
      deaths: of workers that came no further than those before.
      begun: whether there were any.
      reached: steps by video and stage.
    """

    items: list[Any]
    deaths: int = 0
    begun: bool = False
    reached: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def names(self) -> str:
        return ", ".join(item.name for item in self.items)

    def advance(self, video: str, stage: str, step: int) -> None:
        """Note a step; one that was not reached before shows that the dead were not to blame."""
        if step > self.reached.get((video, stage), 0):
            self.reached[video, stage], self.deaths = step, 0


@dataclass(eq=False)
class _Hired:
    """A worker, what it was asked and has not answered yet, and what it has begun."""

    actor: Any
    calls: dict[str, Any]
    place: str = ""
    at_once: int = 0
    batch: _Batch | None = None
    contexts: dict[int, ExitStack] = field(default_factory=dict)


def work_through(
    cluster: Cluster,
    make: Callable[[Outbox], Worker],
    batches: Callable[[int], Sequence[Sequence[Named]]],
    *,
    monitor: Monitor,
    receive: Callable[[Any], None],
    lost: Callable[[Any, str], None],
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Have the workers of a cluster do all batches, each by whichever is free next.

    A batch whose worker dies goes to another one, after some deaths a video at a time.

    Args:
      cluster: Ray is asked for its workers; if the calling program is connected to one already,
        that is taken, whatever the address.
      make: makes the worker on its machine; picklable.
      batches: of how many make one; not empty.
      monitor: is told what the workers' monitors are told, contexts of several videos in any order;
        asked whether to stop.
      receive: is called with what workers `send`.
      lost: is called with what was given up, and why.
      ready: is called once, when a worker is about to get the first batch.

    Raises:
      Stopped: if the monitor asked for it; all is saved then.
      InputError: if the cluster cannot be used.
      Exception: what a worker raised; the others have stopped and saved everything.
    """
    with _connected(cluster) as ray:
        queue = _Queue(ray, _Room(ray, cluster), make, batches, monitor)
        queue.receive, queue.lost, queue.ready = receive, lost, ready
        try:
            queue.run(cluster.workers or sys.maxsize)
        finally:
            queue.dismiss_all()


class _Queue:
    """Batches that wait, and the workers."""

    receive: Callable[[Any], None]
    lost: Callable[[Any, str], None]
    ready: Callable[[], None]

    def __init__(self, ray, room: _Room, make, batches, monitor: Monitor):
        """Begin with no worker."""
        self._ray, self._room, self._made = ray, room, ray.put(make)
        self._monitor = monitor
        # One by one, until a worker says how many make a batch.
        self._batches, self._grouped = batches, False
        self._waiting = deque(_Batch(list(batch)) for batch in batches(1))
        self._workers: list[_Hired] = []
        self._reason: BaseException | None = None  # to end
        self._stillborn, self._began, self._hired = 0, time.monotonic(), -BEAT

    def run(self, most: int) -> None:
        """Until nothing waits and nobody works, with so many workers at most."""
        while self._waiting or any(worker.batch for worker in self._workers):
            self._hire(most)
            self._listen()
            if self._reason is None and self._monitor.stop_requested():
                self._stop(Stopped("stopped as asked"))
        if self._reason is not None:
            raise self._reason

    def _hire(self, most: int) -> None:
        """Start workers where there is room, as long as videos wait."""
        asked = sum(not worker.place for worker in self._workers)
        idle = sum(worker.batch is None for worker in self._workers)
        wanted = max(min(len(self._waiting) - idle, most - len(self._workers)), 0)
        self._room.wish(len(self._workers) + min(wanted, _AHEAD))
        # What is free is known late: those that were given the last places must count by now.
        if time.monotonic() > self._hired + BEAT:
            for _ in range(min(wanted, self._room.free() - asked)):
                actor = self._room.actor.remote(self._made)
                self._workers.append(_Hired(actor, {"place": actor.place.remote()}))
                self._hired = time.monotonic()
        if self._began and not self._workers and time.monotonic() > self._began + _LONG:
            self._began = 0.0
            self._monitor.say(
                "no machine of the cluster has room for a worker yet; waiting for one that has "
                "(`ray status` shows what there is; --cores-per-worker and --gpus-per-worker what "
                "is asked for)"
            )

    def _listen(self) -> None:
        """Hear what workers have to say, for a moment."""
        told = {ref: (w, what) for w in self._workers for what, ref in w.calls.items()}
        if not told:
            time.sleep(BEAT)
        elif self._ray.wait([*told], timeout=BEAT)[0]:
            for ref in self._ray.wait([*told], num_returns=len(told), timeout=0)[0]:
                worker, what = told[ref]
                if worker in self._workers and worker.calls.get(what) is ref:
                    try:
                        self._hear(worker, what)
                    except Exception as error:
                        self._stop(error)

    def _hear(self, worker: _Hired, what: str) -> None:
        try:
            found = self._ray.get(worker.calls.pop(what))
            if what == "work" and "tell" in worker.calls:  # what was said before
                self._replay(worker, self._ray.get(worker.calls.pop("tell")))
        except self._ray.exceptions.RayTaskError as error:
            self._dismiss(worker)
            raise getattr(error, "cause", None) or error from None
        except self._ray.exceptions.RayError as error:
            self._bury(worker, error)
            return
        getattr(self, f"_on_{what}")(worker, found)

    def _on_place(self, worker: _Hired, host: str) -> None:
        worker.place = host
        worker.calls["prepare"] = worker.actor.prepare.remote()

    def _on_prepare(self, worker: _Hired, found: tuple[list, Any]) -> None:
        calls, at_once = found
        if isinstance(at_once, BaseException):
            self._dismiss(worker)
            raise at_once
        self._stillborn, worker.at_once = 0, at_once
        if not self._grouped:
            self._waiting = deque(_Batch(list(batch)) for batch in self._batches(at_once))
            self._grouped = True
            self._replay(worker, calls)  # others say the same of what they have compiled
            self.ready()
        self._monitor.say(f"a worker on {worker.place} is ready")
        self._give(worker)

    def _on_tell(self, worker: _Hired, calls: list[tuple]) -> None:
        if worker.batch:
            worker.calls["tell"] = worker.actor.tell.remote()
        self._replay(worker, calls)

    def _on_work(self, worker: _Hired, found: tuple[list, Any]) -> None:
        calls, error = found
        worker.batch = None
        self._replay(worker, calls)
        if isinstance(error, BaseException) and not isinstance(error, Stopped):
            self._stop(error)
        self._give(worker)

    def _give(self, worker: _Hired) -> None:
        """Give a worker the next batch; let it go if there is none."""
        if not self._waiting:
            if worker in self._workers:
                self._dismiss(worker)
            return
        batch = self._waiting.popleft()
        if len(batch.items) > worker.at_once:  # of a machine with less memory than the first
            rest = _Batch(batch.items[worker.at_once :], batch.deaths, batch.begun, batch.reached)
            self._waiting.appendleft(rest)
            batch.items = batch.items[: worker.at_once]
        worker.batch = batch
        worker.calls["work"] = worker.actor.work.remote(batch.items, batch.begun)
        worker.calls["tell"] = worker.actor.tell.remote()

    def _bury(self, worker: _Hired, error: Exception) -> None:
        """Pass on the batch of a worker that has died."""
        batch, reason, began = worker.batch, _reason(error), bool(worker.at_once)
        self._dismiss(worker)
        if self._reason is not None:
            return
        if not began:
            self._stillborn += 1
            if self._stillborn >= _DEATHS:
                raise InputError(
                    f"{_DEATHS} workers died before they began ({reason}); give them more memory "
                    "or have fewer on a machine, and look into Ray's logs"
                )
        if batch is None:
            return
        batch.deaths, batch.begun = batch.deaths + 1, True
        where = f"the worker on {worker.place} died ({reason})"
        if batch.deaths < _DEATHS:
            self._monitor.say(f"{batch.names}: {where}; another goes on from the last save")
            self._waiting.appendleft(batch)
        elif len(batch.items) > 1:  # one of them alone may be to blame
            self._monitor.say(f"{batch.names}: {where}; now one by one")
            self._waiting.extendleft(
                _Batch([one], _DEATHS - 1, True, batch.reached) for one in batch.items[::-1]
            )
        else:
            self.lost(batch.items[0], f"{_DEATHS} times {where}")

    def _stop(self, reason: BaseException) -> None:
        """Have all workers save and stop, and the run end for that reason."""
        if self._reason is not None:
            return
        self._reason = reason
        self._waiting.clear()
        for worker in list(self._workers):
            if worker.batch:
                worker.actor.stop.remote()
            else:
                self._dismiss(worker)

    def _dismiss(self, worker: _Hired) -> None:
        self._workers.remove(worker)
        for context in worker.contexts.values():
            _leave(context, well=False)
        self._ray.kill(worker.actor)

    def dismiss_all(self) -> None:
        """End all workers."""
        with suppress(Exception):
            self._room.wish(0)
        for worker in list(self._workers):
            with suppress(Exception):
                self._dismiss(worker)

    def _replay(self, worker: _Hired, calls: list[tuple]) -> None:
        """Tell the monitor what a worker's was told."""
        for kind, *args in calls:
            if kind == "sent":
                self.receive(args[0])
            elif kind == "enter":
                number, name, told = args
                worker.contexts[number] = stack = ExitStack()
                stack.enter_context(getattr(self._monitor, name)(*told))
            elif kind == "exit":
                if (context := worker.contexts.pop(args[0], None)) is not None:
                    _leave(context, well=args[1])
            else:
                if kind == "steps" and worker.batch:
                    video, stage, first, terms = args
                    taken = max((len(values) for values in terms.values()), default=0)
                    worker.batch.advance(video, stage, first + taken)
                elif (
                    kind == "resumed" and worker.batch
                ):  # from what a dead one did not live to tell
                    worker.batch.advance(*args)
                getattr(self._monitor, kind)(*args)


def _reason(error: Exception) -> str:
    """Why a worker died: the last of Ray's lines, its first sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].split(". ")[0].strip()


class _CutOff(Exception):
    """Work on a worker that did not end."""


def _leave(context: ExitStack, *, well: bool) -> None:
    if well:
        context.close()
        return
    with suppress(_CutOff), context:
        raise _CutOff


class _Room:
    """What a worker takes of its machine, and for how many more there is room.

    Workers that wait for a place would have Ray collect garbage in all others, again and again.
    """

    def __init__(self, ray, cluster: Cluster):
        gpus = cluster.gpus
        if gpus is None:
            gpus = float(ray.cluster_resources().get("GPU", 0) > 0)
        self._ray, self._wished = ray, 0
        self._each = {"CPU": cluster.cores} | ({"GPU": gpus} if gpus else {})
        self.actor = ray.remote(Actor).options(
            num_cpus=cluster.cores,
            num_gpus=gpus,
            max_restarts=0,
            max_concurrency=3,  # of `work`, `tell` and `stop`
            runtime_env={"env_vars": _environment(cluster.cores, gpus)},
        )

    def free(self) -> int:
        """Number of workers for which there is room now."""
        there = self._ray.available_resources()
        return min(int(there.get(name, 0) / each) for name, each in self._each.items())

    def wish(self, workers: int) -> None:
        """Tell Ray's autoscaler, where there is one, for how many there should be."""
        if workers != self._wished:
            from ray.autoscaler.sdk import request_resources

            self._wished = workers
            request_resources(bundles=[self._each] * workers)


def _environment(cores: int, gpus: float) -> dict[str, str]:
    """Variables of a worker, by which it keeps to its part of the machine."""
    variables = {n: v for n, v in os.environ.items() if n.startswith(_PASSED_ON)}
    variables.pop("JAX_PLATFORMS", None)  # of this machine
    if not gpus:
        return variables | {"JAX_PLATFORMS": "cpu", CORES: str(cores)}
    if gpus < 1:
        variables.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{_USUAL_MEMORY * gpus:.3f}")
    return variables


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected to the cluster.

    Raises:
      InputError: if Ray is not installed, or the cluster is not there or too small.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it phones home
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise InputError(
            "a cluster needs Ray, which is not installed: pip install -e '.[cluster]'"
        ) from None
    if ray.is_initialized():
        yield ray
        return
    address = None if cluster.address == "auto" else cluster.address
    if address is not None:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise InputError(
                f"cluster {address}: nobody answers there ({error}); start Ray's head by `ray "
                f"start --head --port={port}`"
            ) from None
    try:
        with warnings.catch_warnings():
            # What Ray forks becomes another program at once; JAX warns of those that do not.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"cluster {cluster.address}: Ray cannot be joined from here ({reason}); start this "
            "command on a machine of the cluster (`ray start --address=HOST:PORT`)"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()
