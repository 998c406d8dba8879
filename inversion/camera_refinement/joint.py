"""Cameras that are only nearly known, refined together with a latent.

Cameras move as `motion` says, fitted in units of the deviation that is expected of them, so that
one rate suits them and the prior is a sum of squares. The authors' optional camera steps move all
25 numbers of a label freely, which leaves no rotation a rotation (spec inversion 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from eg3d_jax.cameras import Cameras
from eg3d_jax.generator import TriPlaneGenerator
from inversion import losses
from inversion.camera_refinement.motion import CameraMotion, CameraSpread, moved, still
from inversion.config import StageConfig
from inversion.features.face_crop import area_resize
from inversion.features.lpips import Lpips
from inversion.fitting.adam import StageState, advance_stage, start_state
from inversion.latents import WStatistics
from inversion.objectives import Terms, draw_views, map_views
from inversion.views import Views


@dataclass(frozen=True, kw_only=True)
class PoseConfig:
    """How cameras are refined.

    Attributes:
      joint: the stage that fits a latent and the cameras of some views together.
      latent: the stage that fits the latent to all frames, from what was found with some of them.
      coarse_steps: of aligning each frame, in pictures of half the side, before `latent`.
      fine_steps: of aligning each frame after it.
      steady: frames follow one another in time: after each alignment what shakes from one to the
        next is taken out (`steadiness.steadied`).
      spread: deviations expected of the cameras.
      camera_prior: weight of the sum of squares of all these, each over its deviation, a mean over
        the views.
      align_prior: the same where frames are aligned to a head that stays (`alignment.align`).
      latent_prior: weight of the mean squared distance from the mean latent.
      pixel: weight of the mean squared difference in the [-1, 1] range.
      perceptual: weight of the LPIPS distance.
      side: pixels along either axis of the pictures compared, which are rendered without
        super-resolution; None for the generator's own.
      views_per_step: views of a step of `joint` and `latent`, drawn at random; None for all.
      views_at_once: views rendered together; None for all.
    """

    joint: StageConfig = field(
        default_factory=lambda: StageConfig(
            num_steps=360, learning_rate=0.1, ramp_up=0.05, ramp_down=0.5
        )
    )
    latent: StageConfig = field(
        default_factory=lambda: StageConfig(num_steps=240, learning_rate=0.05, ramp_down=0.5)
    )
    coarse_steps: int = 8
    fine_steps: int = 4
    steady: bool = True
    spread: CameraSpread = CameraSpread()
    camera_prior: float = 0.003
    align_prior: float = 0.002
    latent_prior: float = 0.1
    pixel: float = 1.0
    perceptual: float = 1.0
    side: int | None = None
    views_per_step: int | None = None
    views_at_once: int | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class PoseTargets:
    """Frames whose cameras are refined.

    Attributes:
      images: [V, S, S, 3] in [-1, 1], S pixels as they are compared.
      features: [V, F] for the perceptual term.
      cameras: [V] as given, or as far as they are known.
    """

    images: Array
    features: Array
    cameras: Cameras


def pose_targets(
    generator: TriPlaneGenerator, lpips: Lpips, views: Views, config: PoseConfig
) -> PoseTargets:
    """What views are compared with, computed once."""
    side = config.side or generator.config.neural_side
    small = jax.lax.map(lambda image: area_resize(image, side), views.images)
    return PoseTargets(
        images=small, features=jax.lax.map(lpips.features, small), cameras=views.cameras
    )


def start_joint(w_statistics: WStatistics, num_ws: int, views: int, key: Array) -> StageState:
    """Before the first step: the mean latent and the cameras as given."""
    return start_state((jnp.tile(w_statistics.mean, (num_ws, 1)), still(views)), key)


def start_latent(ws: Array, key: Array) -> StageState:
    """Before the first step of the latent alone: as found before, [L, D]."""
    return start_state(jnp.copy(ws), key)


@partial(jax.jit, static_argnames=("config", "num_steps"), donate_argnames="state")
def advance_joint(
    state: StageState,
    generator: TriPlaneGenerator,
    lpips: Lpips,
    targets: PoseTargets,
    w_statistics: WStatistics,
    *,
    config: PoseConfig,
    num_steps: int,
) -> tuple[StageState, Terms]:
    """Fit a latent and all cameras for `num_steps` more steps.

    Args:
      state: of `start_joint`: ws [L, D] and a `CameraMotion` on their way.
      generator: stays as it is.
      lpips: of the perceptual term.
      targets: V views.
      w_statistics: of the latent prior.
      config: schedule and weights.
      num_steps: how many.

    Returns:
      The state, whose buffers replace the given one's, and every unweighted term as [num_steps].
    """

    def objective(variables: tuple[Array, CameraMotion], step: Array, key: Array) -> Terms:
        del step
        ws, motion = variables
        seen = replace(targets, cameras=moved(targets.cameras, motion, config.spread))
        squares = jnp.mean(jnp.sum(jnp.square(motion.rigid), axis=-1)) + jnp.square(motion.focal)
        terms = _latent_terms(ws, generator, lpips, seen, w_statistics, config, key)
        return terms | {"camera_prior": squares}

    return advance_stage((objective,), state, config, config.joint, num_steps)


@partial(jax.jit, static_argnames=("config", "num_steps"), donate_argnames="state")
def advance_latent(
    state: StageState,
    generator: TriPlaneGenerator,
    lpips: Lpips,
    targets: PoseTargets,
    w_statistics: WStatistics,
    *,
    config: PoseConfig,
    num_steps: int,
) -> tuple[StageState, Terms]:
    """Fit a latent to views whose cameras stay, for `num_steps` more steps.

    Args:
      state: of `start_latent`: ws [L, D] on its way.
      generator: stays as it is.
      lpips: of the perceptual term.
      targets: V views.
      w_statistics: of the latent prior.
      config: schedule and weights.
      num_steps: how many.

    Returns:
      The state, whose buffers replace the given one's, and every unweighted term as [num_steps].
    """

    def objective(ws: Array, step: Array, key: Array) -> Terms:
        del step
        return _latent_terms(ws, generator, lpips, targets, w_statistics, config, key)

    return advance_stage((objective,), state, config, config.latent, num_steps)


def _latent_terms(
    ws: Array,
    generator: TriPlaneGenerator,
    lpips: Lpips,
    targets: PoseTargets,
    w_statistics: WStatistics,
    config: PoseConfig,
    key: Array,
) -> Terms:
    """Terms of a latent: image terms, means over the views that are drawn, and its prior."""
    key_views, key_rays = jax.random.split(key)
    targets = draw_views(targets, config.views_per_step, key_views)
    planes = generator.tri_planes(ws)
    side, count = targets.images.shape[1], len(targets.cameras)

    def one(inputs: tuple[PoseTargets, Array]) -> Terms:
        target, key = inputs
        draws = generator.random_draws(key, side)
        rendered = generator.render(planes, target.cameras, side=side, draws=draws)
        image = rendered.features[..., :3]
        return {
            "pixel": losses.pixel(image, target.images),
            "perceptual": losses.perceptual(lpips.features(image), target.features),
        }

    inputs = targets, jax.random.split(key_rays, count)
    terms = jax.tree.map(jnp.mean, map_views(one, inputs, config.views_at_once))
    return terms | {"latent_prior": losses.latent_prior(ws, w_statistics.mean)}
