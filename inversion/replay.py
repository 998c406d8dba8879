"""Render latents from any cameras: of fitted ones, that of the azimuth (spec inversion 7)."""

from __future__ import annotations

import jax
from jax import Array

from eg3d_jax.cameras import Cameras, azimuth
from eg3d_jax.generator import Renders, TriPlaneGenerator
from inversion.latents import Latents, latents_at


def render_path(
    generator: TriPlaneGenerator,
    latents: Latents,
    cameras: Cameras,
    *,
    views_at_once: int | None = None,
    rays_at_once: int | None = None,
) -> Renders:
    """Render fitted latents along cameras; call it under `jax.jit`.

    A single latent's planes are painted once. Of several latents each camera gets the one that
    `latents_at` finds between the two nearest, and planes of its own.

    Args:
      generator: tuned or not.
      latents: K latents, K = 1 for one that serves all views.
      cameras: leading axis [T].
      views_at_once: how many views are rendered together; all if None.
      rays_at_once: see `render_rays`.

    Returns:
      `Renders` with a leading axis [T].
    """
    if len(latents) == 1:
        return generator.synthesize_views(
            latents.w_plus[0], cameras, views_at_once=views_at_once, rays_at_once=rays_at_once
        )

    ws = jax.vmap(lambda camera: latents_at(latents, azimuth(camera)))(cameras)
    return render_each(
        generator, ws, cameras, views_at_once=views_at_once, rays_at_once=rays_at_once
    )


def render_each(
    generator: TriPlaneGenerator,
    w_plus: Array,
    cameras: Cameras,
    *,
    views_at_once: int | None = None,
    rays_at_once: int | None = None,
) -> Renders:
    """Render each camera with a latent, and so planes, of its own; call it under `jax.jit`.

    Args:
      generator: tuned or not.
      w_plus: [T, L, D].
      cameras: leading axis [T].
      views_at_once: how many views are rendered together; all if None.
      rays_at_once: see `render_rays`.

    Returns:
      `Renders` with a leading axis [T].
    """

    def one(view: tuple[Array, Cameras]) -> Renders:
        return generator.synthesize(*view, rays_at_once=rays_at_once)

    return jax.lax.map(one, (w_plus, cameras), batch_size=views_at_once or len(cameras))
