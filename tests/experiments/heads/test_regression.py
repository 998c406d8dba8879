"""The losses of training, in closed form on a stub instead of a generator."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eg3d_jax.cameras import to_label, yaw_pitch_camera
from eg3d_jax.config import tiny
from eg3d_jax.generator import Renders
from eg3d_jax.rendering import RenderedRays
from experiments.heads import regression
from experiments.heads.regression import picture_terms, ray_terms, sample_depths

# Raw density of an extinction of log 2: half of the light passes a unit of length.
HALVING = 1.0 + math.log(math.expm1(math.log(2.0)))
NOTHING = -200.0
SIDE = 4


class Fog:
    """Colour and raw density z[:3] and z[3] at every point; pictures show the colour."""

    config = tiny()

    def map_to_ws(self, z):
        return z

    def tri_planes(self, ws):
        return ws

    def query(self, planes, points):
        return jnp.tile(planes[:3], (len(points), 1)), jnp.full(len(points), planes[3])

    def render(self, planes, camera, *, draws):
        assert draws.jitter.shape == (SIDE**2, self.config.render.coarse_samples)
        flat = jnp.ones((SIDE, SIDE))
        return RenderedRays(features=flat[..., None] * planes[:3], depth=flat, opacity=flat)

    def superresolve(self, rendered, ws):
        image = jnp.repeat(jnp.repeat(rendered.features, 2, axis=0), 2, axis=1)
        return Renders(
            image=image, raw=rendered.features, depth=rendered.depth, opacity=rendered.opacity
        )


class FirstPixel:
    """In the place of LPIPS: the difference of the first two colours."""

    def distance(self, a, b):
        return a[0, 0, 0] - b[0, 0, 0]


def label():
    return to_label(yaw_pitch_camera(0.0, 0.0))


def test_the_terms_of_rays_are_those_of_fog_before_white(monkeypatch):
    """Two intervals take .5 and .25 of the light of the first head; the second one is empty."""
    samples = jnp.array([2.0, 3.0, 4.0])
    monkeypatch.setattr(
        regression, "sample_depths", lambda d, *_: jnp.broadcast_to(samples, (*d.shape, 3))
    )
    red = jnp.array([0.8, 0.4, 0.0])
    shown = 0.75 * red + 0.25
    # A ray as it is seen, one of a surface at 3 that is darker by .1, one of its soft edge.
    colours = jnp.stack([shown, shown - 0.1, shown])
    fog = {
        "z": jnp.append(red, HALVING),
        "colour": 2.0 * colours - 1.0,
        "opacity": jnp.array([0.75, 1.0, 0.75]),
        "depth": jnp.array([0.0, 3.0, 3.0]),
        "weight": jnp.array([1.0, 5.0, 2.0]),
    }
    empty = {
        "z": jnp.append(red, NOTHING),
        "colour": jnp.ones((3, 3)),
        "opacity": jnp.zeros(3),
        "depth": jnp.zeros(3),
        "weight": jnp.ones(3),
    }
    batch = {name: jnp.stack([fog[name], empty[name]]) for name in fog}
    batch = {name: x if name == "z" else x[:, None] for name, x in batch.items()}  # one view
    batch |= {"u": jnp.full((2, 1, 3), 0.5), "v": jnp.full((2, 1, 3), 0.5)}
    batch["labels"] = jnp.broadcast_to(label(), (2, 1, 25))
    terms = jax.jit(lambda batch, key: ray_terms(Fog(), batch, key))(batch, jax.random.key(0))
    heads = 2
    assert terms == {
        "colour": pytest.approx(5 / 8 * (0.1 + 8 * 0.1**2) / heads, rel=1e-4),
        "opacity": pytest.approx(5 / 8 * 0.25 / heads, rel=1e-4),
        "depth": pytest.approx((0.5 * 0.5 + 0.25 * 0.5) / 3 / heads, rel=1e-4),
    }


def test_half_of_the_samples_lie_around_the_surface_and_half_anywhere():
    depths = np.asarray(sample_depths(jnp.array([2.6, 0.0]), jax.random.key(0), 2.0, 4.0))
    assert np.all(np.diff(depths) >= 0)
    per_eighth = [np.histogram(row, bins=8, range=(2.0, 4.0))[0] for row in depths]
    assert np.min(per_eighth) >= 1  # the stratified ones
    # Of eight normal deviates none is beyond five standard deviations, but once in 200,000.
    near = np.abs(depths - 2.6) < 5 * 0.025
    assert near[0].sum() >= 8
    assert near[1].sum() < 8


def pictures(z):
    """What `Fog` shows of z, as `draw_pictures` gives it; the head is the upper half."""
    upper = np.repeat([1.0, 0.0], SIDE)[:, None] * np.ones(2 * SIDE)
    return {
        "z": z[None],
        "label": label()[None],
        "image": jnp.ones((1, 2 * SIDE, 2 * SIDE, 3)) * z[:3],
        "raw": jnp.ones((1, SIDE, SIDE, 3)) * z[:3],
        "opacity": jnp.asarray(upper)[None],
    }


Z = jnp.array([0.5, -0.25, 0.75, 0.0])


def test_a_generators_own_picture_has_no_loss():
    terms = picture_terms(Fog(), FirstPixel(), pictures(Z), jax.random.key(0))
    assert terms == {"picture": 0.0, "lpips": 0.0}


def test_a_pictures_head_counts_twice_and_the_raw_picture_as_much():
    batch = pictures(Z)
    upper = batch["opacity"][..., None]
    batch["image"] = batch["image"] + 0.2 * upper  # .1 of colours in [0, 1]
    batch["raw"] = batch["raw"] - 0.4
    terms = picture_terms(Fog(), FirstPixel(), batch, jax.random.key(0))
    image = (2 * (0.1 + 8 * 0.1**2) + 1 * 0) / (2 + 1)
    assert terms["picture"] == pytest.approx((image + 0.2 + 8 * 0.2**2) / 2, rel=1e-5)
    assert terms["lpips"] == pytest.approx(-0.2, rel=1e-5)


@pytest.mark.parametrize("superresolution_only", [False, True])
def test_superresolution_alone_learns_nothing_about_what_it_enlarges(superresolution_only):
    batch = pictures(Z)

    def loss(z):
        return picture_terms(
            Fog(),
            FirstPixel(),
            batch | {"z": z},
            jax.random.key(0),
            superresolution_only=superresolution_only,
        )["picture"]

    gradient = jax.grad(loss)(batch["z"] + 0.1)
    assert np.any(gradient) != superresolution_only
