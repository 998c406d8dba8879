"""Fit a latent and the motions of cameras together, by Adam.

Motions are fitted in units of the deviations expected (`motion.CameraMotion`), so that one learning
rate suits them and the prior is a sum of squares. The authors' optional camera steps change all 25
numbers of a label freely, which leaves no rotation a rotation (spec inversion 3.1).
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
from inversion.camera_refinement.motion import CameraMotion, CameraPrior, no_motion, transform
from inversion.config import StageConfig
from inversion.features.face_crop import area_resize
from inversion.features.lpips import Lpips
from inversion.fitting.adam import StageState, advance_stage, start_state
from inversion.latents import WStatistics
from inversion.objectives import Terms, draw_views, map_views
from inversion.views import Views


@dataclass(frozen=True, kw_only=True)
class RefinementConfig:
    """Schedule and weights of a camera refinement.

    Attributes:
      num_views: frames whose cameras are fitted together with the latent, evenly spaced in azimuth;
        all frames where there are fewer.
      joint: the first stage, which fits the latent and the cameras of `num_views` frames.
      latent: the stage that then fits the latent to all frames.
      coarse_steps: Gauss-Newton steps for each frame's camera before `latent`, in pictures of half
        the side.
      fine_steps: the same after it, in pictures of the full side.
      steady: frames are a video's, in order: smooth the cameras after either (`smoothing.smooth`).
      smooth_errors: the labels' own errors change smoothly, as those of footage do through which
        points were tracked: smooth the motions, not the cameras (`smoothing.smooth_motions`).
      mask_background: look at the person alone, as `losses.person_alone` does; frames need masks.
      prior: deviations expected of the cameras.
      camera_prior: weight of the squared motions in `joint`, in units of these deviations: of the
        mean over the views, of what they share, and of the focal length.
      align_prior: weight of a frame's squared motion in Gauss-Newton steps (`alignment.align`).
      latent_prior: weight of the mean squared distance from the mean latent.
      pixel: weight of the mean squared difference in the [-1, 1] range.
      perceptual: weight of the LPIPS distance.
      side: pixels along either axis of the pictures compared, which are rendered without
        super-resolution; None for the side that the generator renders.
      views_per_step: views of a step of `joint` and `latent`, drawn at random; None for all.
      views_at_once: views rendered together; None for all.
    """

    num_views: int = 9
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
    smooth_errors: bool = False
    mask_background: bool = False
    prior: CameraPrior = CameraPrior()
    camera_prior: float = 0.003
    align_prior: float = 0.002
    latent_prior: float = 0.1
    pixel: float = 1.0
    perceptual: float = 1.0
    side: int | None = None
    views_per_step: int | None = 1
    views_at_once: int | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class PoseTargets:
    """Targets of a camera refinement: pictures, features and cameras of views.

    Attributes:
      images: [V, S, S, 3] in [-1, 1], S pixels as they are compared.
      features: [V, F] for the perceptual term.
      cameras: [V] as given, or as refined so far.
      mask: bool [V, S, S], outside of which nothing counts, and images are grey; or None.
    """

    images: Array
    features: Array
    cameras: Cameras
    mask: Array | None = None

    def seen(self, image: Array) -> Array:
        """What counts of a rendering [S, S, 3] of one view: the person alone, if it has a mask."""
        return image if self.mask is None else losses.person_alone(image, self.mask)


def pose_targets(
    generator: TriPlaneGenerator, lpips: Lpips, views: Views, config: RefinementConfig
) -> PoseTargets:
    """Shrink views to the side compared, and compute their features.

    Args:
      generator: whose side counts where the config has none.
      lpips: of the features.
      views: V frames with their cameras, and with masks if the person alone is to count.
      config: says the side.

    Returns:
      Targets of V views.
    """
    side = config.side or generator.config.neural_side
    small = jax.lax.map(lambda image: area_resize(image, side), views.images)
    mask = None
    if views.mask is not None:
        inside = views.mask[..., None].astype(jnp.float32)
        mask = jax.lax.map(lambda part: area_resize(part, side), inside)[..., 0] >= 0.5
        small = jax.vmap(losses.person_alone)(small, mask)
    return PoseTargets(
        images=small,
        features=jax.lax.map(lpips.features, small),
        cameras=views.cameras,
        mask=mask,
    )


def start_joint(w_statistics: WStatistics, num_ws: int, views: int, key: Array) -> StageState:
    """Make the state before the first joint step: mean latent [num_ws, D], V cameras unmoved."""
    return start_state((jnp.tile(w_statistics.mean, (num_ws, 1)), no_motion(views)), key)


def start_latent(ws: Array, key: Array) -> StageState:
    """Make the state before the first step of the latent alone, from ws [L, D]."""
    return start_state(ws, key)


@partial(jax.jit, static_argnames=("config", "num_steps"), donate_argnames="state")
def advance_joint(
    state: StageState,
    generator: TriPlaneGenerator,
    lpips: Lpips,
    targets: PoseTargets,
    w_statistics: WStatistics,
    *,
    config: RefinementConfig,
    num_steps: int,
) -> tuple[StageState, Terms]:
    """Fit a latent and all cameras for `num_steps` more steps.

    Args:
      state: of `start_joint` or an earlier call: ws [L, D] and a `CameraMotion` of V cameras.
      generator: not changed.
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
        seen = replace(targets, cameras=transform(targets.cameras, motion, config.prior))
        squares = jnp.mean(jnp.sum(jnp.square(motion.rigid), axis=-1)) + jnp.square(motion.focal)
        squares = squares + jnp.sum(jnp.square(motion.shared))
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
    config: RefinementConfig,
    num_steps: int,
) -> tuple[StageState, Terms]:
    """Fit a latent to views with fixed cameras, for `num_steps` more steps.

    Args:
      state: of `start_latent` or an earlier call: ws [L, D].
      generator: not changed.
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
    config: RefinementConfig,
    key: Array,
) -> Terms:
    """Image terms of a latent, means over the views drawn, and its prior."""
    key_views, key_rays = jax.random.split(key)
    targets = draw_views(targets, config.views_per_step, key_views)
    planes = generator.tri_planes(ws)
    side, count = targets.images.shape[1], len(targets.cameras)

    def one(inputs: tuple[PoseTargets, Array]) -> Terms:
        target, key = inputs
        draws = generator.random_draws(key, side)
        rendered = generator.render(planes, target.cameras, side=side, draws=draws)
        image = target.seen(rendered.features[..., :3])
        return {
            "pixel": losses.pixel(image, target.images),
            "perceptual": losses.perceptual(lpips.features(image), target.features),
        }

    inputs = targets, jax.random.split(key_rays, count)
    terms = jax.tree.map(jnp.mean, map_views(one, inputs, config.views_at_once))
    return terms | {"latent_prior": losses.latent_prior(ws, w_statistics.mean)}
