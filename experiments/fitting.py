"""Runs the stages of an inversion in chunks: shown, logged, saved and resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np

from eg3d_jax.cameras import azimuth
from eg3d_jax.generator import TriPlaneGenerator
from experiments import states
from experiments.errors import InputError
from experiments.event_log import EventLog
from experiments.methods import Method
from experiments.progress import Progress
from inversion.coherence import split_targets
from inversion.config import InversionConfig, StageConfig
from inversion.latents import Latents, WStatistics, repeat_latents
from inversion.objectives import FeatureNetworks, prepare_targets
from inversion.optimize import (
    StageState,
    advance_latent,
    advance_latents,
    advance_pivots,
    advance_tuning,
    start_latent,
    start_latents,
    start_tuning,
    tuned_generator,
)
from inversion.views import Views, continuous_azimuths

TERMS = ("pixel", "perceptual", "identity", "prior", "distance", "interpolation", "depth")
# Steps of one compiled call. On CPU a single one: XLA runs a loop's body two to three times slower
# than the same operations outside (StyleGAN's backbone and its gradient: 223 against 77 ms).
_CHUNK_STEPS = {"cpu": 1}
_OTHER_CHUNK_STEPS = 10
_SAVE_STEPS = 50


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

    def fit(self, method: Method, views: Views, start: Fit | None = None) -> Fit:
        """All stages of a method, from where an interrupted run left them.

        Args:
          method: how to fit.
          views: of `method.frames`.
          start: the finished `method.start`.
        """
        if method.knots is not None:
            assert start is not None
            return self._fit_several(method, views, start)
        per_step = self.config.views_per_step
        if per_step is not None and per_step < self.max_views:
            # Repeated to one number of views, all methods share one compiled program.
            views = views[np.resize(np.arange(len(views)), self.max_views)]
        targets = prepare_targets(self.networks, views)
        key_latent, key_tuning = jax.random.split(jax.random.key(self.seed))
        latent = self._run(
            method.latent_stage,
            self.config.latent,
            start_latent(self.w_statistics, self.generator.config.num_ws, key_latent),
            partial(
                advance_latent, generator=self.generator, networks=self.networks,
                targets=targets, w_statistics=self.w_statistics,
            ),
        )  # fmt: skip
        ws = latent.variables
        generator = self._tune(method, key_tuning, partial(advance_tuning, targets=targets, ws=ws))
        center = azimuth(self.generator.frontal_camera())
        return Fit(repeat_latents(ws, center[None]), generator)

    def _fit_several(self, method: Method, views: Views, start: Fit) -> Fit:
        """A latent for each knot, from the one of all views, then tuning around all of them."""
        assert method.knots is not None
        targets = prepare_targets(self.networks, views)
        targets = split_targets(targets, method.knots, method.between)
        angles = continuous_azimuths(np.asarray(azimuth(targets.knots.cameras)))
        before = repeat_latents(start.latents.w_plus[0], angles)
        key_latents, key_tuning = jax.random.split(jax.random.key(self.seed))
        state = self._run(
            method.latent_stage,
            self.config.latents,
            start_latents(before, key_latents),
            partial(
                advance_latents, generator=self.generator, networks=self.networks,
                targets=targets, start=before,
            ),
        )  # fmt: skip
        latents = dataclasses.replace(before, w_plus=state.variables)
        advance = partial(advance_pivots, targets=targets, latents=latents)
        return Fit(latents, self._tune(method, key_tuning, advance))

    def _tune(self, method: Method, key: jax.Array, advance: Callable) -> TriPlaneGenerator:
        """The generator after the tuning stage, or as it was if there are no steps."""
        if not self.config.tuning.num_steps:
            return self.generator
        tuned = self._run(
            method.tuning_stage,
            self.config.tuning,
            start_tuning(self.generator, key),
            partial(advance, generator=self.generator, networks=self.networks),
        )
        return tuned_generator(self.generator, tuned)

    def _run(
        self, name: str, stage: StageConfig, state: StageState, advance: Callable
    ) -> StageState:
        """Advance a stage to its end, in chunks; `advance` takes state, config and num_steps."""
        num_steps = stage.num_steps
        if not num_steps:
            return state
        folder = state_folder(self.folder, name)
        saved = states.load(folder, jax.eval_shape(lambda: state))
        state = state if saved is None else saved.tree
        first = 0 if saved is None else saved.step
        with self.progress.stage(name, num_steps, done=first) as shown:
            for step, count in chunks(first, num_steps):
                state, terms = advance(state, config=self.config, num_steps=count)
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
    names = [n for method in methods for n in (method.latent_stage, method.tuning_stage)]
    found = {name: states.steps(state_folder(folder, name)) for name in names}
    return {name: steps[-1] for name, steps in found.items() if steps}
