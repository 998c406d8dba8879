"""Refines the cameras of a folder of frames: some together with a latent, then each by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from eg3d_jax.cameras import Cameras
from eg3d_jax.generator import TriPlaneGenerator
from experiments.errors import InputError
from experiments.frames_io import Frames, read_images
from experiments.programs import chunk_steps
from experiments.progress import Progress
from inversion.camera_motion import CameraMotion, moved
from inversion.config import StageConfig
from inversion.features.lpips import Lpips
from inversion.latents import WStatistics
from inversion.objectives import Terms
from inversion.poses import (
    PoseConfig,
    PoseTargets,
    advance_each,
    advance_joint,
    pose_targets,
    start_each,
    start_joint,
)
from inversion.state import StageState
from inversion.views import Views

LEAST_SIDE = 32  # pixels, below which LPIPS cannot see
# Of the second stage. On a CPU one: XLA's loops and batches of convolutions are slow there.
_FRAMES_AT_ONCE = {"cpu": 1}
_OTHER_FRAMES_AT_ONCE = 8


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
      config: of both stages.
      progress: told what is done.
      seed: of the draws.

    Raises:
      InputError: if a loss stops being finite.
    """
    key_joint, key_each = jax.random.split(jax.random.key(seed))
    compared = jax.jit(pose_targets, static_argnames="config")
    at_once = _FRAMES_AT_ONCE.get(jax.default_backend(), _OTHER_FRAMES_AT_ONCE)
    # A quarter of the rays will do where the head is known.
    coarse = replace(config, side=max((config.side or 0) // 2, LEAST_SIDE))

    def prepared(indices: np.ndarray, config: PoseConfig) -> PoseTargets:
        images = jnp.asarray(read_images(frames, indices))
        return compared(
            generator, lpips, Views(images=images, cameras=frames.cameras[indices]), config=config
        )

    state = start_joint(w_statistics, generator.config.num_ws, len(chosen), key_joint)
    advance = partial(
        advance_joint,
        generator=generator,
        lpips=lpips,
        targets=prepared(chosen, config),
        w_statistics=w_statistics,
        config=config,
    )
    with progress.stage("a latent and cameras", config.joint.num_steps) as shown:
        state, _ = _run(advance, state, config.joint, shown.update)
    ws, motion = state.variables
    rigid = np.zeros((len(frames), 6), np.float32)
    rigid[chosen] = motion.rigid
    advance = partial(
        advance_each,
        generator=generator,
        lpips=lpips,
        planes=jax.jit(lambda g, ws: g.tri_planes(ws))(generator, ws),
        focal=motion.focal,
        config=coarse,
    )
    with progress.stage("the camera of each frame", len(frames)) as shown:
        for first in range(0, len(frames), at_once):
            # Of one number, for one program.
            batch = np.resize(np.arange(first, min(first + at_once, len(frames))), at_once)
            state = start_each(jnp.asarray(rigid[batch]), key_each)
            targets = prepared(batch, coarse)
            state, terms = _run(partial(advance, targets=targets), state, config.each)
            rigid[batch] = state.variables
            shown.update(min(first + at_once, len(frames)), terms)
    motion = CameraMotion(rigid=jnp.asarray(rigid), focal=motion.focal)
    return Refined(cameras=moved(frames.cameras, motion, config.spread), motion=motion, ws=ws)


def _run(
    advance: Callable[..., tuple[StageState, Terms]],
    state: StageState,
    schedule: StageConfig,
    tell: Callable[[int, Terms], None] = lambda step, terms: None,
) -> tuple[StageState, Terms]:
    """All steps of a stage: the last state, and the terms of the last chunk."""
    chunk, done, terms = chunk_steps(schedule), 0, {}
    while done < schedule.num_steps:
        state, terms = advance(state, num_steps=chunk)
        before, done = done, int(state.step)
        if done == before:
            raise InputError(f"the loss is not finite after step {done}; check frames and labels")
        tell(done, terms)
    return state, terms
