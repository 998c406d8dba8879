import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inversion import metrics
from inversion.features.lpips import load_lpips


def images(height=12, width=None, noise=0.2, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.uniform(-0.7, 0.7, (height, width or height, 3))
    b = a + noise * rng.standard_normal(a.shape)
    return jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)


@given(st.floats(-0.9, 0.9), st.floats(0.01, 0.9))
@settings(deadline=None, max_examples=20)
def test_psnr_of_a_constant_difference_is_its_closed_form(level, difference):
    a = jnp.full((4, 4, 3), level)
    b = jnp.clip(a + difference, -1, 1)
    step = np.float64(b[0, 0, 0]) - np.float64(a[0, 0, 0])
    np.testing.assert_allclose(metrics.mse(a, b), step**2, rtol=1e-5)
    np.testing.assert_allclose(metrics.psnr(a, b), 20 * np.log10(2 / step), rtol=1e-4)


def test_psnr_of_equal_images_is_infinite():
    a, _ = images()
    assert float(metrics.psnr(a, a)) == np.inf


def test_what_a_display_clips_costs_nothing():
    a, b = images(31)
    brighter, white = jnp.full_like(a, 1.5), jnp.full_like(a, 1.0)
    assert float(metrics.mse(brighter, white)) == 0.0
    network, compiled = load_lpips("alexnet"), jax.jit(metrics.lpips)
    assert float(compiled(network, brighter, white)) == 0.0
    assert float(compiled(network, a, 3 * b)) == float(compiled(network, a, jnp.clip(3 * b, -1, 1)))
    assert float(compiled(network, a, b)) > 1e-3


def test_a_mask_hides_all_else():
    a, b = images()
    mask = np.zeros((12, 12), bool)
    mask[2:5, 3:9] = True
    np.testing.assert_allclose(
        metrics.mse(a, b, mask), metrics.mse(a[2:5, 3:9], b[2:5, 3:9]), rtol=1e-5
    )
    np.testing.assert_allclose(
        metrics.psnr(a, b, mask), metrics.psnr(a[2:5, 3:9], b[2:5, 3:9]), rtol=1e-5
    )
    np.testing.assert_allclose(metrics.mse(a, b, np.ones((12, 12))), metrics.mse(a, b), rtol=1e-5)
    assert np.isnan(metrics.mse(a, b, np.zeros((12, 12))))


def test_iou_counts_pixels():
    a, b = np.zeros((4, 4)), np.zeros((4, 4), bool)
    a[:, :2], b[:, 1:4] = 0.9, True
    a[0, 3] = 0.4
    assert float(metrics.mask_iou(a, b)) == pytest.approx(4 / 16)
    assert float(metrics.mask_iou(b, b)) == 1.0
    assert float(metrics.mask_iou(np.zeros((4, 4)), np.zeros((4, 4)))) == 1.0
    assert float(metrics.mask_iou(np.zeros((4, 4)), b)) == 0.0
    assert float(metrics.mask_iou(a, b, threshold=0.3)) == pytest.approx(5 / 16)


def test_depth_error_ignores_pixels_without_depth():
    depth, target = jnp.full((3, 3), 2.5), np.full((3, 3), 2.7, np.float32)
    mask = np.ones((3, 3))
    target[0, 0], mask[0, 0] = np.inf, 0.0
    assert float(metrics.depth_error(depth, target, mask)) == pytest.approx(0.2, abs=1e-6)
    assert float(metrics.depth_error(depth, depth)) == 0.0
    gradient = jax.grad(metrics.depth_error)(depth, target, mask)
    assert np.all(np.isfinite(gradient))


def test_depth_spread_is_the_population_deviation():
    depths = jnp.stack([jnp.full((2, 2), 2.0), jnp.full((2, 2), 3.0)])
    full = jnp.ones_like(depths)
    assert float(metrics.depth_std(depths, full)) == pytest.approx(0.5)
    assert float(metrics.depth_std(depths[:1], full[:1])) == 0.0


def test_depth_spread_counts_pixels_by_their_least_opacity():
    depths = jnp.array([[[2.0, 1.0, 0.0]], [[3.0, 3.0, 9.0]]])  # deviations 0.5, 1, 4.5
    opacities = jnp.array([[[1.0, 1.0, 0.0]], [[1.0, 0.5, 1.0]]])
    found = float(metrics.depth_std(depths, opacities))
    assert found == pytest.approx((1.0 * 0.5 + 0.5 * 1.0) / 1.5)


def ms_ssim_slowly(a, b):
    """Its definition, window by window in float64, with PyTorch's pooling between scales."""
    offsets = np.arange(11) - 5
    taps = np.exp(-(offsets**2) / 4.5)
    window = np.outer(taps, taps) / taps.sum() ** 2

    def blur(x):
        return np.tensordot(np.lib.stride_tricks.sliding_window_view(x, (11, 11)), window, axes=2)

    def pool(x):
        rows, columns = x.shape[0] % 2, x.shape[1] % 2
        x = np.pad(x, [(rows, rows), (columns, columns)])
        x = x[: x.shape[0] // 2 * 2, : x.shape[1] // 2 * 2]
        return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4

    values = []
    for channel in range(3):
        x, y = ((np.asarray(i[..., channel], np.float64) + 1) / 2 for i in (a, b))
        value = 1.0
        for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
            mx, my = blur(x), blur(y)
            vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
            part = (2 * cov + 0.0009) / (vx + vy + 0.0009)
            if scale == 4:
                part = part * (2 * mx * my + 0.0001) / (mx**2 + my**2 + 0.0001)
            value *= max(part.mean(), 0.0) ** weight
            x, y = pool(x), pool(y)
        values.append(value)
    return np.mean(values)


@pytest.mark.parametrize(("height", "width"), [(161, 161), (175, 181)])
def test_ms_ssim_equals_its_slow_definition(height, width):
    a, b = images(height, width, noise=0.05)
    a, b = jnp.clip(a, -1, 1), jnp.clip(b, -1, 1)
    wanted = ms_ssim_slowly(a, b)
    assert 0.5 < wanted < 0.9999
    # Variances as differences of means of squares lose some digits in float32.
    assert float(jax.jit(metrics.ms_ssim)(a, b)) == pytest.approx(wanted, abs=1e-5)


def test_ms_ssim_of_equal_images_is_one_and_falls_with_noise():
    compiled = jax.jit(metrics.ms_ssim)
    values = [float(compiled(*images(161, noise=noise))) for noise in (0.0, 0.1, 0.4)]
    assert values[0] == pytest.approx(1.0, abs=1e-6)
    assert values[0] > values[1] > values[2]


def test_mistakes_are_named():
    a, _ = images()
    with pytest.raises(ValueError, match="equal in shape"):
        metrics.psnr(a, a[:1])
    with pytest.raises(ValueError, match="vmap"):
        metrics.mse(a[None], a[None])
    with pytest.raises(ValueError, match="mask"):
        metrics.mse(a, a, np.ones((12, 1)))
    with pytest.raises(ValueError, match="161 a side"):
        metrics.ms_ssim(a, a)
    with pytest.raises(ValueError, match=r"\[K, h, w\]"):
        metrics.depth_std(jnp.ones((2, 2)), jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="equal in shape"):
        metrics.mask_iou(jnp.ones((2, 2)), jnp.ones((1, 2)))
