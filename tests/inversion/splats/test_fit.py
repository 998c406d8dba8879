"""Gaussians start on the surface that renders show, and learn to show it from other sides."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from splat_sphere import RADIUS, cameras, colours, renders

from eg3d_jax.config import tiny
from eg3d_jax.errors import InputError
from inversion.latents import Latents
from inversion.monitor import Monitor, Stopped
from inversion.splats.fit import SplatSettings, baked, fit, prune, render_gaussians, spread_cameras
from inversion.splats.gaussians import Gaussians
from inversion.splats.rasteriser import rotation_matrices
from inversion.splats.start import surface_gaussians

SIDE = 40
# All round, so that every part of the sphere is seen from near its front.
YAWS, PITCHES = np.radians(np.arange(12) * 60.0), np.radians(np.repeat([-40.0, 40.0], 6))


@pytest.fixture(scope="module")
def seen():
    views = cameras(YAWS, PITCHES)
    return renders(views, SIDE), views


@pytest.fixture(scope="module")
def start(seen):
    return surface_gaussians(*seen, count=2000, degree=1)


def test_discs_start_on_the_surface_and_face_outwards(start):
    centres = np.asarray(start.centres)
    assert 1000 < len(start) <= 2000
    # Cells of the grid hold some points each, whose mean lies a little inside the sphere.
    spacing = float(np.exp(start.log_scales).max()) / 0.45
    np.testing.assert_allclose(np.linalg.norm(centres, axis=-1), RADIUS, atol=spacing**2 / RADIUS)
    outwards = centres / np.linalg.norm(centres, axis=-1, keepdims=True)
    thin = np.asarray(rotation_matrices(start.rotations))[:, :, 2]
    assert np.sum(thin * outwards, -1).min() > 0.8
    assert (np.diff(np.asarray(start.log_scales)[:, 1:], axis=1) < -1).all()


def test_discs_start_with_the_colours_of_the_surface(start):
    shown = np.asarray(start.harmonics)[:, 0] * math.sqrt(1 / (4 * math.pi)) + 0.5
    np.testing.assert_allclose(shown, colours(np.asarray(start.centres)), atol=0.03)
    assert not np.asarray(start.harmonics)[:, 1:].any()


def test_renders_of_nothing_are_refused(seen):
    empty = dataclasses.replace(seen[0], opacity=jnp.zeros_like(seen[0].opacity))
    with pytest.raises(InputError, match="nothing solid"):
        surface_gaussians(empty, seen[1], count=100, degree=0)


def error(gaussians, views) -> float:
    shown = render_gaussians(gaussians, views, SIDE, white=True)
    wanted = (np.asarray(renders(views, SIDE).image) + 1) / 2
    return float(np.mean((shown - wanted) ** 2))


def test_a_fit_shows_other_views_better_than_its_start(seen, start):
    others = cameras(np.radians([-60, 0, 30]), 0.1)
    told = []

    class Note(Monitor):
        def steps(self, video, stage, first, terms):
            assert (first, stage) == (len(told), "splat")
            told.extend(terms["colour"])

    fitted = fit(start, *seen, 120, white=True, monitor=Note())
    before, after = error(start, others), error(fitted, others)
    assert len(told) == 120
    assert after < before / 3
    assert after < 10**-2.7  # 27 dB


def test_a_monitor_stops_the_fit(seen, start):
    class Stop(Monitor):
        def stop_requested(self):
            return True

    with pytest.raises(Stopped):
        fit(start, *seen, 1000, white=True, monitor=Stop())


def test_gaussians_that_nobody_sees_are_left_out(start):
    logits = start.opacity_logits.at[::3].set(-6.0)
    kept = prune(dataclasses.replace(start, opacity_logits=logits))
    assert len(kept) == len(start) - len(logits[::3])
    assert float(jax.nn.sigmoid(kept.opacity_logits).min()) > 0.02


def test_nothing_is_drawn_white_on_white_and_black_on_black():
    none = Gaussians(
        centres=jnp.zeros((1, 3)), log_scales=jnp.full((1, 3), -4.0),
        rotations=jnp.ones((1, 4)), opacity_logits=jnp.array([-30.0]),
        harmonics=jnp.zeros((1, 1, 3)),
    )  # fmt: skip
    for white in (False, True):
        assert (render_gaussians(none, cameras([0.0, 1.0]), 8, white=white) == white).all()


def test_cameras_fill_their_range_evenly_and_later_ones_lie_between():
    settings = SplatSettings(views=64, max_yaw=1.0, max_pitch=0.4)
    views = spread_cameras(tiny(), settings)
    x, y, z = np.asarray(views.position).T
    yaw, pitch = np.arctan2(x, z), np.arcsin(y / np.hypot(np.hypot(x, z), y))
    assert np.abs(yaw).max() <= 1.0
    assert np.abs(pitch).max() <= 0.4
    for angles, most in ((yaw, 1.0), (pitch, 0.4)):
        np.testing.assert_allclose(np.sort(angles), np.linspace(-most, most, 64), atol=0.1 * most)
    later = np.asarray(spread_cameras(tiny(), settings, first=65).position)
    nearest = np.linalg.norm(later[:, None] - np.asarray(views.position), axis=-1).min(1)
    assert nearest.min() > 1e-3


def test_a_latent_is_baked_at_a_yaw_or_left_to_the_cameras():
    w_plus = jnp.arange(2.0)[:, None, None] * jnp.ones((2, 3, 4))
    latents = Latents(w_plus=w_plus, azimuth=jnp.array([math.pi / 2 - 0.5, math.pi / 2 + 0.5]))
    half = baked(latents, 0.0)
    assert len(half) == 1
    np.testing.assert_allclose(half.w_plus, 0.5, atol=1e-6)
    np.testing.assert_allclose(baked(latents, 0.5).w_plus, 0.0, atol=1e-6)
    assert baked(latents, None) is latents


@pytest.mark.parametrize(
    "changes", [{"count": 0}, {"degree": 4}, {"views": 0}, {"steps": -1}, {"max_pitch": 2.0}]
)
def test_settings_without_a_splat_are_named(changes):
    ((name, value),) = changes.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        SplatSettings(**changes)
