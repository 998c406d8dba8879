"""With masks, nothing outside of them has any say in what is learned."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from one_number import Brightness

from eg3d_jax.cameras import yaw_pitch_camera
from eg3d_jax.errors import InputError
from inversion import losses
from inversion.config import InversionConfig, StageConfig
from inversion.features.lpips import load_lpips
from inversion.fitting.programs import Programs, video_mesh
from inversion.fitting.runner import StageRunner
from inversion.fitting.states import Store
from inversion.frames.folder import Frames
from inversion.latents import WStatistics
from inversion.methods import choose_methods
from inversion.monitor import Monitor
from inversion.objectives import FeatureNetworks, prepare_targets, view_terms
from inversion.pipeline import Fitter, Job, Video, plan_methods
from inversion.views import Views

SIDE = 32


@pytest.fixture(scope="module")
def networks():
    return FeatureNetworks(lpips=load_lpips("alexnet"))


def views_of(images, mask) -> Views:
    """The views [V, H, W, 3] from as many sides."""
    angles = np.linspace(-0.3, 0.3, len(images))
    return Views(images=jnp.asarray(images), cameras=yaw_pitch_camera(angles, 0.0), mask=mask)


@pytest.fixture(scope="module")
def mask():
    mask = np.zeros((1, SIDE, SIDE), bool)
    mask[0, 6:27, 9:24] = True
    return mask


@jax.jit
def terms_and_gradients(networks, image, target):
    """Both losses, and the gradient of each with respect to the rendered picture."""
    terms, pull = jax.vjp(lambda image: view_terms(networks, image, target), image)
    unit = {name: {other: jnp.float32(other == name) for other in terms} for name in terms}
    return terms, {name: pull(unit[name])[0] for name in terms}


def target_of(networks, image, mask):
    found = prepare_targets(networks, views_of(image[None], mask))
    return jax.tree.map(lambda x: x[0], found)


def test_the_gradient_is_zero_outside_the_mask_and_only_there(networks, mask, rng_of):
    image, target = rng_of("masked/images").uniform(-1, 1, (2, SIDE, SIDE, 3)).astype(np.float32)
    target_seen = target_of(networks, target, mask)
    _, gradients = terms_and_gradients(networks, jnp.asarray(image), target_seen)
    assert set(gradients) == {"pixel", "perceptual"}
    for found in map(np.asarray, gradients.values()):
        assert not found[~mask[0]].any()
        assert (np.abs(found[mask[0]]).max(axis=-1) > 0).all()
    whole = target_of(networks, target, np.ones_like(mask))
    _, gradients = terms_and_gradients(networks, jnp.asarray(image), whole)
    for found in map(np.asarray, gradients.values()):
        assert (np.abs(found).max(axis=-1) > 0).all()


def test_backgrounds_of_target_and_rendering_change_no_term(networks, mask, rng_of):
    rng = rng_of("masked/backgrounds")
    image, target, first, second = rng.uniform(-1, 1, (4, SIDE, SIDE, 3)).astype(np.float32)
    terms = []
    for background in (first, second):
        shown, wanted = (np.where(mask[0, ..., None], x, background) for x in (image, target))
        target_seen = target_of(networks, wanted, mask)
        terms.append(terms_and_gradients(networks, jnp.asarray(shown), target_seen)[0])
    assert terms[0] == terms[1]
    inside = np.square(image - target)[mask[0]].sum() / image.size
    assert float(terms[0]["pixel"]) == pytest.approx(inside, rel=1e-5)


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(8, 8, 3\) and mask \(4, 4\)"):
        losses.person_alone(jnp.zeros((8, 8, 3)), jnp.ones((4, 4), bool))


# The whole chain, with a generator that paints one grey.


class Painter(nnx.Module):
    """Every pixel is the first number of the latent."""

    config = SimpleNamespace(num_ws=2)

    def frontal_camera(self):
        return yaw_pitch_camera(0.0, 0.0)

    def tri_planes(self, ws):
        return ws[0, 0]

    def render(self, planes, camera, *, draws, rays_at_once, side=None):
        return planes

    def superresolve(self, rendered, ws):
        return SimpleNamespace(image=jnp.full((4, 4, 3), rendered))


def left_half(value, background):
    """Two views with this value where the mask is, and a background."""
    images = np.full((2, 4, 4, 3), background, np.float32)
    images[:, :, :2] = value
    return views_of(images, jnp.asarray(np.arange(4) < 2) & jnp.ones((2, 4, 4), bool))


CONFIG = InversionConfig(
    latent=StageConfig(num_steps=8, learning_rate=0.03),
    tuning=StageConfig(num_steps=0, learning_rate=1e-3),
    w_noise=0.0,
    random_rays=False,
)


def fitter_of(config) -> Fitter:
    networks = FeatureNetworks(lpips=Brightness(jnp.asarray(1.0)))
    generator = Painter()
    return Fitter(
        generator=generator,
        networks=networks,
        w_statistics=WStatistics(mean=jnp.zeros(2), std=jnp.asarray(1.0)),
        runner=StageRunner(Programs(generator, networks, config, video_mesh()), Monitor()),
        key=jax.random.key(0),
    )


def fitted(fitter, views):
    methods = choose_methods(np.array([-0.3, 0.3]), views=2, latents=1)
    video = Video(name="", frames=views, methods=methods)
    found = fitter.fit([Job(video=video, method=methods[-1], start=None, store=Store())])[0]
    return np.asarray(found.latents.w_plus)


@pytest.mark.parametrize("masked", [True, False])
def test_a_head_is_fitted_alike_before_any_background_if_asked_for(masked):
    fitter = fitter_of(dataclasses.replace(CONFIG, mask_background=masked))
    first, second = (fitted(fitter, left_half(0.5, background)) for background in (-1.0, 0.25))
    assert np.abs(first).max() > 0.05
    assert np.array_equal(first, second) == masked


def test_masks_are_in_the_program_only_if_asked_for():
    views = left_half(0.5, 0.0)
    video = Video(name="", frames=views, methods=choose_methods(np.zeros(2), views=2, latents=1))
    method = video.methods[-1]
    assert video.views(method).mask is None
    assert video.views(method, masked=True).mask is not None
    fitter = fitter_of(CONFIG)
    stage = fitter.first_stage(video, method, video.views(method), None, jax.random.key(0))
    plain = prepare_targets(fitter.networks, dataclasses.replace(views, mask=None))
    assert jax.tree.structure(stage.targets) == jax.tree.structure(plain)


def test_views_without_masks_or_with_empty_ones_are_refused(networks, tmp_path):
    config = dataclasses.replace(CONFIG, mask_background=True)
    views = left_half(0.5, 0.0)
    assert views.mask is not None
    assert len(plan_methods(views, config, networks)) == 1
    with pytest.raises(InputError, match="the views have no masks, which mask_background needs"):
        plan_methods(dataclasses.replace(views, mask=None), config, networks)
    empty = dataclasses.replace(views, mask=views.mask.at[1].set(False))
    with pytest.raises(InputError, match="view 1 has an empty mask"):
        plan_methods(empty, config, networks)
    names = ("a.png", "b.png")
    frames = Frames(
        folder=tmp_path, names=names, paths=tuple(tmp_path / name for name in names),
        cameras=views.cameras, image_side=4, mask=np.asarray(empty.mask),
    )  # fmt: skip
    with pytest.raises(InputError, match=r"b\.png has an empty mask"):
        plan_methods(frames, config, networks)
    assert len(plan_methods(frames, config, networks, views=1)) == 1
    with pytest.raises(InputError, match=f"{tmp_path} has no masks"):
        plan_methods(dataclasses.replace(frames, mask=None), config, networks)
