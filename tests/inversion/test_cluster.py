"""What the queue does when workers are free, die, fail or are asked to stop; Ray is a fake one."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eg3d_jax.errors import InputError
from inversion import cluster as engine
from inversion.cluster import Cluster, work_through
from inversion.monitor import Monitor, Stopped
from inversion.outbox import Actor, Outbox


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class FakeRay:
    """Workers whose calls are done when they are asked for, one after another.

    Attributes:
      dies: how often the worker dies that has a video, by name; 'prepare' for before the first.
      at_once: of each new worker.
      most: workers alive together so far.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, dies=(), at_once=()):
        self.dies, self.at_once = Counter(dict(dies)), list(at_once)
        self.alive, self.most = [], 0

    def put(self, value):
        return value

    def wait(self, refs, num_returns=1, timeout=None):
        refs = sorted(refs, key=lambda ref: ref.__name__ != "take")  # news come first
        return refs[:num_returns], refs[num_returns:]

    def get(self, ref):
        return ref()

    def kill(self, actor):
        self.alive.remove(actor)

    def remote(self, make):
        self.alive.append(actor := FakeActor(self, make))
        self.most = max(self.most, len(self.alive))
        return actor

    def survives(self, name):
        self.dies[name] -= 1
        if self.dies[name] >= 0:
            raise RayError("The actor died.\nThe worker died of a test. And so on.")


class FakeRoom:
    """Room for three."""

    def __init__(self, ray):
        self.actor, self._ray = ray, ray

    def free(self):
        return 3 - len(self._ray.alive)

    def wish(self, workers):
        assert 0 <= workers <= 3 + 16


class FakeActor:
    def __init__(self, ray, make):
        self._ray, self._real = ray, Actor(make)
        self._at_once = ray.at_once.pop(0) if ray.at_once else 1
        for name in ("place", "prepare", "work", "tell", "stop"):
            setattr(self, name, SimpleNamespace(remote=getattr(self, f"_{name}")))

    def _place(self):
        return lambda: "machine"

    def _prepare(self):
        def prepare():
            self._ray.survives("prepare")
            calls, found = self._real.prepare()
            return calls, self._at_once if isinstance(found, int) else found

        return prepare

    def _work(self, items, again):
        if any(self._ray.dies[item.name] > 0 for item in items):
            calls, found = [], None
        else:
            calls, found = self._real.work(items, again)
        if isinstance(found, RayError):  # it dies once this is told
            self._real._outbox._calls = calls

        def work():
            for item in items:
                self._ray.survives(item.name)
            if isinstance(found, RayError):
                raise found
            return calls, found

        return work

    def _tell(self):
        return self._real._outbox.take

    def _stop(self):
        self._real.stop()


class Worker:
    """Sends what it was given; fails or stops at some names."""

    def __init__(self, outbox):
        self.at_once, self._outbox = 1, outbox

    def work(self, batch, *, again):
        for item in batch:
            with self._outbox.task("working", item.name):
                if item.name == "bad":
                    raise ValueError("a bug of ours")
                if self._outbox.stop_requested():
                    raise Stopped
                self._outbox.say("done", item.name)
            self._outbox.send((item.name, again))


class Told(Monitor):
    def __init__(self, stop=False):
        self.said, self.open, self.tasks, self._stop = [], 0, [], stop

    def say(self, text, video=""):
        self.said.append(f"{video}: {text}" if video else text)

    @contextmanager
    def task(self, name, video=""):
        self.open += 1
        try:
            yield
            self.tasks.append(video)
        finally:
            self.open -= 1

    def stop_requested(self):
        return self._stop


def run(monkeypatch, names, ray, monitor=None, make=Worker, **options):
    """What was received and lost."""
    items = [SimpleNamespace(name=name) for name in names]
    received, lost = [], {}

    @contextmanager
    def connected(_):
        yield ray

    monkeypatch.setattr(engine, "_connected", connected)
    monkeypatch.setattr(engine, "BEAT", 0.0)
    monkeypatch.setattr(engine, "_Room", lambda ray, _: FakeRoom(ray))
    work_through(
        Cluster(**options),
        make,
        lambda at_once: [items[i : i + at_once] for i in range(0, len(items), at_once)],
        monitor=monitor or Told(),
        receive=received.append,
        lost=lambda item, why: lost.update({item.name: why}),
    )
    assert not ray.alive
    return received, lost


@settings(max_examples=30)
@given(
    st.integers(1, 9),
    st.dictionaries(st.sampled_from("012345678"), st.integers(0, 4)),
    st.lists(st.integers(1, 4), max_size=5),
    st.integers(1, 3),
)
def test_every_video_is_done_once_or_given_up_after_three_deaths(count, dies, at_once, workers):
    names = "012345678"[:count]
    ray = FakeRay(dies, at_once)
    with pytest.MonkeyPatch.context() as patch:
        received, lost = run(patch, names, ray, workers=workers)
    assert sorted([name for name, _ in received] + list(lost)) == list(names)
    assert ray.most <= workers
    if not dies:
        assert not lost
    # A video is given up for its own deaths, or for those of the batch that it was first in.
    most = max(at_once, default=1)
    for name in lost:
        assert sum(dies.get(other, 0) for other in names) >= 3
        assert most > 1 or dies[name] >= 3


def test_a_batch_goes_to_another_worker_that_knows_it_was_begun(monkeypatch):
    monitor = Told()
    received, _ = run(monkeypatch, "ab", FakeRay({"b": 1}), monitor)
    assert sorted(received) == [("a", False), ("b", True)]
    assert monitor.said[0] == "a worker on machine is ready"
    assert "b: the worker on machine died (The worker died of a test); another" in str(monitor.said)
    assert sorted(monitor.tasks) == ["a", "b"]
    assert monitor.open == 0


def test_one_that_kills_its_workers_is_given_up_alone(monkeypatch):
    received, lost = run(monkeypatch, "abc", FakeRay({"b": 9}, [3] * 9))
    assert sorted(received) == [("a", True), ("c", True)]
    assert lost.keys() == {"b"}
    assert "3 times the worker on machine died (The worker died of a test)" in lost["b"]


def test_deaths_after_which_it_came_further_are_not_counted(monkeypatch):
    """One worker comes a step further each time, and one does not."""
    attempts = Counter()

    class Steps(Worker):
        def work(self, batch, *, again):
            (name,) = (item.name for item in batch)
            attempts[name] += 1
            reached = attempts[name] if name == "far" else 1
            self._outbox.steps(name, "latent", 0, {"pixel": np.ones(reached)})
            if attempts[name] < 6:
                raise RayError("The worker died of a test.")
            super().work(batch, again=again)

    received, lost = run(monkeypatch, ["far", "near"], FakeRay(), make=Steps)
    assert received == [("far", True)]
    assert lost.keys() == {"near"}
    assert attempts == {"far": 6, "near": 3}


def test_a_bug_stops_all_workers_and_is_raised_with_its_place(monkeypatch):
    monitor = Told()
    with pytest.raises(ValueError, match="a bug of ours") as raised:
        run(monkeypatch, ["bad", "a", "b"], FakeRay(), monitor)
    assert any("in work" in note for note in raised.value.__notes__)
    assert monitor.open == 0


def test_a_worker_that_cannot_begin_says_why(monkeypatch):
    def make(outbox):
        raise InputError("the steps do not fit")

    with pytest.raises(InputError, match="the steps do not fit"):
        run(monkeypatch, "ab", FakeRay(), make=make)
    with pytest.raises(InputError, match="3 workers died before they began"):
        run(monkeypatch, "ab", FakeRay({"prepare": 9}))
    received, _ = run(monkeypatch, "ab", FakeRay({"prepare": 2}))
    assert len(received) == 2


def test_a_wish_to_stop_reaches_all_workers(monkeypatch):
    with pytest.raises(Stopped):
        run(monkeypatch, "abc", FakeRay(), Told(stop=True))


def test_a_machine_with_less_memory_takes_a_part_of_a_batch(monkeypatch):
    received, _ = run(monkeypatch, "abcde", FakeRay(at_once=[4, 1, 2]))
    assert sorted(name for name, _ in received) == list("abcde")


@pytest.mark.filterwarnings("default")
def test_warnings_of_a_worker_are_said(monkeypatch):
    import warnings

    class Warns(Worker):
        def work(self, batch, *, again):
            warnings.warn("a damaged state", stacklevel=1)
            super().work(batch, again=again)

    monitor = Told()
    run(monkeypatch, "a", FakeRay(), monitor, make=Warns)
    assert "warning: a damaged state" in monitor.said


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"address": "head"}, "'head' must be 'auto' or HOST:PORT"),
        ({"address": ":6379"}, "must be 'auto' or HOST:PORT"),
        ({"address": "head:99999"}, "must be 'auto' or HOST:PORT"),
        ({"workers": 0}, "0 workers must be at least 1"),
        ({"cores": 0}, "0 cores"),
        ({"gpus": 1.5}, "1.5 GPUs a worker must be a fraction of one or a whole number"),
        ({"gpus": -0.5}, "-0.5 GPUs"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        Cluster(**values)


def test_nothing_is_started_for_a_cluster_that_cannot_be(monkeypatch):
    """Neither where nobody answers nor where Ray is not installed."""
    work = dict(monitor=Monitor(), receive=print, lost=print)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match="Ray, which is not installed"):
        work_through(Cluster(), Worker, lambda _: [], **work)
    started = []
    fake = SimpleNamespace(is_initialized=lambda: False, init=lambda **_: started.append(1))
    monkeypatch.setitem(sys.modules, "ray", fake)
    with pytest.raises(InputError, match="127.0.0.1:1: nobody answers"):
        work_through(Cluster(address="127.0.0.1:1"), Worker, lambda _: [], **work)
    assert not started


def test_what_an_outbox_is_told_arrives_in_order():
    outbox = Outbox()
    with outbox.stages(["a"], ["latent"], 9, [0]):
        outbox.resumed("a", "latent", 3)
        outbox.steps("a", "latent", 3, {})
    with pytest.raises(RuntimeError), outbox.task("t"):
        raise RuntimeError
    assert outbox.take() == [
        ("enter", 1, "stages", (["a"], ["latent"], 9, [0])),
        ("resumed", "a", "latent", 3),
        ("steps", "a", "latent", 3, {}),
        ("exit", 1, True),
        ("enter", 2, "task", ("t", "")),
        ("exit", 2, False),
    ]
    assert outbox.take() == []
