"""Dots in space instead of a head, to see how cameras are found."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from eg3d_jax.cameras import yaw_pitch_camera
from inversion.camera_refinement.joint import RefinementConfig, pose_targets
from inversion.camera_refinement.motion import CameraMotion, CameraPrior
from inversion.views import Views

SIDE = 24
PRIOR = CameraPrior()
CAMERAS = yaw_pitch_camera(jnp.linspace(-0.8, 0.8, 5), jnp.array([0.1, -0.1, 0.0, 0.2, -0.2]))


class Dots(nnx.Module):
    """Coloured dots; the first number of the latent says how far they are apart."""

    def __init__(self):
        self.config = SimpleNamespace(num_ws=2, neural_side=SIDE)

    def random_draws(self, key, side=None):
        return key

    def tri_planes(self, ws):
        rng = np.random.default_rng(0)
        return jnp.asarray(rng.uniform(-0.25, 0.25, (8, 3))) * (1.0 + 0.1 * ws[0, 0])

    def render(self, planes, camera, *, side, draws):
        rotation, position = camera.cam2world[:3, :3], camera.cam2world[:3, 3]
        seen = (planes - position) @ rotation @ camera.intrinsics.T
        where = seen[:, :2] / seen[:, 2:]
        pixels = (jnp.arange(side) + 0.5) / side
        x = jnp.exp(-((pixels - where[:, :1]) ** 2) / 0.005)
        y = jnp.exp(-((pixels - where[:, 1:]) ** 2) / 0.005)
        colours = jnp.asarray(np.random.default_rng(1).uniform(size=(8, 3)))
        return SimpleNamespace(features=jnp.einsum("ny,nx,nc->yxc", y, x, colours))


class Plain(nnx.Module):
    """Features are the pixels."""

    def features(self, image):
        return image.ravel() / image.size**0.5


def random_motion(seed, count=5, focal=0.0):
    rigid = np.random.default_rng(seed).uniform(-1, 1, (count, 6))
    return CameraMotion(
        rigid=jnp.asarray(rigid, jnp.float32), focal=jnp.asarray(focal, jnp.float32)
    )


def pictures_from(cameras, ws):
    """Pictures [V, S, S, 3] of the dots."""
    dots = Dots()
    return jax.vmap(lambda c: dots.render(dots.tri_planes(ws), c, side=SIDE, draws=None).features)(
        cameras
    )


def seen_from(cameras, wrong, ws):
    """Targets as they look from `cameras`, labelled with `wrong` ones."""
    views = Views(images=pictures_from(cameras, ws), cameras=wrong)
    return pose_targets(Dots(), Plain(), views, RefinementConfig())
