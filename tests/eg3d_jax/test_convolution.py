import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fir_reference import FILTER_1331, upfirdn2d

from eg3d_jax.convolution import _correlate, _tiles_pay, _up_transposed, conv2d, conv2d_up

# The form for CPUs, which is taken here, and the one for all other devices.
FORMS = pytest.mark.parametrize("up", [conv2d_up, _up_transposed])
PADDINGS = [((1, 1), (1, 1)), ((1, 1), (0, 0)), ((0, 0), (1, 1)), ((2, 0), (0, 1))]


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def plain(x, kernel, padding):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x[None], kernel, (1, 1), padding, dimension_numbers=numbers
    )[0]


def close(actual, wanted):
    np.testing.assert_allclose(actual, wanted, atol=1e-5 * np.abs(wanted).max())


def gradients(convolve, x, kernel, cotangent):
    return jax.grad(lambda x, k: jnp.sum(convolve(x, k) * cotangent), argnums=(0, 1))(x, kernel)


# Few output channels and many take different paths to the gradient of the kernel.
@pytest.mark.parametrize("channels", [2, 11])
@pytest.mark.parametrize("padding", PADDINGS)
def test_gradients_of_a_convolution_equal_those_of_jax(padding, channels):
    x, kernel = arrays((6, 7, 3), (3, 2, 3, channels))
    shape = plain(x, kernel, padding).shape
    (cotangent,) = arrays(shape)
    ours, wanted = (
        jax.jit(lambda x, k, c, f=f: gradients(lambda x, k: f(x, k, padding), x, k, c))(
            x, kernel, cotangent
        )
        for f in (_correlate, plain)
    )
    for a, b in zip(ours, wanted, strict=True):
        close(a, b)


def exact(x, kernel, cotangent):
    """A 3 x 3 convolution and its gradients in float64, by a sum over the taps."""
    x, kernel, cotangent = (np.asarray(a, np.float64) for a in (x, kernel, cotangent))
    height, width = x.shape[:2]
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    out, dx, dkernel = np.zeros(cotangent.shape), np.zeros(padded.shape), np.zeros(kernel.shape)
    for i in range(3):
        for j in range(3):
            seen = np.s_[i : i + height, j : j + width]
            out += padded[seen] @ kernel[i, j]
            dx[seen] += cotangent @ kernel[i, j].T
            dkernel[i, j] = np.einsum("hwi,hwo->io", padded[seen], cotangent)
    return out, dx[1:-1, 1:-1], dkernel


@pytest.mark.parametrize(("height", "width"), [(2, 2), (6, 4), (16, 10)])
def test_many_channels_are_convolved_by_tiles_as_exactly_as_by_taps(height, width):
    x, kernel, cotangent = arrays((height, width, 256), (3, 3, 256, 272), (height, width, 272))
    assert _tiles_pay(x, kernel, PADDINGS[0])

    def all_of(convolve):
        out, pull = jax.vjp(lambda x, k: convolve(x, k, PADDINGS[0]), x, kernel)
        return out, *pull(cotangent)

    tiles, taps = (jax.jit(lambda f=f: all_of(f))() for f in (_correlate, plain))
    for of_tiles, of_taps, wanted in zip(tiles, taps, exact(x, kernel, cotangent), strict=True):
        errors = [np.sqrt(np.mean(np.square(a - wanted))) for a in (of_tiles, of_taps)]
        # What is multiplied, what by, and the outputs are sums themselves: three roundings more.
        rounding = 3 * 2.0**-24 * np.sqrt(np.mean(np.square(wanted)))
        assert errors[0] < 2 * errors[1] + rounding
        close(of_tiles, wanted)


def test_what_tiles_do_not_fit_or_pay_for_is_convolved_by_taps():
    x, kernel = arrays((6, 6, 256), (3, 3, 256, 256))
    assert _tiles_pay(x, kernel, PADDINGS[0])
    assert not _tiles_pay(x[:5], kernel, PADDINGS[0])
    assert not _tiles_pay(x, kernel[:2, :2], ((1, 1), (1, 1)))
    assert not _tiles_pay(x, kernel, ((2, 0), (1, 1)))
    assert not _tiles_pay(x, kernel[..., :255], PADDINGS[0])
    assert not _tiles_pay(x[..., :255], kernel[:, :, :255], PADDINGS[0])
    # Sums of tiles would be rounded to eight bits.
    assert not _tiles_pay(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16), PADDINGS[0])


def test_tiles_survive_vmap_over_views_with_one_kernel():
    xs, kernel, cotangents = arrays((3, 4, 4, 256), (3, 3, 256, 256), (3, 4, 4, 256))

    def loss(kernel, convolve):
        return jnp.sum(jax.vmap(lambda x: convolve(x, kernel, PADDINGS[0]))(xs) * cotangents)

    ours, wanted = (
        jax.jit(jax.grad(lambda k, f=f: loss(k, f)))(kernel) for f in (_correlate, plain)
    )
    close(ours, wanted)


def test_gradients_of_a_convolution_survive_vmap():
    """Over images with one kernel, as for several views, and over kernels too."""
    padding = PADDINGS[0]
    xs, kernels, cotangents = arrays((4, 5, 6, 3), (4, 3, 3, 3, 2), (4, 5, 6, 2))
    for axes in ((0, None, 0), (0, 0, 0)):
        kernel = kernels if axes[1] == 0 else kernels[0]
        ours, wanted = (
            jax.jit(
                jax.vmap(
                    lambda x, k, c, f=f: gradients(lambda x, k: f(x, k, padding), x, k, c), axes
                )
            )(xs, kernel, cotangents)
            for f in (_correlate, plain)
        )
        for a, b in zip(ours, wanted, strict=True):
            close(a, b)


def test_gradients_of_a_convolution_survive_a_scan():
    x, kernel = arrays((6, 6, 3), (3, 3, 3, 3))

    def loss(kernel, convolve):
        def step(x, _):
            return jnp.tanh(convolve(x, kernel, PADDINGS[0])), None

        return jnp.sum(jnp.square(jax.lax.scan(step, x, length=3)[0]))

    ours, wanted = (
        jax.jit(jax.grad(lambda k, f=f: loss(k, f)))(kernel) for f in (_correlate, plain)
    )
    close(ours, wanted)


def test_gradients_of_gradients_exist():
    x, kernel = arrays((4, 4, 2), (3, 3, 2, 2))

    def twice(convolve):
        def penalty(k):
            return jnp.sum(jnp.square(jax.grad(lambda x: jnp.sum(jnp.sin(convolve(x, k))))(x)))

        return jax.jit(jax.grad(penalty))(kernel)

    close(twice(conv2d), twice(lambda x, k: plain(x, k, PADDINGS[0])))


@FORMS
def test_upsampling_convolution_equals_its_definition(up):
    """Zeros between the samples, a true convolution with the kernel, then the 1-3-3-1 filter."""
    x, kernel = arrays((5, 6, 3), (3, 3, 3, 2))
    columns = []
    for o in range(2):
        spread = sum(
            upfirdn2d(x[..., i : i + 1], kernel[:, :, i, o], up=2, pad=(2, 1, 2, 1))
            for i in range(3)
        )
        assert spread.shape == (11, 13, 1)
        columns.append(upfirdn2d(spread, FILTER_1331, pad=(1, 1, 1, 1), gain=4))
    close(jax.jit(up)(x, kernel), jnp.concatenate(columns, axis=-1))


@FORMS
@pytest.mark.compiled_in_full
def test_upsampling_convolution_equals_the_transposed_one_of_pytorch(up):
    """A loop over t[2y + ky, 2x + kx] += x[y, x] W[ky, kx]."""
    x, kernel = (np.asarray(a) for a in arrays((4, 4, 2), (3, 3, 2, 3)))
    t = np.zeros((9, 9, 3), np.float32)
    for ky in range(3):
        for kx in range(3):
            t[ky : ky + 8 : 2, kx : kx + 8 : 2] += x @ kernel[ky, kx]
    wanted = upfirdn2d(jnp.asarray(t), FILTER_1331, pad=(1, 1, 1, 1), gain=4)
    close(up(jnp.asarray(x), jnp.asarray(kernel)), wanted)


def test_both_forms_of_an_upsampling_convolution_have_the_same_gradients():
    x, kernel, cotangent = arrays((5, 6, 3), (3, 3, 3, 2), (10, 12, 2))
    ours, wanted = (
        jax.jit(lambda x, k, c, f=f: gradients(f, x, k, c))(x, kernel, cotangent)
        for f in (_up_transposed, conv2d_up)
    )
    for a, b in zip(ours, wanted, strict=True):
        close(a, b)
