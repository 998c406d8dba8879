"""Refines the cameras of a folder of frames.

Some together with a latent; each by itself, in small pictures; then the latent is fitted to all,
and each moves once more, in pictures twice as large. Whenever each moved by itself, what shakes
from one frame to the next is taken out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eg3d_jax.cameras import Cameras
from eg3d_jax.errors import InputError
from eg3d_jax.generator import TriPlaneGenerator, planes_of
from experiments.progress import Progress
from inversion.camera_refinement.alignment import align
from inversion.camera_refinement.joint import (
    PoseConfig,
    PoseTargets,
    advance_joint,
    advance_latent,
    pose_targets,
    start_joint,
    start_latent,
)
from inversion.camera_refinement.motion import CameraMotion, moved, rigid_between, still
from inversion.camera_refinement.smoothing import steadied
from inversion.config import StageConfig
from inversion.features.lpips import Lpips
from inversion.fitting.adam import StageState
from inversion.fitting.programs import chunk_steps
from inversion.frames.folder import Frames, read_images
from inversion.latents import WStatistics
from inversion.objectives import Terms
from inversion.views import Views

LEAST_SIDE = 32  # pixels, below which LPIPS cannot see
# Where a frame is aligned. On a CPU one: XLA's batches of convolutions are slow there.
_PICTURES_AT_ONCE = {"cpu": 1}
_OTHER_PICTURES_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class Refined:
    """Frames' cameras as they were found.

    Attributes:
      cameras: [T] of all frames.
      motion: by which they moved: rigid [T, 6] and focal [].
      ws: [L, D] of the head that they were found with.
    """

    cameras: Cameras
    motion: CameraMotion
    ws: jax.Array


def refine(
    generator: TriPlaneGenerator,
    lpips: Lpips,
    w_statistics: WStatistics,
    frames: Frames,
    chosen: np.ndarray,
    config: PoseConfig,
    progress: Progress,
    *,
    seed: int = 0,
) -> Refined:
    """Cameras of all frames.

    Args:
      generator: as loaded.
      lpips: of the perceptual term.
      w_statistics: of the generator's mapping.
      frames: T, with their cameras as given.
      chosen: indices of the views whose cameras are found together with the latent.
      config: of all stages.
      progress: told what is done.
      seed: of the draws.

    Raises:
      InputError: if a loss stops being finite.
    """
    refiner = _Refiner(generator, lpips, w_statistics, frames, config, progress)
    everyone = np.arange(len(frames))
    key_joint, key_latent = jax.random.split(jax.random.key(seed))
    state = start_joint(w_statistics, generator.config.num_ws, len(chosen), key_joint)
    ws, motion = refiner.fit(
        "a latent and some cameras", advance_joint, state, frames.cameras, chosen, config.joint
    )
    rigid = still(len(frames)).rigid.at[chosen].set(motion.rigid)
    motion = replace(motion, rigid=rigid)
    # Heads far from their place are found in small pictures, sooner and from farther away.
    coarse = replace(config, side=max((config.side or 0) // 2, LEAST_SIDE))
    motion = refiner.align("each camera, roughly", ws, motion, coarse, config.coarse_steps)
    state, cameras = start_latent(ws, key_latent), moved(frames.cameras, motion, config.spread)
    ws = refiner.fit(
        "the latent of all frames", advance_latent, state, cameras, everyone, config.latent
    )
    motion = refiner.align("each camera", ws, motion, config, config.fine_steps)
    return Refined(cameras=moved(frames.cameras, motion, config.spread), motion=motion, ws=ws)


@dataclass(frozen=True)
class _Refiner:
    """What all stages of a refinement share."""

    generator: TriPlaneGenerator
    lpips: Lpips
    w_statistics: WStatistics
    frames: Frames
    config: PoseConfig
    progress: Progress

    def fit(
        self,
        name: str,
        advance: Callable[..., tuple[StageState, Terms]],
        state: StageState,
        cameras: Cameras,
        indices: np.ndarray,
        stage: StageConfig,
    ) -> Any:
        """What the state's variables become in a stage that sees frames from these cameras."""
        targets = [self._target(i, cameras, self.config) for i in indices]
        advance = partial(
            advance,
            generator=self.generator,
            lpips=self.lpips,
            targets=jax.tree.map(lambda *x: jnp.concatenate(x), *targets),
            w_statistics=self.w_statistics,
            config=self.config,
        )
        chunk, done = chunk_steps(stage), 0
        with self.progress.stage(name, stage.num_steps) as shown:
            while done < stage.num_steps:
                state, terms = advance(state, num_steps=chunk)
                before, done = done, int(state.step)
                if done == before:
                    raise InputError(
                        f"the loss is not finite after step {done}; check frames and labels"
                    )
                shown.update(done, terms)
        return state.variables

    def align(
        self, name: str, ws: jax.Array, motion: CameraMotion, config: PoseConfig, num_steps: int
    ) -> CameraMotion:
        """Every frame's camera by itself, the head as it is; then without what shakes."""
        rigid, planes = np.array(motion.rigid), planes_of(self.generator, ws)
        at_once = _PICTURES_AT_ONCE.get(jax.default_backend(), _OTHER_PICTURES_AT_ONCE)
        with self.progress.stage(name, len(self.frames)) as shown:
            for i, frame in enumerate(self.frames.names):
                target = jax.tree.map(lambda x: x[0], self._target(i, self.frames.cameras, config))
                rigid[i], losses = align(
                    jnp.asarray(rigid[i]), self.generator, self.lpips, target, planes,
                    motion.focal, config=config, num_steps=num_steps, pictures_at_once=at_once,
                )  # fmt: skip
                if not np.isfinite(losses[-1]):
                    raise InputError(f"{frame}: the loss is not finite; check picture and label")
                shown.update(i + 1, {"loss": losses})
        motion = replace(motion, rigid=jnp.asarray(rigid))
        if not config.steady:
            return motion
        given, spread = self.frames.cameras, config.spread
        steady = steadied(moved(given, motion, spread), spread)
        return replace(motion, rigid=rigid_between(given, steady, spread))

    def _target(self, index: int, cameras: Cameras, config: PoseConfig) -> PoseTargets:
        """A frame, with an axis of one view; one at a time, for videos may be long."""
        one = np.array([index])
        views = Views(images=jnp.asarray(read_images(self.frames, one)), cameras=cameras[one])
        return _targets(self.generator, self.lpips, views, config=config)


_targets = jax.jit(pose_targets, static_argnames="config")
