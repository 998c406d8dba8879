"""Runs the stages of an inversion in chunks: shown, logged, saved and resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from eg3d_jax.cameras import azimuth
from eg3d_jax.generator import TriPlaneGenerator
from experiments import states
from experiments.errors import InputError
from experiments.event_log import EventLog
from experiments.progress import Progress
from inversion.config import InversionConfig
from inversion.latents import Latents, WStatistics, repeat_latents
from inversion.objectives import FeatureNetworks, prepare_targets
from inversion.optimize import (
    StageState,
    advance_latent,
    advance_tuning,
    start_latent,
    start_tuning,
    tuned_generator,
)
from inversion.views import Views

TERMS = ("pixel", "perceptual", "identity", "prior")
# Steps of one compiled call. On CPU a single one: XLA runs a loop's body two to three times slower
# than the same operations outside (StyleGAN's backbone and its gradient: 223 against 77 ms).
_CHUNK_STEPS = {"cpu": 1}
_OTHER_CHUNK_STEPS = 10
_SAVE_STEPS = 50


@dataclass(frozen=True)
class Method:
    """One way to invert: a name and the frames it is fitted to."""

    name: str
    frames: np.ndarray

    def stage(self, stage: str) -> str:
        """Name of a stage in logs and folders."""
        return f"{self.name}, {stage}"


@dataclass(frozen=True)
class Fit:
    """A finished method: its latents, and the tuned generator (the original without tuning)."""

    latents: Latents
    generator: TriPlaneGenerator


@dataclass(frozen=True)
class Fitter:
    """What all methods of a run share.

    Attributes:
      generator: as loaded.
      networks: of the losses.
      w_statistics: of the generator's mapping.
      config: schedules and weights.
      folder: for the states.
      log: of the losses.
      progress: what the user sees.
      seed: of the draws.
      max_views: most views of any method.
    """

    generator: TriPlaneGenerator
    networks: FeatureNetworks
    w_statistics: WStatistics
    config: InversionConfig
    folder: Path
    log: EventLog
    progress: Progress
    seed: int
    max_views: int

    def fit(self, method: Method, views: Views) -> Fit:
        """Both stages, from where an interrupted run left them."""
        per_step = self.config.views_per_step
        if per_step is not None and per_step < self.max_views:
            # Repeated to one number of views, all methods share one compiled program.
            views = views[np.resize(np.arange(len(views)), self.max_views)]
        targets = prepare_targets(self.networks, views)
        key_latent, key_tuning = jax.random.split(jax.random.key(self.seed))
        latent = start_latent(self.w_statistics, self.generator.config.num_ws, key_latent)
        if self.config.latent.num_steps:
            latent = self._run(
                method.stage("latent"),
                latent,
                self.config.latent.num_steps,
                lambda state, n: advance_latent(
                    state, self.generator, self.networks, targets, self.w_statistics,
                    config=self.config, num_steps=n,
                ),
            )  # fmt: skip
        ws, generator = latent.variables, self.generator
        if self.config.tuning.num_steps:
            tuned = self._run(
                method.stage("tuning"),
                start_tuning(generator, key_tuning),
                self.config.tuning.num_steps,
                lambda state, n: advance_tuning(
                    state, self.generator, self.networks, targets, ws,
                    config=self.config, num_steps=n,
                ),
            )  # fmt: skip
            generator = tuned_generator(self.generator, tuned)
        center = azimuth(self.generator.frontal_camera())
        return Fit(repeat_latents(ws, center[None]), generator)

    def _run(
        self,
        name: str,
        state: StageState,
        num_steps: int,
        advance: Callable[[StageState, int], tuple[StageState, dict[str, jax.Array]]],
    ) -> StageState:
        folder = state_folder(self.folder, name)
        saved = states.load(folder, jax.eval_shape(lambda: state))
        state = state if saved is None else saved.tree
        first = 0 if saved is None else saved.step
        with self.progress.stage(name, num_steps, done=first) as shown:
            for step, count in chunks(first, num_steps):
                state, terms = advance(state, count)
                values = {key: np.asarray(value) for key, value in terms.items()}
                self._require_finite(name, step, values)
                self.log.scalars(name, step, values)
                done = step + count
                shown.update(done, values)
                if done % _SAVE_STEPS < count or done == num_steps:
                    states.save(folder, done, state)
        return state

    def _require_finite(self, name: str, step: int, values: dict[str, np.ndarray]) -> None:
        bad = [key for key, value in values.items() if not np.isfinite(value).all()]
        if bad:
            raise InputError(
                f"{name}: the loss term {bad[0]} is not finite after step {step}; the last saved "
                "state is intact; start again with a lower learning rate"
            )


def chunks(first: int, num_steps: int) -> Iterator[tuple[int, int]]:
    """(first step, length) of each chunk; all of one length, so that one program serves."""
    longest = _CHUNK_STEPS.get(jax.default_backend(), _OTHER_CHUNK_STEPS)
    length = max(n for n in range(1, longest + 1) if num_steps % n == 0)
    if first % length:
        raise InputError(f"a state of step {first} does not fit chunks of {length}; start anew")
    yield from ((step, length) for step in range(first, num_steps, length))


def state_folder(folder: Path, stage: str) -> Path:
    """Where the states of a stage lie."""
    return folder / stage.replace(", ", "-").replace(" ", "-")


def steps_done(folder: Path, methods: list[Method]) -> dict[str, int]:
    """Steps of the newest state of every stage that has one."""
    names = [method.stage(stage) for method in methods for stage in ("latent", "tuning")]
    found = {name: states.steps(state_folder(folder, name)) for name in names}
    return {name: steps[-1] for name, steps in found.items() if steps}
