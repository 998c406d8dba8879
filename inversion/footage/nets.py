"""MediaPipe's nets, run by JAX: two find faces, one lays a mesh on a face, one finds people.

The networks are BlazeFace (arXiv:1907.05047), for faces near the camera and for the full range,
Face Mesh (arXiv:1907.06724) and the segmentation of selfies. `convert_weights.face_nets` reads them
out of TensorFlow Lite's files; see data/NOTICE.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_PACKAGE = "inversion.footage"
# As a kernel lies in the file, and pictures.
_LAYOUT = ("NHWC", "HWIO", "NHWC")


@dataclass(frozen=True, eq=False)
class Graph:
    """A network without its numbers; compared by identity, so that a program is compiled once.

    Attributes:
      side: of the pictures it takes, pixels.
      operators: in order; each has its kind, the numbers of its inputs and output, and options.
      input: number of the tensor that is the pictures.
      outputs: numbers of the tensors it returns.
    """

    side: int
    operators: tuple[Mapping[str, Any], ...]
    input: int
    outputs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Net:
    """A network with its numbers. The first call of each batch size compiles it.

    Attributes:
      graph: what it computes.
      constants: float32 arrays by number of tensor.
    """

    graph: Graph
    constants: Mapping[int, Array]

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run the network.

        Args:
          images: [B, side, side, 3], in the range that the network was made for.

        Returns:
          Its outputs, float32, each with a leading B.

        Raises:
          ValueError: if the shape is another.
        """
        side = self.graph.side
        if images.ndim != 4 or images.shape[1:] != (side, side, 3):
            raise ValueError(
                f"pictures for the net have shape {images.shape}, wanted [B, {side}, {side}, 3]"
            )
        return tuple(np.asarray(x) for x in _run(self.graph, self.constants, images))


@dataclass(frozen=True, eq=False)
class FaceNets:
    """The networks that landmarks need; weights of Google, Apache-2.0.

    Attributes:
      short_range: finds faces of about a fifth of the picture and more; 128 px in [-1, 1]; for
        each of 896 anchors 16 numbers and a score before the sigmoid.
      full_range: finds smaller ones too; 192 px in [-1, 1]; the same for 2304 anchors.
      mesh: 192 px in [0, 1]; 468 points x, y, z in pixels of its input, and presence before the
        sigmoid.
    """

    short_range: Net
    full_range: Net
    mesh: Net


@functools.cache
def load_face_nets() -> FaceNets:
    """Load the networks of faces that ship with the package; the same object each time."""
    arrays = _arrays("face_nets.npz")
    return FaceNets(*(_net(arrays, name) for name in ("short_range", "full_range", "mesh")))


@functools.cache
def load_person_net() -> Net:
    """Load the network that finds people; the same object each time.

    Pictures have 256 px in [0, 1]; its output [B, 256, 256, 1] is the probability of a person.
    """
    return _net(_arrays("person_net.npz"), "person")


def _arrays(name: str) -> dict[str, np.ndarray]:
    with resources.files(_PACKAGE).joinpath("data", name).open("rb") as file:
        return dict(np.load(file, allow_pickle=False))


def _net(arrays: Mapping[str, np.ndarray], name: str) -> Net:
    described = json.loads(arrays[f"{name}.graph"].tobytes())
    numbers = arrays[f"{name}.numbers"].astype(np.float32)
    constants = {
        int(index): numbers[start : start + math.prod(shape)].reshape(shape)
        for index, (start, shape) in described["constants"].items()
    }
    graph = Graph(
        described["side"],
        tuple(described["operators"]),
        described["input"],
        tuple(described["outputs"]),
    )
    return Net(graph, jax.device_put(constants))


@functools.partial(jax.jit, static_argnums=0)
def _run(graph: Graph, constants: Mapping[int, Array], images: Array) -> tuple[Array, ...]:
    return run_graph(graph, constants, images)


def run_graph(graph: Graph, constants: Mapping[int, Array], images: Array) -> tuple[Array, ...]:
    """Compute a network operator by operator, as TensorFlow Lite does.

    Args:
      graph: the network.
      constants: its numbers by number of tensor, float32.
      images: float32 [B, side, side, 3].

    Returns:
      The outputs of the graph, float32, each with a leading B.
    """
    tensors = {**constants, graph.input: jnp.asarray(images, jnp.float32)}
    for operator in graph.operators:
        inputs = [tensors[index] for index in operator["inputs"]]
        tensors[operator["output"]] = _OPERATORS[operator["kind"]](operator, *inputs)
    return tuple(tensors[index] for index in graph.outputs)


def _strides(operator: Mapping[str, Any]) -> tuple[int, int]:
    return operator["stride_y"], operator["stride_x"]


def _conv(operator: Mapping[str, Any], x: Array, kernel: Array, bias: Array) -> Array:
    y = jax.lax.conv_general_dilated(
        x,
        kernel,
        _strides(operator),
        operator["padding"],
        dimension_numbers=_LAYOUT,
        # GPUs would else take half of the digits away.
        precision=jax.lax.Precision.HIGHEST,
    )
    return y + bias.reshape(1, 1, 1, -1)


def _depthwise(operator: Mapping[str, Any], x: Array, kernel: Array, bias: Array) -> Array:
    """A sum of shifted products: XLA's grouped convolution takes 8 to 16 times as long on CPUs."""
    height, width = kernel.shape[:2]
    rows, columns = _strides(operator)
    pads = jax.lax.padtype_to_pads(
        x.shape[1:3], (height, width), (rows, columns), operator["padding"]
    )
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    # The last cell that each shift begins with a whole kernel after it.
    end_y, end_x = padded.shape[1] - height + 1, padded.shape[2] - width + 1
    y = jnp.broadcast_to(bias.reshape(1, 1, 1, -1), (1, 1, 1, kernel.shape[2]))
    for i in range(height):
        for j in range(width):
            shifted = padded[:, i : i + end_y : rows, j : j + end_x : columns]
            y = y + shifted * kernel[i, j].reshape(1, 1, 1, -1)
    return y


def _transpose_conv(operator: Mapping[str, Any], x: Array, kernel: Array, bias: Array) -> Array:
    """Each pixel becomes a block as large as the kernel; blocks do not overlap."""
    del operator  # whose strides are the kernel's sides
    batch, rows, columns, _ = x.shape
    height, width, _, channels = kernel.shape
    y = jnp.einsum("brci,hwio->brhcwo", x, kernel, precision=jax.lax.Precision.HIGHEST)
    return y.reshape(batch, rows * height, columns * width, channels) + bias.reshape(1, 1, 1, -1)


def _mean(operator: Mapping[str, Any], x: Array) -> Array:
    del operator  # whose window is the whole picture
    return jnp.mean(x, axis=(1, 2), keepdims=True)


def _max_pool(operator: Mapping[str, Any], x: Array) -> Array:
    window = (1, operator["height"], operator["width"], 1)
    strides = (1, *_strides(operator), 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, operator["padding"])


def _prelu(_: Mapping[str, Any], x: Array, slope: Array) -> Array:
    return jnp.where(x > 0, x, x * slope.reshape(1, 1, 1, -1))


def _concatenate(operator: Mapping[str, Any], *inputs: Array) -> Array:
    return jnp.concatenate(inputs, axis=operator["axis"])


def _reshape(operator: Mapping[str, Any], x: Array) -> Array:
    return x.reshape(x.shape[0], *operator["shape"])  # the file's batch is one


def _resize(operator: Mapping[str, Any], x: Array) -> Array:
    height, width, channels = operator["shape"]
    return jax.image.resize(x, (x.shape[0], height, width, channels), "bilinear")


_OPERATORS: dict[str, Callable[..., Array]] = {
    "ADD": lambda _, x, y: x + y,
    "AVERAGE_POOL_2D": _mean,
    "CONCATENATION": _concatenate,
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "HARD_SWISH": lambda _, x: x * jnp.clip(x + 3, 0, 6) / 6,
    "LOGISTIC": lambda _, x: jax.nn.sigmoid(x),
    "MAX_POOL_2D": _max_pool,
    "MUL": lambda _, x, y: x * y,
    "PAD": lambda operator, x: jnp.pad(x, operator["amounts"]),
    "PRELU": _prelu,
    "RELU": lambda _, x: jnp.maximum(x, 0),
    "RESHAPE": _reshape,
    "RESIZE_BILINEAR": _resize,
    "TRANSPOSE_CONV": _transpose_conv,
}
