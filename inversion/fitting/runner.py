"""Run a stage of one or several videos to its end, with progress, saved states and resumption."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eg3d_jax.errors import InputError
from inversion.fitting.adam import StageState
from inversion.fitting.programs import Programs, chunk_steps, stack_videos, video
from inversion.fitting.stages import Stage
from inversion.fitting.states import Saver, Store
from inversion.monitor import Monitor, Stopped
from inversion.wording import beside

# Steps over which the perceptual term is averaged, as few of them see all views.
_TARGET_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class StageJob:
    """A stage of one video.

    Attributes:
      video: name; empty for a single one.
      name: of the stage, in logs and the store.
      stage: what is done.
      store: of its states.
    """

    video: str
    name: str
    stage: Stage
    store: Store

    @property
    def shown(self) -> str:
        """Title for messages: video and stage."""
        return f"{self.video}: {self.name}" if self.video else self.name


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """Result of a stage.

    Attributes:
      state: of the last step taken.
      stopped: why it ended early, or None.
      seconds: that its steps took here; of those taken together, its share.
      terms: unweighted losses [n] of the steps taken here, by name.
    """

    state: StageState
    stopped: str | None = None
    seconds: float = 0.0
    terms: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass
class _Running:
    """Progress of a job."""

    job: StageJob
    step: int
    stopped: str | None = None
    saved: int = -1
    recent: list[float] = field(default_factory=list)  # the perceptual term's last values
    reached: StageState | None = None  # state that met the target, if others continue
    saver: Saver | None = None
    terms: dict[str, list[np.ndarray]] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        steps = self.job.stage.schedule.num_steps
        return self.stopped is not None or self.reached is not None or self.step >= steps

    @property
    def note(self) -> dict[str, Any]:
        """Note that is saved beside a state."""
        return {
            "stopped": self.stopped,
            "reached": self.reached is not None,
            "recent": self.recent,
        }

    def result(self, state: StageState, seconds: float = 0.0) -> StageResult:
        terms = {name: np.concatenate(values) for name, values in self.terms.items()}
        return StageResult(state=state, stopped=self.stopped, seconds=seconds, terms=terms)


class StageRunner:
    """Runs stages of several videos together, with what they share."""

    def __init__(self, programs: Programs, monitor: Monitor):
        self.programs, self._monitor = programs, monitor

    def run(self, jobs: Sequence[StageJob]) -> list[StageResult]:
        """Advance jobs of equal shape together, from where an interrupted run left them.

        A job whose loss or result stops being finite, or whose loss explodes, ends there; the
        others go on.

        Raises:
          Stopped: if the monitor asked for it; all is saved then.
          DiskFullError: if a state could not be saved.
        """
        schedule = jobs[0].stage.schedule
        if not schedule.num_steps:
            return [StageResult(state=job.stage.state) for job in jobs]
        found = [self._newest(job) for job in jobs]
        running = [one for one, _ in found]
        if all(one.ended for one in running):
            return [one.result(state) for one, state in found]
        stages = [dataclasses.replace(one.job.stage, state=state) for one, state in found]
        videos, names = [job.video for job in jobs], [job.name for job in jobs]
        done, started = [one.step for one in running], time.monotonic()
        with ExitStack() as stack:
            for one in running:
                one.saver = stack.enter_context(one.job.store.saver(one.job.name))
            stack.enter_context(self._monitor.stages(videos, names, schedule.num_steps, done))
            state = self._advance(running, stages)
        seconds = (time.monotonic() - started) / len(jobs)
        # Onto one device, where the next stage is computed.
        ends = jax.device_put(
            [one.reached or video(state, i) for i, one in enumerate(running)],
            self.programs.mesh.devices[0],
        )
        return [one.result(end, seconds) for end, one in zip(ends, running, strict=True)]

    def _newest(self, job: StageJob) -> tuple[_Running, StageState]:
        """Load the newest state of a job, or make its first."""
        saved = job.store.load(job.name, jax.eval_shape(lambda: job.stage.state))
        # A newer state may have been damaged after its steps were reported.
        self._monitor.resumed(job.video, job.name, 0 if saved is None else saved.step)
        if saved is None:
            return _Running(job, 0), job.stage.state
        if not 0 <= saved.step <= job.stage.schedule.num_steps:
            raise InputError(
                f"the saved state of {job.shown} is of step {saved.step}, but the stage has "
                f"{job.stage.schedule.num_steps} steps; start a new run"
            )
        note = saved.note
        one = _Running(job, saved.step, note.get("stopped"), saved.step, note.get("recent", []))
        one.reached = saved.tree if note.get("reached") else None
        return one, saved.tree

    def _advance(self, running: list[_Running], stages: list[Stage]) -> StageState:
        """Take all steps of all jobs: their states, stacked."""
        mesh = self.programs.mesh
        stages = stages + [_frozen(stages[-1])] * (-len(stages) % mesh.size)
        state = stack_videos([stage.state for stage in stages], mesh)
        own = stack_videos([stage.own for stage in stages], mesh)
        program = self.programs.program(stages[0], state, own)
        while not all(one.ended for one in running):
            state, terms = program(state, own)
            steps = np.asarray(state.step)
            values = {name: np.asarray(value) for name, value in terms.items()}
            for i, one in enumerate(running):
                if not one.ended:
                    own_values = {name: value[i] for name, value in values.items()}
                    self._tell(one, int(steps[i]), own_values)
                    if self._reaches_target(one):
                        one.reached = video(state, i)
            stop = self._monitor.stop_requested()  # once: it may change while states are saved
            for i, one in enumerate(running):
                if stop or _is_due(one):
                    _save(one, video(state, i))
            if stop:
                for one in running:
                    if one.saver is not None:
                        one.saver.wait()
                raise Stopped("stopped as asked")
        return state

    def _tell(self, one: _Running, step: int, values: dict[str, np.ndarray]) -> None:
        """Report the steps to the monitor, and notice when one was rejected."""
        schedule, taken = one.job.stage.schedule, step - one.step
        shown = {name: value[:taken] for name, value in values.items()}
        self._monitor.steps(one.job.video, one.job.name, one.step, shown)
        one.step = step
        for name, value in shown.items():
            one.terms.setdefault(name, []).append(value)
        one.recent += [float(value) for value in shown.get("perceptual", ())]
        del one.recent[:-_TARGET_STEPS]
        if taken < chunk_steps(schedule) and step < schedule.num_steps:
            bad = [name for name, value in values.items() if not np.isfinite(value[taken])]
            what = f"the loss term {bad[0]} is not finite" if bad else "the loss has exploded"
            one.stopped = f"{one.job.shown}: {what} after step {step}, where it ended"
            self._monitor.say(one.stopped)

    def _reaches_target(self, one: _Running) -> bool:
        """Whether LPIPS is as low as wanted, so that the stage can end."""
        target = self.programs.config.target_lpips
        if target is None or len(one.recent) < _TARGET_STEPS or one.ended:
            return False
        mean = float(np.mean(one.recent))
        if mean <= target:
            found, wanted = beside(mean, target, 4, "f")
            self._monitor.say(
                f"{one.job.shown}: LPIPS {found} after step {one.step}, at most {wanted} was wanted"
            )
        return mean <= target


def _is_due(one: _Running) -> bool:
    """Whether the state should be saved now."""
    if one.saved == one.step:
        return False
    every = one.job.store.save_steps
    return one.ended or one.step // every > max(one.saved, 0) // every


def _save(one: _Running, state: StageState) -> None:
    if one.saver is not None and one.saved != one.step:
        one.saver.save(one.step, state, one.note)
        one.saved = one.step


def _frozen(stage: Stage) -> Stage:
    """Copy a state so that it takes no steps, as padding."""
    past = jnp.asarray(stage.schedule.num_steps, jnp.int32)
    return dataclasses.replace(stage, state=dataclasses.replace(stage.state, step=past))
