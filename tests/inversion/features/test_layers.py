import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inversion.features.layers import Conv, correlate, max_pool, require_shapes


@pytest.mark.parametrize(
    ("side", "size", "stride", "padding"),
    [
        ((19, 16), 11, 4, 2),
        ((12, 9), 3, 2, 1),
        ((9, 8), 1, 2, 0),
        ((7, 8), 2, 3, 1),
        ((6, 7), 5, 1, 2),
    ],
)
def test_folded_strides_equal_a_strided_convolution_and_its_gradient(side, size, stride, padding):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((*side, 2)).astype(np.float32)
    kernel = rng.standard_normal((size, size, 2, 3)).astype(np.float32)

    def direct(x):
        return jax.lax.conv_general_dilated(
            x[None],
            kernel,
            (stride, stride),
            [(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )[0]

    def ours(x):
        return correlate(x, jnp.asarray(kernel), stride=stride, padding=padding)

    # Sums of at most 242 products of size about 1 in another order.
    results = [
        jax.jit(lambda x, f=f: (f(x), jax.grad(lambda x: jnp.sum(jnp.sin(f(x))))(x)))(x)
        for f in (ours, direct)
    ]
    np.testing.assert_allclose(results[0][0], results[1][0], atol=5e-5)
    np.testing.assert_allclose(results[0][1], results[1][1], atol=5e-4)


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), (3, 1), (1, 2)])
@pytest.mark.parametrize("side", [5, 8])
def test_max_pool_drops_windows_that_do_not_fit(size, stride, side):
    x = np.random.default_rng(0).standard_normal((side, side + 1, 2)).astype(np.float32)
    wanted = jax.lax.reduce_window(
        x, -np.inf, jax.lax.max, (size, size, 1), (stride, stride, 1), "VALID"
    )
    np.testing.assert_array_equal(max_pool(x, size=size, stride=stride), wanted)


def test_a_convolution_under_vmap_equals_a_loop():
    rng = np.random.default_rng(0)
    conv = Conv(rng.standard_normal((3, 3, 2, 4)), rng.standard_normal(4), stride=2, padding=1)
    x = rng.standard_normal((3, 9, 9, 2)).astype(np.float32)
    looped = np.stack([conv(image) for image in x])
    np.testing.assert_allclose(jax.vmap(conv)(x), looped, atol=1e-5)


def test_foreign_shapes_are_named():
    with pytest.raises(
        ValueError, match=r"toy has weights of shapes \[\(1,\)\], wanted \[\(2,\)\]"
    ):
        require_shapes([(1,)], [(2,)], "toy")


@pytest.mark.parametrize("stride", [1, 2])
def test_bfloat16_rounds_what_a_convolution_reads_and_returns(stride):
    rng = np.random.default_rng(0)
    x, kernel = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((8, 8, 5), (3, 3, 5, 4))
    )
    with jax.default_matmul_precision("bfloat16"):
        found = correlate(x, kernel, stride=stride, padding=1)
    assert found.dtype == jnp.float32
    x, kernel = (a.astype(jnp.bfloat16).astype(jnp.float32) for a in (x, kernel))
    exact = correlate(x, kernel, stride=stride, padding=1)
    assert 0 < jnp.max(jnp.abs(found - exact)) / jnp.max(jnp.abs(exact)) < 2**-8
