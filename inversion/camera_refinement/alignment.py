"""Alignment of a frame's camera to a known head, by damped Gauss-Newton steps.

A camera's motion has six numbers, so derivatives of the whole picture are cheap, and Gauss-Newton
steps account for a turn and a shift of a head looking nearly alike. Adam, which does not, takes
longer for the same (docs/performance.md).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from eg3d_jax.cameras import Cameras
from eg3d_jax.generator import TriPlaneGenerator
from inversion.camera_refinement.joint import PoseTargets, RefinementConfig
from inversion.camera_refinement.motion import CameraMotion, transform
from inversion.features.lpips import Lpips

# Finite differences reach so many deviations to either side, in the first and in the last step.
# Pictures rendered from a few samples a ray are rough on smaller scales, where a derivative would
# point into the nearest local minimum.
_FIRST_REACH, _LAST_REACH = 0.7, 0.2
# Levenberg's damping, relative to the diagonal: at first, and its factors after a step that was
# accepted and after one that was rejected.
_DAMPING, _LESS, _MORE = 0.01, 0.3, 5.0


@partial(jax.jit, static_argnames=("config", "num_steps", "pictures_at_once"))
def align(
    motion: CameraMotion,
    generator: TriPlaneGenerator,
    lpips: Lpips,
    target: PoseTargets,
    planes: Array,
    *,
    config: RefinementConfig,
    num_steps: int,
    pictures_at_once: int = 1,
) -> tuple[CameraMotion, Array]:
    """Find the camera from which a head looks most like it does in a frame.

    Minimises the squared differences of pixels and of LPIPS features with the config's weights, and
    `align_prior` times the squared rigid motion, by Levenberg and Marquardt's damped steps. A step
    that would raise the loss is rejected.

    Args:
      motion: of the frame's camera so far: rigid [6] and focal [].
      generator: not changed.
      lpips: of the perceptual term.
      target: the frame, without an axis of views.
      planes: of the head.
      config: weights.
      num_steps: Gauss-Newton steps; each renders 13 pictures.
      pictures_at_once: how many of the first twelve are rendered together.

    Returns:
      The motion with another rigid part and the same focal one, and the loss before the first step
      and after each, [num_steps + 1], which never rises. If the first loss is not finite, the
      motion is the given one and no loss is finite.
    """
    given: Cameras = jax.tree.map(lambda x: x[None], target.cameras)
    side = target.images.shape[0]

    def differences(rigid: Array) -> Array:
        """Residuals [N], whose squares add up to the loss."""
        moved = replace(motion, rigid=rigid[None])
        camera = transform(given, moved, config.prior)[0]
        image = generator.render(planes, camera, side=side, draws=None).features[..., :3]
        image = target.seen(image)
        return jnp.concatenate(
            [
                (config.pixel / image.size) ** 0.5 * (image - target.images).ravel(),
                config.perceptual**0.5 * (lpips.features(image) - target.features),
                config.align_prior**0.5 * rigid,
            ]
        )

    product = partial(jnp.matmul, precision="highest")
    axes = jnp.concatenate([jnp.eye(6), -jnp.eye(6)])

    def step(
        state: tuple[Array, Array, Array], reach: Array
    ) -> tuple[tuple[Array, Array, Array], Array]:
        x, now, damping = state
        ahead, behind = jnp.split(
            jax.lax.map(differences, x + reach * axes, batch_size=pictures_at_once), 2
        )
        slopes = (ahead - behind) / (2 * reach)  # [6, N]
        normal = product(slopes, slopes.T)
        damped = normal + damping * jnp.diag(jnp.diag(normal))
        new = x - jnp.linalg.solve(damped, product(slopes, now))
        there = differences(new)
        better = jnp.sum(jnp.square(there)) < jnp.sum(jnp.square(now))
        x, now = jnp.where(better, new, x), jnp.where(better, there, now)
        damping = damping * jnp.where(better, _LESS, _MORE)
        return (x, now, damping), jnp.sum(jnp.square(now))

    first = differences(motion.rigid)
    start = motion.rigid, first, jnp.float32(_DAMPING)
    reaches = jnp.geomspace(_FIRST_REACH, _LAST_REACH, num_steps)
    (rigid, _, _), losses = jax.lax.scan(step, start, reaches)
    losses = jnp.concatenate([jnp.sum(jnp.square(first))[None], losses])
    return replace(motion, rigid=rigid), losses
