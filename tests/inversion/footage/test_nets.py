"""The nets against what LiteRT and MediaPipe compute, and each operator by itself.

The stored numbers are theirs; see tests/golden/README.md.
"""

import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from convert_weights import face_nets
from experiments.subjects import DEMO
from inversion.footage.nets import Graph, load_face_nets, load_person_net, run_graph

GOLDEN = Path(__file__).parents[2] / "golden" / "face_nets.npz"
PERSON = GOLDEN.with_name("person_net.npz")
NETS = tuple(face_nets.NETS)
# Outputs are up to 156, of which float32 holds 1.5e-5, and sums of up to 600 products lie behind
# each, in another order than LiteRT's.
TOLERANCE = 5e-4


@pytest.fixture(scope="module")
def nets():
    return load_face_nets()


@pytest.fixture(scope="module")
def pictures(nets, rng_of):
    """A picture of noise for each net, twice, the second one mirrored; in the range it takes."""
    found = {}
    for name in NETS:
        side = getattr(nets, name).graph.side
        noise = rng_of(f"footage/{name}").random((1, side, side, 3))
        noise = (noise if name == "mesh" else 2 * noise - 1).astype(np.float32)
        found[name] = np.concatenate([noise, noise[:, :, ::-1]])
    return found


@pytest.fixture(scope="module")
def outputs(nets, pictures):
    return {
        # As in use: one picture for a detector, two for the mesh.
        name: getattr(nets, name)(pictures[name] if name == "mesh" else pictures[name][:1])
        for name in NETS
    }


def sample(output: np.ndarray) -> np.ndarray:
    """At most 40 of the numbers of the first picture, evenly spread."""
    flat = output[0].ravel()
    return flat[np.linspace(0, flat.size - 1, min(flat.size, 40)).astype(int)]


@pytest.mark.parametrize("name", NETS)
def test_nets_give_what_litert_gives(outputs, name):
    with np.load(GOLDEN) as golden:
        for index, output in enumerate(outputs[name]):
            wanted = golden[f"{name}.{index}"]
            assert np.ptp(wanted) > 1 or wanted.size == 1
            np.testing.assert_allclose(sample(output), wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", NETS)
def test_nets_give_all_that_litert_gives_where_it_is_installed(outputs, pictures, name):
    folder = os.environ.get("EG3D_JAX_FACE_PACKAGES")
    if not folder:
        pytest.skip("EG3D_JAX_FACE_PACKAGES names no folder of the packages that the NOTICE lists")
    litert = pytest.importorskip("ai_edge_litert.interpreter", reason="needs ai-edge-litert")
    files = face_nets.read_packages(
        next(Path(folder).glob("*face_mesh*.tgz")), next(Path(folder).glob("*face_detection*.whl"))
    )
    interpreter = litert.Interpreter(model_content=files[face_nets.NETS[name]])
    interpreter.allocate_tensors()
    for i in range(len(outputs[name][0])):
        interpreter.set_tensor(
            interpreter.get_input_details()[0]["index"], pictures[name][i : i + 1]
        )
        interpreter.invoke()
        for index, detail in enumerate(interpreter.get_output_details()):
            theirs = interpreter.get_tensor(detail["index"])
            ours = outputs[name][index][i : i + 1]
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)
            if i == 0:  # Other releases of LiteRT, and other processors, sum in another order.
                with np.load(GOLDEN) as golden:
                    stored = golden[f"{name}.{index}"]
                np.testing.assert_allclose(sample(theirs), stored, rtol=0, atol=TOLERANCE)


def test_nets_are_loaded_once():
    assert load_face_nets() is load_face_nets()


@pytest.mark.parametrize("name", ["frame0000", "frame0030"])
def test_people_are_found_where_mediapipe_finds_them(name):
    """A quarter of the tolerance before the sigmoid, the most that is left of it, is 1.3e-4."""
    with Image.open(DEMO / f"{name}.png") as image:
        pixels = np.asarray(image.convert("RGB")).repeat(2, 0).repeat(2, 1)
    (mask,) = load_person_net()((pixels / np.float32(255))[None])
    assert mask.shape == (1, 256, 256, 1)
    with np.load(PERSON) as golden:
        wanted = golden[f"{name}.values"]
        found = mask.ravel()[golden[f"{name}.index"]]
    assert np.count_nonzero((wanted > 0.01) & (wanted < 0.99)) >= 200
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE / 4)


def test_a_picture_of_another_size_is_refused(nets):
    with pytest.raises(ValueError, match=r"\(1, 192, 192, 3\), wanted \[B, 128, 128, 3\]"):
        nets.short_range(np.zeros((1, 192, 192, 3), np.float32))


def run_one(kind: str, x: np.ndarray, *constants: np.ndarray, **options) -> np.ndarray:
    inputs = list(range(1 + len(constants)))
    operator = {"kind": kind, "inputs": inputs, "output": 9, **options}
    graph = Graph(x.shape[1], (operator,), 0, (9,))
    numbers = {i: jnp.asarray(c, jnp.float32) for i, c in enumerate(constants, 1)}
    run = jax.jit(functools.partial(run_graph, graph))
    return np.asarray(run(numbers, jnp.asarray(x, jnp.float32))[0])


def windows(x: np.ndarray, height: int, width: int, stride: int, padding: str, fill: float):
    """[B, h, w, height, width, C]: TensorFlow's SAME pads the odd pixel after the picture."""
    if padding == "SAME":
        total = [
            max((-(-n // stride) - 1) * stride + size - n, 0)
            for n, size in zip(x.shape[1:3], (height, width), strict=True)
        ]
        pads = [(0, 0), *((n // 2, n - n // 2) for n in total), (0, 0)]
        x = np.pad(x, pads, constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(x, (height, width), axis=(1, 2))
    return np.moveaxis(view[:, ::stride, ::stride], 3, -1)


CASES = [
    (3, 1, "SAME"), (3, 2, "SAME"), (5, 2, "SAME"), (2, 2, "SAME"),
    (3, 2, "VALID"), (1, 1, "VALID"),
]  # fmt: skip


@pytest.fixture(scope="module")
def x(rng_of):
    return rng_of("footage/operators").standard_normal((2, 7, 6, 4)).astype(np.float32)


@pytest.mark.parametrize(("size", "stride", "padding"), CASES)
def test_convolutions_are_sums_over_windows(x, rng_of, size, stride, padding):
    rng = rng_of("footage/kernels")
    kernel, bias = rng.standard_normal((size, size, 4, 3)), rng.standard_normal(3)
    options = {"stride_x": stride, "stride_y": stride, "padding": padding}
    seen = windows(x, size, size, stride, padding, 0)
    wanted = np.einsum("bhwijc,ijcd->bhwd", seen, kernel) + bias
    # Sums of up to 100 products of about 1.
    np.testing.assert_allclose(
        run_one("CONV_2D", x, kernel, bias, **options), wanted, rtol=0, atol=2e-5
    )
    kernel, bias = kernel[..., 0], np.append(bias, 2.0)
    wanted = np.einsum("bhwijc,ijc->bhwc", seen, kernel) + bias
    np.testing.assert_allclose(
        run_one("DEPTHWISE_CONV_2D", x, kernel, bias, **options), wanted, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(("size", "stride", "padding"), CASES)
def test_pooling_takes_the_greatest_of_each_window(x, size, stride, padding):
    options = {"stride_x": stride, "stride_y": stride, "padding": padding}
    found = run_one("MAX_POOL_2D", x, **options, width=size, height=size)
    wanted = windows(x, size, size, stride, padding, -np.inf).max(axis=(3, 4))
    np.testing.assert_array_equal(found, wanted)


def test_pictures_are_enlarged_by_lines_between_the_middles_of_pixels(x):
    """Twice as large: each new middle lies a quarter from an old one; borders are continued."""

    def twice(a, axis):
        a = np.moveaxis(a, axis, 0)
        before, after = np.concatenate([a[:1], a[:-1]]), np.concatenate([a[1:], a[-1:]])
        both = np.stack([0.75 * a + 0.25 * before, 0.75 * a + 0.25 * after], axis=1)
        return np.moveaxis(both.reshape(2 * len(a), *a.shape[1:]), 0, axis)

    found = run_one("RESIZE_BILINEAR", x, shape=[14, 12, 4])
    np.testing.assert_allclose(found, twice(twice(x, 1), 2), rtol=0, atol=1e-6)


def test_a_transposed_convolution_makes_a_block_of_each_pixel(x, rng_of):
    rng = rng_of("footage/transposed")
    kernel, bias = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal(5)
    wanted = np.empty((2, 14, 18, 5))
    for i in range(2):
        for j in range(3):
            wanted[:, i::2, j::3] = x @ kernel[i, j] + bias
    found = run_one("TRANSPOSE_CONV", x, kernel, bias)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_the_other_operators(x):
    slope = np.array([0.5, 0, -1, 2])
    np.testing.assert_array_equal(run_one("PRELU", x, slope), np.where(x > 0, x, x * slope))
    np.testing.assert_array_equal(run_one("RELU", x), np.maximum(x, 0))
    np.testing.assert_array_equal(run_one("ADD", x, x[:1]), x + x[:1])
    np.testing.assert_array_equal(run_one("RESHAPE", x, shape=[42, 4]), x.reshape(2, 42, 4))
    joined = run_one("CONCATENATION", x, x, axis=1)
    np.testing.assert_array_equal(joined, np.concatenate([x, x], axis=1))
    np.testing.assert_array_equal(run_one("MUL", x, x[:1, :1, :1]), x * x[:1, :1, :1])
    np.testing.assert_allclose(
        run_one("AVERAGE_POOL_2D", x), x.mean((1, 2), keepdims=True), rtol=0, atol=1e-6
    )
    wide = 3 * x
    swish = np.select([wide <= -3, wide >= 3], [0, wide], wide * (wide + 3) / 6)
    np.testing.assert_allclose(run_one("HARD_SWISH", wide), swish, rtol=0, atol=2e-6)
    np.testing.assert_allclose(run_one("LOGISTIC", x), 1 / (1 + np.exp(-x)), rtol=0, atol=1e-6)
    padded = run_one("PAD", x, amounts=[[0, 0], [1, 0], [0, 2], [0, 3]])
    np.testing.assert_array_equal(padded, np.pad(x, [(0, 0), (1, 0), (0, 2), (0, 3)]))
