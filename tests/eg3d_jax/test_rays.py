import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eg3d_jax.cameras import from_label, orbit
from eg3d_jax.config import RenderConfig
from eg3d_jax.rays import (
    Rays,
    box_limits,
    cast_rays,
    importance_depths,
    inverse_cdf,
    midway_draws,
    pixel_rays,
    random_draws,
    ray_limits,
    stratified_depths,
)

pytestmark = pytest.mark.compiled_in_full

AUTO = RenderConfig(ray_start=None, ray_end=None)


@pytest.fixture(scope="module")
def golden(golden_rule):
    return golden_rule.load("rendering")


@pytest.mark.parametrize("side", [4, 5])
def test_rays_match_pytorch(golden, close, side):
    """Row by row through pixel centres, skew and a shifted principal point included."""
    rays = jax.jit(jax.vmap(lambda c: cast_rays(from_label(c), side)))(golden["rays/c"])
    close("rendering: rays", rays.origins, golden[f"rays/origins_{side}"], 2e-5)
    close("rendering: rays", rays.directions, golden[f"rays/dirs_{side}"], 2e-5)


def test_a_ray_meets_the_point_it_was_projected_from(golden):
    """Round trip: world point -> image position by the pinhole formula -> ray through the point."""
    camera = from_label(golden["rays/c"][1])
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
    pose, matrix = np.asarray(camera.cam2world), np.asarray(camera.intrinsics)
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    image = local @ matrix.T / local[:, 2:]
    rays = pixel_rays(
        camera, jnp.asarray(image[:, 0], jnp.float32), jnp.asarray(image[:, 1], jnp.float32)
    )
    towards = points - np.asarray(rays.origins)
    distance = np.linalg.norm(towards, axis=-1, keepdims=True)
    np.testing.assert_allclose(rays.directions, towards / distance, atol=1e-5)


@pytest.mark.parametrize("side", ["1.0", "1.6"])
def test_box_limits_match_pytorch(golden, close, side):
    rays = Rays(
        origins=jnp.asarray(golden["box/origins"]).reshape(-1, 3),
        directions=jnp.asarray(golden["box/dirs"]).reshape(-1, 3),
    )
    near, far = jax.jit(lambda rays: box_limits(rays, float(side)))(rays)
    close("rendering: limits", near, golden[f"box/near_{side}"].reshape(-1), 2e-5)
    close("rendering: limits", far, golden[f"box/far_{side}"].reshape(-1), 2e-5)


def three_rays(directions):
    origins = jnp.broadcast_to(jnp.array([0.01, 0.02, 2.0]), (len(directions), 3))
    return Rays(origins=origins, directions=jnp.asarray(directions, jnp.float32))


def test_rays_that_miss_the_box_end_at_the_largest_near():
    """EG3D fills the far limit with a maximum of nears, not of fars."""
    rays = three_rays([[0.0001, 0.0001, -1.0], [0.2, 0.0001, -0.9], [1.0, 0.5, 0.3]])
    near, far = ray_limits(rays, AUTO)
    hit_near, hit_far = box_limits(rays, 1.0)
    assert float(hit_near[2]) == -1.0
    assert float(hit_far[2]) == -2.0
    np.testing.assert_array_equal(near[:2], hit_near[:2])
    np.testing.assert_array_equal(far[:2], hit_far[:2])
    assert float(hit_near[0]) == pytest.approx(1.5, abs=1e-5)
    assert float(near[2]) == float(hit_near[:2].min())
    assert float(far[2]) == float(hit_near[:2].max())


def test_limits_stay_negative_if_no_ray_meets_the_box():
    near, far = ray_limits(three_rays([[1.0, 0.5, 0.3], [0.3, 1.0, 0.2]]), AUTO)
    np.testing.assert_array_equal(near, -1.0)
    np.testing.assert_array_equal(far, -2.0)


def test_a_camera_inside_the_box_has_a_negative_near():
    rays = Rays(origins=jnp.array([[0.1, 0.2, 0.3]]), directions=jnp.array([[0.6, 0.64, 0.48]]))
    near, far = ray_limits(rays, AUTO)
    assert float(near[0]) < 0 < float(far[0])


def test_given_limits_hold_for_every_ray():
    near, far = ray_limits(three_rays([[0, 0, -1], [1, 0, 0]]), RenderConfig())
    np.testing.assert_array_equal(near, np.float32(2.25))
    np.testing.assert_array_equal(far, np.float32(3.3))


@pytest.mark.parametrize("key", ["scalar_2.25_3.3", "disparity_2.25_3.3", "tensor"])
def test_stratified_depths_match_pytorch(golden, close, key):
    jitter = jnp.asarray(golden["strat/jitter"]).reshape(10, 9)
    if key == "tensor":
        start, end = (jnp.asarray(golden[f"strat/{name}"]).reshape(-1) for name in ("start", "end"))
    else:
        start, end = jnp.full(10, 2.25), jnp.full(10, 3.3)
    depths = stratified_depths(start, end, jitter, disparity=key.startswith("disparity"))
    close("rendering: coarse samples", depths, golden[f"strat/{key}"].reshape(10, 9), 2e-5)


def test_the_last_coarse_sample_may_pass_the_end():
    """The spacing has D - 1 in its denominator and jitter only moves forwards."""
    depths = stratified_depths(jnp.array([1.0]), jnp.array([2.0]), jnp.full((1, 5), 0.999))
    assert np.all(np.diff(depths) > 0)
    assert float(depths[0, -1]) == pytest.approx(2.0 + 0.999 / 4, rel=1e-6)


@pytest.mark.parametrize("key", ["samples", "samples_det"])
def test_inverse_cdf_matches_pytorch(golden, close, key):
    """Zero weights, u = 0 and u close to 1 are among the stored cases."""
    u = golden["pdf/u"]
    if key == "samples_det":
        u = np.broadcast_to(np.linspace(0, 1, u.shape[1], dtype=np.float32), u.shape)
    bins, weights = jnp.asarray(golden["pdf/bins"]), jnp.asarray(golden["pdf/weights"])
    out = jax.jit(inverse_cdf)(bins, weights, jnp.asarray(u))
    close("rendering: fine samples", out, golden[f"pdf/{key}"], 2e-5)


def test_importance_depths_match_pytorch(golden, close):
    """The last bin edge is never used, and weights are smoothed: max, mean, + 0.01."""
    depths = jnp.asarray(golden["importance/z"]).reshape(6, 12)
    weights = jnp.asarray(golden["importance/weights"]).reshape(6, 11)
    out = jax.jit(importance_depths)(depths, weights, jnp.asarray(golden["importance/u"]))
    close("rendering: fine samples", out, golden["importance/samples"].reshape(6, 10), 2e-5)


def test_fine_samples_carry_no_gradient(golden):
    depths = jnp.asarray(golden["importance/z"]).reshape(6, 12)
    weights = jnp.asarray(golden["importance/weights"]).reshape(6, 11)
    u = jnp.asarray(golden["importance/u"])
    total = jax.grad(lambda d, w: importance_depths(d, w, u).sum(), argnums=(0, 1))
    for gradient in jax.jit(total)(depths, weights):
        np.testing.assert_array_equal(gradient, 0.0)


def test_fine_samples_gather_where_the_weight_is():
    """With weight in one interval, most samples come to lie in it or in its neighbours."""
    depths = jnp.linspace(2.0, 3.0, 11)[None]
    weights = jnp.zeros((1, 10)).at[0, 5].set(1.0)
    u = (jnp.arange(1000) + 0.5)[None] / 1000
    fine = np.asarray(importance_depths(depths, weights, u))[0]
    assert np.mean(np.abs(fine - 2.55) < 0.2) > 0.9
    assert np.all(np.diff(fine) >= 0)
    assert fine.max() <= 2.85 + 1e-6  # the edge at 2.95 is never used


def test_random_draws_are_uniform_and_midway_draws_their_means():
    config = RenderConfig(coarse_samples=8, fine_samples=4)
    draws, middle = random_draws(jax.random.key(0), 2000, config), midway_draws(2000, config)
    assert draws.jitter.shape == middle.jitter.shape == (2000, 8)
    assert draws.u.shape == middle.u.shape == (2000, 4)
    for x in (draws.jitter, draws.u):
        assert 0.0 <= float(x.min())
        assert float(x.max()) < 1.0
        assert float(x.mean()) == pytest.approx(0.5, abs=0.02)
    np.testing.assert_allclose(middle.u[0], [0.125, 0.375, 0.625, 0.875])
    np.testing.assert_array_equal(middle.jitter, 0.5)


def test_the_middle_of_the_image_looks_along_the_optical_axis():
    camera = orbit(1.2, 1.4)
    rays = pixel_rays(camera, jnp.array([0.5]), jnp.array([0.5]))
    np.testing.assert_allclose(rays.directions[0], camera.cam2world[:3, 2], atol=1e-6)


def test_disparity_needs_given_limits():
    """With limits from the box EG3D would broadcast them wrongly."""
    with pytest.raises(ValueError, match="disparity_sampling needs ray_start and ray_end"):
        RenderConfig(ray_start=None, ray_end=None, disparity_sampling=True)


def test_fine_samples_ascend_with_u_to_the_last_bit():
    """Merging relies on it: one rounded beyond the next interval would be misplaced."""
    rng = np.random.default_rng(0)
    depths = np.sort(rng.uniform(2.25, 3.3, (500, 12)), axis=-1).astype(np.float32)
    weights = rng.uniform(0, 1, (500, 11)).astype(np.float32) ** 8
    u = np.sort(rng.uniform(0, 1, (500, 400)), axis=-1).astype(np.float32)
    fine = np.asarray(jax.jit(importance_depths)(depths, weights, u))
    assert (np.diff(fine, axis=-1) >= 0).all()
