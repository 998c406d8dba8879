"""Cameras of frames aligned to a head that stays, by steps of Gauss and Newton.

A camera has six numbers, so derivatives of the whole picture are cheap, and steps made from them
know that a turn and a shift of a head look nearly alike. Adam, which does not, takes longer for the
same (docs/performance.md).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from eg3d_jax.cameras import Cameras
from eg3d_jax.generator import TriPlaneGenerator
from inversion.camera_refinement.joint import PoseConfig, PoseTargets
from inversion.camera_refinement.motion import CameraMotion, moved
from inversion.features.lpips import Lpips

# Derivatives are taken over so many expected deviations to either side, at first and at last.
# Rendered from a few samples a ray, pictures are rough below: derivatives at a point lead into the
# nearest dent.
_FIRST_REACH, _LAST_REACH = 0.7, 0.2
# Levenberg's damping, relative to the diagonal: at first, after a step that was taken, and after
# one that was not.
_DAMPING, _LESS, _MORE = 0.01, 0.3, 5.0


@partial(jax.jit, static_argnames=("config", "num_steps", "pictures_at_once"))
def align(
    rigid: Array,
    generator: TriPlaneGenerator,
    lpips: Lpips,
    target: PoseTargets,
    planes: Array,
    focal: Array,
    *,
    config: PoseConfig,
    num_steps: int,
    pictures_at_once: int = 1,
) -> tuple[Array, Array]:
    """Move the camera of one frame to where a head looks most like it does there.

    Minimises the squared differences of pixels and of LPIPS features with the config's weights, and
    `align_prior` times the squared motion, by Levenberg and Marquardt's damped steps.

    Args:
      rigid: [6], how far the camera has moved, as `CameraMotion.rigid`.
      generator: stays as it is.
      lpips: of the perceptual term.
      target: the frame, without an axis of views.
      planes: of the head.
      focal: [] as `CameraMotion.focal`; stays.
      config: weights.
      num_steps: how many; each renders 13 pictures.
      pictures_at_once: of the first twelve rendered together.

    Returns:
      rigid, and the loss before the first step and after each as [num_steps + 1], which never
      rises; not finite if it was not to begin with.
    """
    given: Cameras = jax.tree.map(lambda x: x[None], target.cameras)
    side = target.images.shape[0]

    def differences(rigid: Array) -> Array:
        """[N] numbers whose squares add up to the loss."""
        camera = moved(given, CameraMotion(rigid=rigid[None], focal=focal), config.spread)[0]
        image = generator.render(planes, camera, side=side, draws=None).features[..., :3]
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

    first = differences(rigid)
    start = rigid, first, jnp.float32(_DAMPING)
    reaches = jnp.geomspace(_FIRST_REACH, _LAST_REACH, num_steps)
    (rigid, _, _), losses = jax.lax.scan(step, start, reaches)
    return rigid, jnp.concatenate([jnp.sum(jnp.square(first))[None], losses])
