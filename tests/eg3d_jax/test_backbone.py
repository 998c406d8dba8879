import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytestmark = pytest.mark.compiled_in_full

SIDES = [4, 8, 16, 32, 64, 128, 256]


@pytest.fixture(scope="module")
def golden(golden_rule):
    return golden_rule.load("backbone_small")


@pytest.fixture(scope="module")
def painted(golden, named_generator):
    """What every block gives in either noise mode, and the planes."""

    @jax.jit
    def run(generator, ws):
        def one(w):
            modes = ("const", "none")
            blocks = {mode: generator.backbone.features(w, noise_mode=mode) for mode in modes}
            return blocks, generator.tri_planes(w)

        return jax.vmap(one)(ws)

    return jax.tree.map(np.asarray, run(named_generator("small_2x"), jnp.asarray(golden["ws"])))


@pytest.fixture(scope="module")
def blocks(painted):
    """(features, image) of every block, [N, C, H, W]."""
    return jax.tree.map(lambda x: x.transpose(0, 3, 1, 2), painted[0])


@pytest.mark.parametrize("side", SIDES)
def test_every_block_matches_pytorch(golden, golden_rule, blocks, within, side):
    """Among others a to-RGB layer shares its latent with the next block's first convolution."""
    x, image = blocks["const"][SIDES.index(side)]
    for name, actual in (("x", x), ("img", image)):
        error = golden_rule.largest_difference(golden, f"const/b{side}.{name}", actual)
        within("backbone: blocks", error, 1e-4)


@pytest.mark.parametrize("noise_mode", ["const", "none"])
def test_planes_match_pytorch(golden, golden_rule, blocks, within, close, noise_mode):
    planes = blocks[noise_mode][-1][1]
    error = golden_rule.largest_difference(golden, f"{noise_mode}/planes", planes)
    within("backbone: planes", error, 1e-4)
    rows = planes[0, ::5][:, [0, 127]]
    close("backbone: planes", rows, golden[f"{noise_mode}/planes_rows0_127"], 1e-4)


def test_planes_are_consecutive_channels(painted):
    """Channels 32 k to 32 k + 31 of the last image are plane k."""
    blocks, planes = painted
    image = blocks["const"][-1][1]
    for k in range(3):
        np.testing.assert_allclose(planes[:, k], image[..., 32 * k : 32 * k + 32], atol=1e-5)


def test_a_block_sees_the_latents_up_to_its_own(tiny_generator):
    """Block k uses latents 2 k - 1 to 2 k + 1: its first one again, as the to-RGB layer before."""
    config = tiny_generator.config
    ws = jax.random.normal(jax.random.key(0), (config.num_ws, config.w_dim))

    @jax.jit
    def power(ws):
        return jnp.stack([jnp.sum(image**2) for _, image in tiny_generator.backbone.features(ws)])

    derivative = np.abs(jax.jit(jax.jacrev(power))(ws)).max(axis=-1)
    for block, used in enumerate((2, 4, 6)):
        np.testing.assert_array_equal(derivative[block] > 0, np.arange(len(ws)) < used)


@pytest.mark.parametrize("shape", [(5, 16), (6, 8), (1, 6, 16)])
def test_latents_of_another_generator_are_refused(tiny_generator, shape):
    with pytest.raises(ValueError, match="another generator's latent"):
        tiny_generator.tri_planes(jnp.zeros(shape))


def test_random_noise_needs_a_key_and_obeys_it(tiny_generator):
    ws = jnp.ones((tiny_generator.config.num_ws, tiny_generator.config.w_dim))

    @jax.jit
    def run(key):
        return tiny_generator.tri_planes(ws, noise_mode="random", key=key)

    with pytest.raises(ValueError, match="needs a key"):
        run(None)
    first, again, other = (np.asarray(run(jax.random.key(seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-2


def test_no_two_layers_draw_the_same_noise(tiny_generator, monkeypatch):
    """A block's number is folded into the key, and the key split for its two convolutions."""
    keys = []

    @jax.jit
    def run(key):
        ws = jnp.ones((tiny_generator.config.num_ws, tiny_generator.config.w_dim))
        tiny_generator.tri_planes(ws, noise_mode="random", key=key)
        return jnp.stack(keys)

    def drawn(key, shape):
        keys.append(jax.random.key_data(key))
        return jnp.zeros(shape)

    monkeypatch.setattr(jax.random, "normal", drawn)
    assert len(np.unique(run(jax.random.key(0)), axis=0)) == 5
