"""What is measured of frames and latents, against what is known of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import inversion
from eg3d_jax.cameras import from_label
from eg3d_jax.generator import Renders
from eg3d_jax.rays import cast_rays
from inversion.evaluation import measure_frames, measure_latents
from inversion.features.lpips import load_lpips
from inversion.frames.folder import read_frames, read_images
from inversion.latents import Latents, repeat_latents
from inversion.objectives import FeatureNetworks


@pytest.fixture(scope="module")
def networks():
    return FeatureNetworks(lpips=load_lpips("alexnet"))


@pytest.fixture(scope="module")
def frames(inputs):
    return read_frames(inputs / "frames", image_side=32)


def rendered(frames, noise=0.0, **more):
    images = read_images(frames, range(len(frames)))
    drawn = np.random.default_rng(0).choice([-1.0, 1.0], images.shape)
    side = np.ones((len(frames), 16, 16), np.float32)
    image = np.float32(0.8 * images + noise * drawn)
    parts = {"image": image, "raw": images[:, ::2, ::2], "depth": 2.7 * side, "opacity": side}
    return Renders(**(parts | more))


def test_errors_of_known_size(networks, frames):
    renders = rendered(frames, noise=0.1)
    target = read_images(frames, range(4))
    found = measure_frames(networks, frames, renders)
    assert set(found) == {"mse", "psnr", "lpips", "ms_ssim"}
    want = np.square(np.clip(renders.image, -1, 1) - target).mean((1, 2, 3))
    np.testing.assert_allclose(found["mse"], want, rtol=1e-5)
    np.testing.assert_allclose(found["psnr"], 10 * np.log10(4 / want), rtol=1e-5)
    assert np.all(found["lpips"] > 0)
    assert np.all(found["ms_ssim"] < 1)


def test_equal_pictures_are_perfect(networks, frames):
    images = read_images(frames, range(4))
    found = measure_frames(networks, frames, dataclasses.replace(rendered(frames), image=images))
    np.testing.assert_allclose(found["mse"], 0)
    np.testing.assert_allclose(found["lpips"], 0)
    np.testing.assert_allclose(found["ms_ssim"], 1, atol=1e-6)


def test_masks_choose_the_head_and_its_outline(networks, frames):
    mask = np.zeros((4, 32, 32), bool)
    mask[:, 8:24, 8:24] = True
    opacity = np.zeros((4, 16, 16), np.float32)
    opacity[:, 4:12, 4:8] = 1
    renders = rendered(frames, opacity=opacity)
    found = measure_frames(networks, dataclasses.replace(frames, mask=mask), renders)
    np.testing.assert_allclose(found["iou"], 0.5)
    error = np.square(renders.image - read_images(frames, range(4)))[:, 8:24, 8:24].mean((1, 2, 3))
    np.testing.assert_allclose(found["psnr_foreground"], 10 * np.log10(4 / error), rtol=1e-4)


def test_a_run_scores_itself_as_its_evaluation_measures_it(networks, frames):
    mask = np.zeros((4, 32, 32), bool)
    mask[:, 8:24, 8:24] = True
    depth = np.where(mask, 2.6, 0.0).astype(np.float32)  # 0.1 from the rendered one, or unknown
    known = dataclasses.replace(frames, mask=mask, depth=depth)
    renders = rendered(frames, noise=0.1 * mask[..., None])
    names = ("psnr", "lpips", "psnr_foreground", "depth_error")
    scores = measure_frames(networks, known, renders, side=None, measures=names)
    found = measure_frames(networks, known, renders)
    assert set(scores) == set(names)
    for name in names:
        np.testing.assert_array_equal(scores[name], found[name], err_msg=name)


def test_large_pictures_are_compared_in_256_pixels(networks, frames):
    first = {"names": frames.names[:1], "paths": frames.paths[:1], "cameras": frames.cameras[:1]}
    black = dataclasses.replace(frames, **first, image_side=512)
    image = np.full((1, 512, 512, 3), -0.8, np.float32)
    image[:, :, ::2] += 0.1
    image[:, :, 1::2] -= 0.1
    found = measure_frames(networks, black, rendered(frames, image=image))
    # Stripes of a pixel, which would add 0.1^2, cancel but for 0.1 / 7 in the outermost columns.
    assert found["mse"] == pytest.approx(0.2**2, abs=2 / 256 * 0.4 * 0.1 / 7 + 1e-5)


def sphere(camera, centre, radius, side):
    """Distance from the camera to a ball, 0 beside it."""
    rays = cast_rays(camera, side)
    offset = np.asarray(rays.origins, np.float64) - centre
    directions = np.asarray(rays.directions, np.float64)
    b = (offset * directions).sum(-1)
    root = b**2 - (offset**2).sum(-1) + radius**2
    return np.where(root > 0, -b - np.sqrt(np.maximum(root, 0)), 0).reshape(side, side)


def test_depth_and_normals_against_balls(networks, frames):
    side, cameras = 16, frames.cameras
    truth = np.stack([sphere(c, np.zeros(3), 0.3, side) for c in each(cameras)])
    shifted = np.where(truth > 0, truth + 0.01, 2.7).astype(np.float32)
    found = measure_frames(
        networks,
        dataclasses.replace(frames, depth=truth.astype(np.float32)),
        rendered(frames, depth=shifted),
    )
    np.testing.assert_allclose(found["depth_error"], 0.01, atol=1e-6)
    # Points move along rays that spread by 0.01 / 2.4 of the ball's width: slopes barely change,
    # save at the rim, whose neighbours lie beside the ball in both maps.
    assert np.all(found["normal_error"] < 1.0)
    flat = measure_frames(
        networks,
        dataclasses.replace(frames, depth=truth.astype(np.float32)),
        rendered(frames, depth=np.full_like(shifted, 2.7)),
    )
    # A disc seen from the front instead of a ball: angles up to 90 degrees, 30 to 60 on average.
    assert np.all((flat["normal_error"] > 25) & (flat["normal_error"] < 60))


def each(cameras):
    return [cameras[i] for i in range(len(cameras))]


def test_latents_that_agree_and_that_do_not(inputs):
    result = inversion.load(inputs / "run" / "result")
    generator, cameras = result.generator, from_label(result.labels)
    alone = measure_latents(generator, result.latents, cameras)
    assert alone == {"depth_spread": None, "path_distance": None, "path_angle": None}
    same = repeat_latents(result.latents.w_plus[0], np.array([1.0, 1.5, 2.0]))
    found = measure_latents(generator, same, cameras)
    # The mean of three equal depths of 2.7 is rounded in float32.
    assert found["depth_spread"] == pytest.approx(0.0, abs=1e-6)
    assert found["path_distance"] == 0.0
    assert found["path_angle"] is None
    moved = jax.random.normal(jax.random.key(0), same.w_plus.shape) + same.w_plus
    found = measure_latents(generator, Latents(w_plus=moved, azimuth=same.azimuth), cameras)

    @jax.jit
    def surface(ws, camera):
        seen = generator.synthesize(ws, camera)
        return seen.depth, seen.opacity

    maps = np.array([[surface(ws, c) for ws in moved] for c in each(cameras)])
    depth, solid = maps[:, :, 0], maps[:, :, 1].min(1)
    spread = [np.average(d.std(0), weights=s) for d, s in zip(depth, solid, strict=True)]
    assert found["depth_spread"] == pytest.approx(np.mean(spread), rel=1e-4)
    assert found["depth_spread"] > 0
    steps = np.diff(np.asarray(moved).reshape(3, -1), axis=0)
    assert found["path_distance"] == pytest.approx(np.linalg.norm(steps, axis=1).mean(), rel=1e-5)


def test_faces_are_compared_if_a_network_is_given(inputs):
    @jax.tree_util.register_static
    class Faces:
        def __call__(self, image):
            return jnp.where(jnp.mean(image) > 0, jnp.array([1.0, 0.0]), jnp.array([0.6, 0.8]))

    networks = FeatureNetworks(lpips=load_lpips("alexnet"), identity=Faces())
    frames = read_frames(inputs / "frames", image_side=32)
    bright = dataclasses.replace(rendered(frames), image=np.ones((4, 32, 32, 3), np.float32))
    # The frames are dark, so their faces are the other ones.
    np.testing.assert_allclose(measure_frames(networks, frames, bright)["identity"], 0.6)
