"""Render what was fitted from any cameras: the latent follows the azimuth (spec inversion 7)."""

from __future__ import annotations

import jax

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

    def one(camera: Cameras) -> Renders:
        ws = latents_at(latents, azimuth(camera))
        return generator.synthesize(ws, camera, rays_at_once=rays_at_once)

    return jax.lax.map(one, cameras, batch_size=views_at_once or len(cameras))
