"""Pictures of several latents for the report: between the views, in depth, and their path."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

from eg3d_jax.cameras import Cameras, yaw_azimuth, yaw_pitch_camera
from eg3d_jax.config import GeneratorConfig
from experiments.media.pictures import grid, resized, to_uint8
from experiments.report.figures import path_of_latents
from inversion.latents import Latents, latents_at
from inversion.result import Inversion, joined, render_each_in_batches, render_views
from inversion.wording import degrees

_COLUMNS = 9
# Deviation of the brightest colour, world units: about a twentieth of a head's width.
_SPREAD_TOP = 0.03
STRIP_CAPTION = (
    "The interpolated latent from the first angle to the last: seen from there, and, below, all "
    "from the middle, where only the latent changes."
)
MAPS_CAPTION = (
    "How much the latents differ in depth, seen from the angle of each: black where all agree, "
    f"white at a standard deviation of {_SPREAD_TOP:g} world units or more."
)
PATH_CAPTION = "The latents in the plane of their two principal directions, by yaw."


@dataclass(frozen=True, kw_only=True)
class LatentPictures:
    """Pictures of K latents.

    Attributes:
      strip: uint8 [H, W, 3], from the first latent's angle to the last one's: above the camera
        turns, below only the interpolated latent does.
      maps: uint8 [H, W, 3], how much the latents differ in depth, seen from each one's angle.
      path: SVG of the latents in the plane of their two principal directions.
    """

    strip: np.ndarray
    maps: np.ndarray
    path: str


def latent_pictures(found: Inversion) -> LatentPictures:
    """Draw all pictures of a fit of several latents."""
    generator, latents = found.generator, found.latents
    config = generator.config
    knots = yaw_azimuth(np.asarray(latents.azimuth, np.float64))  # yaws, falling
    yaws = np.linspace(knots[0], knots[-1], _COLUMNS)
    turning = render_views(generator, latents, _level_cameras(yaws, config))
    ws = jax.vmap(partial(latents_at, latents))(jnp.asarray(yaw_azimuth(yaws)))
    middle = _level_cameras(np.full(_COLUMNS, yaws[_COLUMNS // 2]), config)
    still = joined(render_each_in_batches(generator, ws, middle))
    strip = grid(
        [list(to_uint8(turning.image)), list(to_uint8(still.image))],
        columns=[degrees(yaw) for yaw in np.degrees(yaws)],
        labels=["camera turns", "latent alone"],
    )
    stds = [_depth_std(found, latents, yaw) for yaw in knots]
    maps = grid(
        [[resized(picture, config.image_side) for picture in stds]],
        columns=[degrees(yaw) for yaw in np.degrees(knots)],
    )
    return LatentPictures(strip=strip, maps=maps, path=path_of_latents(latents.w_plus, knots))


def _level_cameras(yaws: np.ndarray, config: GeneratorConfig) -> Cameras:
    return yaw_pitch_camera(yaws, 0.0, radius=config.camera_radius, focal=config.focal)


def _depth_std(found: Inversion, latents: Latents, yaw: float) -> np.ndarray:
    """Show the deviation of depth over the latents as colours; black where there is none."""
    cameras = _level_cameras(np.full(len(latents), yaw), found.generator.config)
    seen = joined(render_each_in_batches(found.generator, latents.w_plus, cameras))
    solid, deviation = np.min(seen.opacity, axis=0), np.std(seen.depth, axis=0)
    share = np.asarray(solid * np.clip(deviation / _SPREAD_TOP, 0, 1))
    return matplotlib.colormaps["magma"](share, bytes=True)[..., :3]
