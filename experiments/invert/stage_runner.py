"""Runs a stage of one or several videos to its end: shown, logged, saved and resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eg3d_jax.errors import InputError
from experiments.command import deferred_interrupt
from experiments.progress import Progress
from experiments.runs.log import EventLog
from inversion.fitting import states
from inversion.fitting.adam import StageState
from inversion.fitting.programs import Programs, chunk_steps, stack_videos, video
from inversion.fitting.stages import Stage
from inversion.wording import beside

# Over so many steps the perceptual term is averaged: few of them see all views.
_TARGET_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class Work:
    """A stage of one video.

    Attributes:
      name: of the stage in logs.
      shown: of the stage and video on the screen.
      stage: what is done.
      folder: for its states.
      log: of its losses.
    """

    name: str
    shown: str
    stage: Stage
    folder: Path
    log: EventLog


@dataclass(frozen=True)
class Ended:
    """A stage at its end.

    Attributes:
      state: of the last step taken.
      stopped: why it ended early, or None.
    """

    state: StageState
    stopped: str | None = None


@dataclass
class _Way:
    """How far a work is."""

    work: Work
    saver: states.Saver | None
    step: int
    stopped: str | None = None
    saved: int = field(default=-1)
    recent: list[float] = field(default_factory=list)  # the perceptual term's last values
    reached: StageState | None = None  # where the target was, of a way that goes on with others

    @property
    def ended(self) -> bool:
        steps = self.work.stage.schedule.num_steps
        return self.stopped is not None or self.reached is not None or self.step >= steps

    @property
    def note(self) -> dict[str, Any]:
        """What is saved beside a state."""
        return {
            "stopped": self.stopped,
            "reached": self.reached is not None,
            "recent": self.recent,
        }


class StageRunner:
    """Runs stages; holds what all of them share."""

    def __init__(self, programs: Programs, progress: Progress, save_steps: int):
        self._programs, self._progress, self._save_steps = programs, progress, save_steps

    def run(self, works: Sequence[Work]) -> list[Ended]:
        """Advance works of equal shape together, from where an interrupted run left them.

        A work whose loss or result stops being finite, or whose loss explodes, ends there; the
        others go on.

        Raises:
          KeyboardInterrupt: if the user asked to stop; all is saved then.
          DiskFullError: if a state could not be saved.
        """
        schedule = works[0].stage.schedule
        if not schedule.num_steps:
            return [Ended(work.stage.state) for work in works]
        found = [_newest(work) for work in works]
        ways = [way for way, _ in found]
        if all(way.ended for way in ways):
            return [Ended(state, way.stopped) for way, state in found]
        stages = [dataclasses.replace(way.work.stage, state=state) for way, state in found]
        names, done = [work.shown for work in works], [way.step for way in ways]
        with ExitStack() as stack:
            for way in ways:
                way.saver = stack.enter_context(states.Saver(way.work.folder))
            shown = stack.enter_context(self._progress.stages(names, schedule.num_steps, done=done))
            state = self._advance(ways, stages, shown)
        # On one device, where what follows is computed.
        ends = jax.device_put(
            [way.reached or video(state, i) for i, way in enumerate(ways)],
            self._programs.mesh.devices[0],
        )
        return [Ended(end, way.stopped) for end, way in zip(ends, ways, strict=True)]

    def _advance(self, ways: list[_Way], stages: list[Stage], shown: list) -> StageState:
        """All steps of all ways: their states, stacked."""
        mesh = self._programs.mesh
        stages = stages + [_frozen(stages[-1])] * (-len(stages) % mesh.size)
        state = stack_videos([stage.state for stage in stages], mesh)
        own = stack_videos([stage.own for stage in stages], mesh)
        program = self._programs.program(stages[0], state, own)
        with deferred_interrupt() as interrupt:
            while not all(way.ended for way in ways):
                state, terms = program(state, own)
                steps = np.asarray(state.step)
                values = {name: np.asarray(value) for name, value in terms.items()}
                stop = interrupt.asked  # once: it may change while the states are saved
                for i, way in enumerate(ways):
                    if not way.ended:
                        own_values = {name: value[i] for name, value in values.items()}
                        self._tell(way, int(steps[i]), own_values)
                        shown[i].update(way.step, own_values)
                        if self._reaches_target(way):
                            way.reached = video(state, i)
                    if self._due(way) or stop:
                        self._save(way, video(state, i))
                if stop:
                    break
            if not interrupt.asked:
                return state
        for way in ways:
            assert way.saver is not None
            way.saver.wait()
        raise KeyboardInterrupt("everything so far is saved; go on with --resume")

    def _tell(self, way: _Way, step: int, values: dict[str, np.ndarray]) -> None:
        """Log the steps that were taken, and notice when one was not."""
        schedule, taken = way.work.stage.schedule, step - way.step
        way.work.log.scalars(way.work.name, way.step, {k: v[:taken] for k, v in values.items()})
        way.step = step
        way.recent += [float(value) for value in values.get("perceptual", ())[:taken]]
        del way.recent[:-_TARGET_STEPS]
        if taken < chunk_steps(schedule) and step < schedule.num_steps:
            bad = [name for name, value in values.items() if not np.isfinite(value[taken])]
            what = f"the loss term {bad[0]} is not finite" if bad else "the loss has exploded"
            way.stopped = f"{way.work.shown}: {what} after step {step}, where it ended"
            self._progress.say(way.stopped)

    def _reaches_target(self, way: _Way) -> bool:
        """Whether the way looks enough like its frames, and need not go on."""
        target = self._programs.config.target_lpips
        if target is None or len(way.recent) < _TARGET_STEPS or way.ended:
            return False
        mean = float(np.mean(way.recent))
        if mean <= target:
            found, wanted = beside(mean, target, 4, "f")
            self._progress.say(
                f"{way.work.shown}: LPIPS {found} after step {way.step}, at most {wanted} was "
                "wanted"
            )
        return mean <= target

    def _due(self, way: _Way) -> bool:
        """Whether the way's state should be saved now."""
        if way.saved == way.step:
            return False
        return way.ended or way.step // self._save_steps > max(way.saved, 0) // self._save_steps

    def _save(self, way: _Way, state: StageState) -> None:
        if way.saved != way.step:
            assert way.saver is not None
            way.saver.save(way.step, state, way.note)
            way.saved = way.step


def _newest(work: Work) -> tuple[_Way, StageState]:
    """Where a work begins, or goes on."""
    saved = states.load(work.folder, jax.eval_shape(lambda: work.stage.state))
    # A newer state may have been damaged, and its steps logged.
    work.log.go_back(work.name, 0 if saved is None else saved.step)
    if saved is None:
        return _Way(work, None, 0), work.stage.state
    note = saved.note
    way = _Way(work, None, saved.step, note.get("stopped"), saved.step, note.get("recent", []))
    way.reached = saved.tree if note.get("reached") else None
    if not 0 <= saved.step <= work.stage.schedule.num_steps:
        raise InputError(
            f"{work.folder} holds a state of step {saved.step}, but the stage has "
            f"{work.stage.schedule.num_steps} steps; start a new run"
        )
    return way, saved.tree


def _frozen(stage: Stage) -> Stage:
    """A copy that takes no steps, to fill a place."""
    past = jnp.asarray(stage.schedule.num_steps, jnp.int32)
    return dataclasses.replace(stage, state=dataclasses.replace(stage.state, step=past))
