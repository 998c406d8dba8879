"""Cameras that are only nearly known, refined together with a latent.

Cameras move as `inversion.camera_motion` says, fitted in units of the deviation that is expected of
them, so that one rate suits them and the prior is a sum of squares. The authors' optional camera
steps move all 25 numbers of a label freely, which leaves no rotation a rotation (spec inversion
3.1).
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
from inversion.camera_motion import CameraMotion, CameraSpread, moved, still
from inversion.config import StageConfig
from inversion.features.lpips import Lpips
from inversion.features.resize import area_resize
from inversion.latents import WStatistics
from inversion.objectives import Terms, draw_views, map_views
from inversion.state import StageState, advance_stage, start_state
from inversion.views import Views


@dataclass(frozen=True, kw_only=True)
class PoseConfig:
    """How cameras are refined.

    Attributes:
      joint: the stage that fits a latent and the cameras of some views together.
      each: the stage that fits each frame's camera by itself to the head found.
      spread: deviations expected of the cameras.
      camera_prior: weight of the mean square of all these, each over its deviation, in `joint`.
      each_prior: the same in `each`: a head that is known does not give way to a wrong camera.
      latent_prior: weight of the mean squared distance from the mean latent.
      pixel: weight of the mean squared difference in the [-1, 1] range.
      perceptual: weight of the LPIPS distance.
      side: pixels along either axis of the pictures compared, which are rendered without
        super-resolution; None for the generator's own.
      views_per_step: views of a step of `joint`, drawn at random; None for all.
      views_at_once: views rendered together; None for all.
    """

    joint: StageConfig = field(
        default_factory=lambda: StageConfig(
            num_steps=360, learning_rate=0.1, ramp_up=0.05, ramp_down=0.5
        )
    )
    each: StageConfig = field(
        default_factory=lambda: StageConfig(num_steps=50, learning_rate=0.15, ramp_down=0.7)
    )
    spread: CameraSpread = CameraSpread()
    camera_prior: float = 0.003
    each_prior: float = 0.0003
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
      cameras: [V] as given.
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


def start_each(rigid: Array, key: Array) -> StageState:
    """Before the first step of frames by themselves: cameras as far as they have moved, [V, 6]."""
    return start_state(jnp.copy(rigid), key)


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
        (ws, motion), (key_views, key_rays) = variables, jax.random.split(key)
        seen = replace(targets, cameras=moved(targets.cameras, motion, config.spread))
        seen = draw_views(seen, config.views_per_step, key_views)
        terms = _compare(generator, lpips, generator.tri_planes(ws), seen, config, key_rays)
        squares = jnp.mean(jnp.sum(jnp.square(motion.rigid), axis=-1)) + jnp.square(motion.focal)
        return terms | {
            "camera_prior": squares,
            "latent_prior": losses.latent_prior(ws, w_statistics.mean),
        }

    return advance_stage((objective,), state, config, config.joint, num_steps)


@partial(jax.jit, static_argnames=("config", "num_steps"), donate_argnames="state")
def advance_each(
    state: StageState,
    generator: TriPlaneGenerator,
    lpips: Lpips,
    targets: PoseTargets,
    planes: Array,
    focal: Array,
    *,
    config: PoseConfig,
    num_steps: int,
) -> tuple[StageState, Terms]:
    """Fit the cameras of frames to a head that stays, each for itself.

    Args:
      state: of `start_each`: the rigid part [V, 6] of a motion on its way.
      generator: stays as it is.
      lpips: of the perceptual term.
      targets: V frames.
      planes: of the head.
      focal: [] as `CameraMotion.focal`; stays.
      config: schedule and weights.
      num_steps: how many.

    Returns:
      The state, whose buffers replace the given one's, and every unweighted term as [num_steps].
    """

    def objective(rigid: Array, step: Array, key: Array) -> Terms:
        del step
        motion = CameraMotion(rigid=rigid, focal=focal)
        seen = replace(targets, cameras=moved(targets.cameras, motion, config.spread))
        terms = _compare(generator, lpips, planes, seen, config, key)
        return terms | {"each_prior": jnp.mean(jnp.sum(jnp.square(rigid), axis=-1))}

    return advance_stage((objective,), state, config, config.each, num_steps)


def _compare(
    generator: TriPlaneGenerator,
    lpips: Lpips,
    planes: Array,
    targets: PoseTargets,
    config: PoseConfig,
    key: Array,
) -> Terms:
    """Image terms of a head seen by all cameras, means over the views."""
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

    inputs = targets, jax.random.split(key, count)
    return jax.tree.map(jnp.mean, map_views(one, inputs, config.views_at_once))
