"""Convolutional parts of AlexNet and VGG16, whose activations LPIPS compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from flax import nnx
from jax import Array

from inversion.features.layers import Conv, max_pool, require_shapes

Weights = Sequence[Mapping[str, np.ndarray]]

# Kernel sides and output channels of the convolutions, in order; the input has three channels.
_ALEXNET = ((11, 64), (5, 192), (3, 384), (3, 256), (3, 256))
_VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class AlexNet(nnx.Module):
    """Five convolutions; the smallest image has 31 pixels a side."""

    min_side = 31
    num_convs = len(_ALEXNET)
    head_channels = (64, 192, 384, 256, 256)

    def __init__(self, weights: Weights):
        _check(weights, _ALEXNET, "AlexNet")
        strides, paddings = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1)
        self.convs = nnx.List(
            Conv(w["kernel"], w["bias"], stride=stride, padding=padding)
            for w, stride, padding in zip(weights, strides, paddings, strict=True)
        )

    def __call__(self, x: Array) -> list[Array]:
        """[H, W, 3], normalised -> the five activations [h, w, C] after their ReLU."""
        out = []
        for i, conv in enumerate(self.convs):
            if i in (1, 2):
                x = max_pool(x, size=3, stride=2)
            x = jax.nn.relu(conv(x))
            out.append(x)
        return out


class Vgg16(nnx.Module):
    """Thirteen convolutions in five stages; the smallest image has 16 pixels a side."""

    min_side = 16
    num_convs = sum(len(stage) for stage in _VGG16_STAGES)
    head_channels = tuple(stage[-1] for stage in _VGG16_STAGES)

    def __init__(self, weights: Weights):
        channels = [c for stage in _VGG16_STAGES for c in stage]
        _check(weights, [(3, c) for c in channels], "VGG16")
        self.convs = nnx.List(Conv(w["kernel"], w["bias"], padding=1) for w in weights)

    def __call__(self, x: Array) -> list[Array]:
        """[H, W, 3], normalised -> relu1_2, 2_2, 3_3, 4_3, 5_3, each [h, w, C]."""
        out, convs = [], iter(self.convs)
        for i, stage in enumerate(_VGG16_STAGES):
            if i:
                x = max_pool(x, size=2, stride=2)
            for _ in stage:
                x = jax.nn.relu(next(convs)(x))
            out.append(x)
        return out


def _check(weights: Weights, layers: Sequence[tuple[int, int]], name: str) -> None:
    inputs = [3] + [channels for _, channels in layers[:-1]]
    wanted = [(size, size, i, o) for (size, o), i in zip(layers, inputs, strict=True)]
    require_shapes([w["kernel"].shape for w in weights], wanted, f"{name} (kernels)")
    require_shapes(
        [w["bias"].shape for w in weights], [(s[-1],) for s in wanted], f"{name} (biases)"
    )
