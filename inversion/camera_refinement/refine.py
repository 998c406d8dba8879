"""Refinement of the camera labels of a folder of frames.

First a latent is fitted together with the cameras of some frames. Each frame's camera is then
aligned to that head in small pictures, the latent is fitted to all frames, and each camera is
aligned again in pictures twice as large. The cameras of a video are smoothed after either
alignment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eg3d_jax.cameras import Cameras, yaw_azimuth
from eg3d_jax.errors import InputError
from eg3d_jax.generator import TriPlaneGenerator, planes_of
from inversion.camera_refinement.alignment import align
from inversion.camera_refinement.joint import (
    PoseTargets,
    RefinementConfig,
    advance_joint,
    advance_latent,
    pose_targets,
    start_joint,
    start_latent,
)
from inversion.camera_refinement.motion import (
    OF_FOOTAGE,
    CameraMotion,
    CameraPrior,
    no_motion,
    rigid_between,
    transform,
)
from inversion.camera_refinement.smoothing import smooth, smooth_motions
from inversion.config import StageConfig
from inversion.features.lpips import Lpips
from inversion.features.networks import load_networks
from inversion.fitting.adam import StageState
from inversion.fitting.programs import chunk_steps
from inversion.footage.prepare import is_tracked
from inversion.frames.folder import Frames, check_masks, read_images, resized_masks
from inversion.latents import WStatistics, mean_latent
from inversion.monitor import Monitor, Stopped
from inversion.objectives import FeatureNetworks, Terms
from inversion.views import Views, select_evenly

LEAST_SIDE = 32  # pixels, below which LPIPS cannot see
# Pictures rendered together in an alignment. On a CPU one: XLA's batches of convolutions are slow.
_PICTURES_AT_ONCE = {"cpu": 1}
_OTHER_PICTURES_AT_ONCE = 4


def usual_config(frames: Frames) -> RefinementConfig:
    """What suits frames: those that `prepare` made of a video are held to what it promises.

    Their background, which turns otherwise than the head, is left out if they have masks.
    """
    if not is_tracked(frames.folder):
        return RefinementConfig()
    return RefinementConfig(
        prior=OF_FOOTAGE, smooth_errors=True, mask_background=frames.mask is not None
    )


@dataclass(frozen=True, kw_only=True)
class Refined:
    """Refined cameras of T frames.

    Attributes:
      cameras: [T] of all frames.
      motion: from the cameras given to these: rigid [T, 6] and focal [].
      ws: [L, D] latent of the head that they were aligned to.
    """

    cameras: Cameras
    motion: CameraMotion
    ws: jax.Array


def refine_cameras(
    generator: TriPlaneGenerator,
    frames: Frames,
    config: RefinementConfig | None = None,
    *,
    key: jax.Array,
    networks: FeatureNetworks | None = None,
    w_statistics: WStatistics | None = None,
    monitor: Monitor | None = None,
) -> Refined:
    """Refine the cameras of all frames of one head.

    Args:
      generator: any with weights; not changed.
      frames: T, with their cameras as given.
      config: schedule, weights and deviations expected; those of `usual_config` if None. Pictures
        compared have at least `LEAST_SIDE` pixels along either axis, whatever its `side`.
      key: of all draws; the same key gives the same result.
      networks: whose LPIPS is the perceptual term; loaded for the generator's size if None.
      w_statistics: of the generator's mapping; computed if None.
      monitor: told of every step, and of a camera aligned as of a step; silent if None.

    Returns:
      The cameras, how far they moved, and the latent.

    Raises:
      InputError: if a loss is not finite, a frame cannot be read, or masks are wanted and missing.
      ValueError: if the config's `num_views` is below 1.
      Stopped: if the monitor asked for it; nothing is kept.
    """
    config, monitor = config or usual_config(frames), monitor or Monitor()
    config = replace(config, side=max(config.side or generator.config.neural_side, LEAST_SIDE))
    if config.mask_background:
        check_masks(frames, np.arange(len(frames)))
    count = min(config.num_views, len(frames))
    chosen = select_evenly(np.radians(yaw_azimuth(frames.yaw_degrees, degrees=True)), count)
    if networks is None:
        networks = load_networks(generator.config.image_side)
    if w_statistics is None:
        with monitor.task("statistics of the latent space"):
            w_statistics = mean_latent(generator)
    refiner = _Refiner(generator, networks.lpips, w_statistics, frames, config, monitor)
    return refiner.refine(chosen, key)


@dataclass(frozen=True)
class _Refiner:
    """Stages of a refinement, and what they share."""

    generator: TriPlaneGenerator
    lpips: Lpips
    w_statistics: WStatistics
    frames: Frames
    config: RefinementConfig
    monitor: Monitor

    def refine(self, chosen: np.ndarray, key: jax.Array) -> Refined:
        """Run all stages; `chosen` are the frames [V] fitted together with the latent."""
        config, given = self.config, self.frames.cameras
        everyone = np.arange(len(self.frames))
        key_joint, key_latent = jax.random.split(key)
        num_ws = self.generator.config.num_ws
        state = start_joint(self.w_statistics, num_ws, len(chosen), key_joint)
        ws, motion = self.fit(
            "a latent and some cameras", advance_joint, state, given, chosen, config.joint
        )
        rigid = no_motion(len(self.frames)).rigid.at[chosen].set(motion.rigid)
        motion = replace(motion, rigid=rigid)
        # Heads far from their place are found in small pictures, sooner and from farther away.
        coarse = replace(config, side=max((config.side or 0) // 2, LEAST_SIDE))
        motion = self.align("each camera, roughly", ws, motion, coarse, config.coarse_steps)
        cameras = transform(given, motion, config.prior)
        state = start_latent(ws, key_latent)
        ws = self.fit(
            "the latent of all frames", advance_latent, state, cameras, everyone, config.latent
        )
        motion = self.align("each camera", ws, motion, config, config.fine_steps)
        cameras = transform(given, motion, config.prior)
        rigid = motion.rigid + _shared(motion, config.prior)
        motion = CameraMotion(rigid=rigid, focal=motion.focal)
        return Refined(cameras=cameras, motion=motion, ws=ws)

    def fit(
        self,
        name: str,
        advance: Callable[..., tuple[StageState, Terms]],
        state: StageState,
        cameras: Cameras,
        indices: np.ndarray,
        schedule: StageConfig,
    ) -> Any:
        """Fit the frames `indices` from `cameras` [T] in one stage; the state's variables."""
        targets = [self._target(i, cameras, self.config) for i in indices]
        advance = partial(
            advance,
            generator=self.generator,
            lpips=self.lpips,
            targets=jax.tree.map(lambda *x: jnp.concatenate(x), *targets),
            w_statistics=self.w_statistics,
            config=self.config,
        )
        chunk, done = chunk_steps(schedule), 0
        with self.monitor.stages([""], [name], schedule.num_steps, [0]):
            while done < schedule.num_steps:
                state, terms = advance(state, num_steps=chunk)
                before, done = done, int(state.step)
                if done == before:
                    raise InputError(
                        f"the loss is not finite after step {done}; check frames and labels"
                    )
                self._tell(
                    name, before, {k: np.asarray(v)[: done - before] for k, v in terms.items()}
                )
        return state.variables

    def align(
        self,
        name: str,
        ws: jax.Array,
        motion: CameraMotion,
        config: RefinementConfig,
        num_steps: int,
    ) -> CameraMotion:
        """Align every frame's camera to the head of a latent [L, D], and smooth a video's."""
        rigid, planes = np.array(motion.rigid), planes_of(self.generator, ws)
        at_once = _PICTURES_AT_ONCE.get(jax.default_backend(), _OTHER_PICTURES_AT_ONCE)
        with self.monitor.stages([""], [name], len(self.frames), [0]):
            for i, frame in enumerate(self.frames.names):
                target = jax.tree.map(lambda x: x[0], self._target(i, self.frames.cameras, config))
                start = replace(motion, rigid=jnp.asarray(rigid[i]))
                found, losses = align(
                    start, self.generator, self.lpips, target, planes,
                    config=config, num_steps=num_steps, pictures_at_once=at_once,
                )  # fmt: skip
                if not np.isfinite(losses[-1]):
                    raise InputError(f"{frame}: the loss is not finite; check picture and label")
                rigid[i] = found.rigid
                self._tell(name, i, {"loss": np.asarray(losses[-1:])})
        motion = replace(motion, rigid=jnp.asarray(rigid))
        if not config.steady:
            return motion
        if config.smooth_errors:
            return replace(motion, rigid=jnp.asarray(smooth_motions(rigid), jnp.float32))
        given, prior = self.frames.cameras, config.prior
        smoothed = smooth(transform(given, motion, prior), prior)
        return replace(motion, rigid=rigid_between(given, smoothed, prior) - _shared(motion, prior))

    def _tell(self, name: str, first: int, terms: dict[str, np.ndarray]) -> None:
        """Report steps to the monitor, and stop if it asks for it."""
        self.monitor.steps("", name, first, terms)
        if self.monitor.stop_requested():
            raise Stopped("the camera refinement was stopped; it starts anew next time")

    def _target(self, index: int, cameras: Cameras, config: RefinementConfig) -> PoseTargets:
        """Read one frame as a target of one view; not all at once, for videos may be long."""
        one = np.array([index])
        mask = None
        if config.mask_background and self.frames.mask is not None:
            mask = jnp.asarray(resized_masks(self.frames.mask[one], self.frames.image_side))
        images = jnp.asarray(read_images(self.frames, one))
        views = Views(images=images, cameras=cameras[one], mask=mask)
        return _targets(self.generator, self.lpips, views, config=config)


def _shared(motion: CameraMotion, prior: CameraPrior) -> jax.Array:
    """What all cameras share of a motion, [6] in units of each one's deviations."""
    return prior.shared * motion.shared


_targets = jax.jit(pose_targets, static_argnames="config")
