import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from inversion.features.arcface import IR_101, ArcFace, ArcFaceConfig, load_arcface
from inversion.features.face_crop import identity_crop

pytestmark = pytest.mark.compiled_in_full

SMALL = ArcFaceConfig(groups=((16, 2), (32, 2)), side=20, embedding=24)


def torch_network(config):
    """The architecture of such files in PyTorch, with random weights and statistics."""
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle of this test")
    from torch import nn

    class Gate(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.fc1 = nn.Conv2d(channels, channels // config.reduction, 1, bias=False)
            self.fc2 = nn.Conv2d(channels // config.reduction, channels, 1, bias=False)

        def forward(self, x):
            hidden = torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))
            return x * torch.sigmoid(self.fc2(hidden))

    class Unit(nn.Module):
        def __init__(self, before, after, stride):
            super().__init__()
            self.shortcut_layer = (
                nn.MaxPool2d(1, stride)
                if before == after
                else nn.Sequential(
                    nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
                )
            )
            self.res_layer = nn.Sequential(
                nn.BatchNorm2d(before),
                nn.Conv2d(before, after, 3, 1, 1, bias=False),
                nn.PReLU(after),
                nn.Conv2d(after, after, 3, stride, 1, bias=False),
                nn.BatchNorm2d(after),
                *([] if config.reduction is None else [Gate(after)]),
            )

        def forward(self, x):
            return self.res_layer(x) + self.shortcut_layer(x)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            width, units = config.groups[0][0], []
            self.input_layer = nn.Sequential(
                nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)
            )
            for channels, count in config.groups:
                for k in range(count):
                    units.append(Unit(width, channels, 1 if k else 2))
                    width = channels
            self.body = nn.Sequential(*units)
            side = config.side // 2 ** len(config.groups)
            self.output_layer = nn.Sequential(
                nn.BatchNorm2d(width),
                nn.Dropout(),
                nn.Flatten(),
                nn.Linear(width * side * side, config.embedding),
                nn.BatchNorm1d(config.embedding, affine=config.scaled),
            )

        def forward(self, x):
            x = self.output_layer(self.body(self.input_layer(x)))
            return x / x.norm(dim=1, keepdim=True)

    torch.manual_seed(0)
    network = Network().eval()
    for name, value in network.state_dict().items():
        if value.ndim == 1 and name.endswith(("weight", "running_var")):
            value.uniform_(0.5, 1.5)
        elif value.ndim == 1 and value.is_floating_point():
            value.normal_(0, 0.1)
    return torch, network


def numpy_state(network):
    return {name: value.numpy() for name, value in network.state_dict().items()}


@pytest.fixture(scope="module")
def small():
    torch, network = torch_network(SMALL)
    return torch, network, load_arcface(numpy_state(network), SMALL)


def test_embedding_and_its_gradient_equal_pytorch(small):
    torch, network, ours = small
    rng = np.random.default_rng(0)
    crop = rng.uniform(-1, 1, (20, 20, 3)).astype(np.float32)
    direction = rng.standard_normal(24).astype(np.float32)
    x = torch.tensor(crop.transpose(2, 0, 1))[None].requires_grad_()
    wanted = network(x)[0]
    (wanted @ torch.tensor(direction)).backward()
    value = jax.jit(ArcFace.embed)(ours, crop)
    gradient = jax.jit(jax.grad(lambda crop, net: net.embed(crop) @ direction))(crop, ours)
    assert value.shape == (24,)
    # Entries about 0.2 through ten layers of float32 (6e-8): measured below 3e-7.
    np.testing.assert_allclose(value, wanted.detach(), atol=2e-6)
    wanted_gradient = x.grad[0].numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(gradient, wanted_gradient, atol=1e-4 * np.abs(wanted_gradient).max())


@pytest.mark.slow
@pytest.mark.parametrize("config", [ArcFaceConfig(), IR_101], ids=["IR-SE-50", "IR-101"])
def test_full_network_equals_pytorch(rng_of, config):
    torch, network = torch_network(config)
    ours = load_arcface(numpy_state(network))
    image = rng_of("ir_se50").uniform(-1, 1, (512, 512, 3)).astype(np.float32)
    x = torch.nn.functional.interpolate(
        torch.tensor(image.transpose(2, 0, 1))[None], (256, 256), mode="area"
    )
    crop = torch.nn.functional.adaptive_avg_pool2d(x[:, :, 35:223, 32:220], 112)
    with torch.no_grad():
        wanted = network(crop)[0].numpy()
    value = jax.jit(lambda network, image: network(image))(ours, image)
    # Entries about 0.04 through fifty or a hundred layers of float32.
    np.testing.assert_allclose(value, wanted, atol=5e-6)


@pytest.mark.parametrize("side", [256, 512])
def test_identity_crop_equals_the_stored_one(golden, rng_of, side):
    image = (2 * rng_of(f"inv/id{side}").random((1, 3, side, side)) - 1).astype(np.float32)
    crop = np.asarray(jax.jit(identity_crop)(image[0].transpose(1, 2, 0))).transpose(2, 0, 1)
    key = f"id_crop/in{side}"
    statistics = [crop.mean(dtype=np.float64), crop.std(dtype=np.float64), np.abs(crop).max()]
    np.testing.assert_allclose(crop[:, ::5, ::5], golden[f"{key}.strided5"], atol=1e-6)
    np.testing.assert_allclose(crop[:, :4, :4], golden[f"{key}.corner_tl"], atol=1e-6)
    np.testing.assert_allclose(crop[:, -4:, -4:], golden[f"{key}.corner_br"], atol=1e-6)
    np.testing.assert_allclose(statistics, golden[f"{key}.stats"], atol=1e-6)


def test_embeddings_have_unit_length_and_map_over_views(small):
    ours = small[2]
    crops = jax.random.uniform(jax.random.key(1), (3, 20, 20, 3), minval=-1.0)
    mapped = jax.jit(jax.vmap(ArcFace.embed, in_axes=(None, 0)))(ours, crops)
    np.testing.assert_allclose(jnp.linalg.norm(mapped, axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(mapped[1], jax.jit(ArcFace.embed)(ours, crops[1]), atol=1e-6)


def test_nothing_of_it_is_trainable(small):
    _, params, rest = nnx.split(small[2], nnx.Param, ...)
    assert not jax.tree.leaves(params)
    assert jax.tree.leaves(rest)


def test_a_wrong_state_names_both_lists_and_the_shapes(small):
    state = numpy_state(small[1])
    state["body.0.res_layer.2.bias"] = state.pop("body.0.res_layer.2.weight")
    state["output_layer.3.bias"] = np.zeros(7)
    with pytest.raises(ValueError, match="no state dict of IR-SE-50") as caught:
        load_arcface(state, SMALL)
    message = str(caught.value)
    assert "missing ['body.0.res_layer.2.weight']" in message
    assert "unknown ['body.0.res_layer.2.bias']" in message
    assert "output_layer.3.bias (7,), wanted (24,)" in message


def test_images_and_crops_of_other_sizes_are_refused(small):
    with pytest.raises(ValueError, match="too small for the identity"):
        identity_crop(jnp.zeros((128, 128, 3)))
    with pytest.raises(ValueError, match="identity_crop"):
        small[2].embed(jnp.zeros((112, 112, 3)))
    with pytest.raises(ValueError, match="halved"):
        ArcFaceConfig(side=100)
