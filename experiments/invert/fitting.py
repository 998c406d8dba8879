"""Fits latents and generators to the views of one or several videos, method by method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from eg3d_jax.cameras import azimuth
from eg3d_jax.generator import TriPlaneGenerator
from experiments.invert.stage_runner import Ended, StageRunner, Work
from experiments.runs.log import EventLog
from inversion.config import InversionConfig
from inversion.fitting import states
from inversion.fitting.programs import Programs
from inversion.fitting.stages import (
    Stage,
    found_latents,
    found_noise_maps,
    latent_stage,
    latents_stage,
    tuning_stage,
)
from inversion.fitting.steps import tuned_generator
from inversion.latents import Latents, WStatistics
from inversion.methods import Method
from inversion.noise_maps import NoiseMaps, with_noise_maps
from inversion.objectives import FeatureNetworks, prepare_targets
from inversion.views import Views, ascending_azimuths

TERMS = ("pixel", "perceptual", "identity", "prior", "noise", "distance", "interpolation", "depth")


@dataclass(frozen=True)
class Fit:
    """A finished method.

    Attributes:
      latents: found.
      generator: tuned, or not if there was no tuning; with the fitted noise maps.
      noise_maps: fitted with the latents; empty if none were.
      stopped: what was said of stages that ended early.
      unusable: whether one ended before its first step.
    """

    latents: Latents
    generator: TriPlaneGenerator
    noise_maps: NoiseMaps = field(default_factory=dict)
    stopped: tuple[str, ...] = ()
    unusable: bool = False


@dataclass(frozen=True, kw_only=True)
class Job:
    """A method for one video.

    Attributes:
      method: how to fit.
      views: of `method.frames`.
      start: the finished `method.start`.
      folder: for the states of the video, a folder each stage.
      log: of its losses.
      prefix: of the stages' names on the screen, if there are several videos.
    """

    method: Method
    views: Views
    start: Fit | None
    folder: Path
    log: EventLog
    prefix: str = ""


@dataclass(frozen=True)
class Fitter:
    """What all methods of all videos share.

    Attributes:
      generator: as loaded.
      networks: of the losses.
      w_statistics: of the generator's mapping.
      config: schedules and weights.
      programs: of the steps.
      runner: of the stages.
      seed: of the draws.
    """

    generator: TriPlaneGenerator
    networks: FeatureNetworks
    w_statistics: WStatistics
    config: InversionConfig
    programs: Programs
    runner: StageRunner
    seed: int

    def fit(self, jobs: Sequence[Job]) -> list[Fit]:
        """All stages of one method for videos of equal shape, from where a stopped run left them.

        They share the steps that find latents; then each device tunes one generator at a time.
        """
        key_found, key_tuning = jax.random.split(jax.random.key(self.seed))
        stages = [self.first_stage(job.method, job.views, job.start, key_found) for job in jobs]
        works = [
            _work(job, job.method.latent_stage, stage)
            for job, stage in zip(jobs, stages, strict=True)
        ]
        ends = self.runner.run(works)
        frontal = azimuth(self.generator.frontal_camera())
        found = list(zip(jobs, stages, ends, strict=True))
        fits, at_once = [], self.programs.mesh.size
        for first in range(0, len(found), at_once):
            wave = found[first : first + at_once]
            tuned = self._tune(wave, key_tuning)
            for (_, stage, end), tuning in zip(wave, tuned, strict=True):
                both = [end] if tuning is None else [end, tuning]
                maps = found_noise_maps(stage, end.state)
                generator = with_noise_maps(self.generator, maps)
                fits.append(
                    Fit(
                        found_latents(stage, end.state, frontal),
                        generator=generator
                        if tuning is None
                        else tuned_generator(generator, tuning.state),
                        noise_maps=maps,
                        stopped=tuple(e.stopped for e in both if e.stopped),
                        unusable=any(e.stopped and not int(e.state.step) for e in both),
                    )
                )
        return fits

    def first_stage(self, method: Method, views: Views, start: Fit | None, key: jax.Array) -> Stage:
        """The stage that finds the latent or the latents."""
        if method.knots is None:
            targets = prepare_targets(self.networks, self.repeated(method, views))
            return latent_stage(self.generator, self.w_statistics, self.config, targets, key)
        assert start is not None
        targets = prepare_targets(self.networks, views)
        with jax.ensure_compile_time_eval():  # cameras are known where only shapes are planned
            angles = ascending_azimuths(azimuth(views.cameras))[method.knots]
        pivot = start.latents.w_plus[0]
        angles = jnp.asarray(angles)
        return latents_stage(method, self.config, targets, pivot, start.noise_maps, angles, key)

    def repeated(self, method: Method, views: Views) -> Views:
        """A method's views, a lone one as often as `Method.copies` says where steps draw some."""
        per_step = self.config.views_per_step
        if per_step is None or per_step >= method.copies:
            return views
        return views[np.repeat(np.arange(len(views)), method.copies)]

    def _tune(self, wave: list[tuple[Job, Stage, Ended]], key: jax.Array) -> list[Ended | None]:
        """The tuning stages at their end; None if they have no steps."""
        if not self.config.tuning.num_steps:
            return [None for _ in wave]
        works = [
            _work(
                job,
                job.method.tuning_stage,
                tuning_stage(self.generator, self.config, stage, end.state, key),
            )
            for job, stage, end in wave
        ]
        return [*self.runner.run(works)]


def _work(job: Job, name: str, stage: Stage) -> Work:
    return Work(
        name=name,
        shown=job.prefix + name,
        stage=stage,
        folder=state_folder(job.folder, name),
        log=job.log,
    )


def state_folder(folder: Path, stage: str) -> Path:
    """Where the states of a stage lie."""
    return folder / stage.replace(", ", "-").replace(" ", "-")


def steps_done(folder: Path, methods: Sequence[Method]) -> dict[str, int]:
    """Steps of the newest state of every stage that has one, damaged or not."""
    names = [n for method in methods for n in (method.latent_stage, method.tuning_stage)]
    found = {name: states.steps(state_folder(folder, name)) for name in names}
    return {name: steps[-1] for name, steps in found.items() if steps}
