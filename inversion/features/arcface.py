"""Face embeddings of the ArcFace family (arXiv:1801.07698), IR-SE-50 and IR-101.

The paper trains with one and measures with the other, so that no network is judged by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jax import Array

from inversion.features.face_crop import CROP_SIDE, identity_crop
from inversion.features.layers import Affine, Conv, PRelu, frozen

State = Mapping[str, np.ndarray]

_BATCH_NORM_EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True)
class ArcFaceConfig:
    """Sizes of the network; the defaults are those of model_ir_se50.pth.

    Attributes:
      groups: channels and number of units of each group; every group halves the side.
      side: side of the input, pixels.
      reduction: factor by which squeeze-and-excitation narrows its hidden layer; None for units
        without it.
      embedding: length of the result.
      scaled: whether the last batch norm has weights and biases of its own.
    """

    groups: tuple[tuple[int, int], ...] = ((64, 3), (128, 4), (256, 14), (512, 3))
    side: int = CROP_SIDE
    reduction: int | None = 16
    embedding: int = 512
    scaled: bool = True

    def __post_init__(self):
        if self.side % 2 ** len(self.groups):
            raise ValueError(
                f"side={self.side} cannot be halved {len(self.groups)} times, once a group"
            )

    def units(self) -> Iterator[tuple[str, int, int, int]]:
        """Prefix, input channels, output channels and stride of every unit."""
        width, i = self.groups[0][0], 0
        for channels, count in self.groups:
            for k in range(count):
                yield f"body.{i}.", width, channels, 2 if k == 0 else 1
                width, i = channels, i + 1


IR_SE_50 = ArcFaceConfig()
# CurricularFace's network, of the paper's identity similarity (spec inversion 8).
IR_101 = ArcFaceConfig(
    groups=((64, 3), (128, 13), (256, 30), (512, 3)), reduction=None, scaled=False
)


class SqueezeExcite(nnx.Module):
    """Scale each channel by a gate computed from all channel means."""

    def __init__(self, state: State, prefix: str):
        self.squeeze = frozen(_transposed(state[f"{prefix}fc1.weight"])[0, 0])
        self.excite = frozen(_transposed(state[f"{prefix}fc2.weight"])[0, 0])

    def __call__(self, x: Array) -> Array:
        """[H, W, C] -> [H, W, C]."""
        hidden = jax.nn.relu(jnp.mean(x, axis=(0, 1)) @ self.squeeze[...])
        return x * jax.nn.sigmoid(hidden @ self.excite[...])


class Unit(nnx.Module):
    """Residual bottleneck: norm, convolution, PReLU, strided convolution, norm; a gate or none."""

    def __init__(self, state: State, prefix: str, *, widen: bool, stride: int, gated: bool):
        inner = f"{prefix}res_layer."
        self.norm_in = Affine(*_batch_norm(state, f"{inner}0"))
        self.conv_in = Conv(_transposed(state[f"{inner}1.weight"]), padding=1)
        self.activation = PRelu(state[f"{inner}2.weight"])
        self.conv_out = _conv_norm(state, f"{inner}3", f"{inner}4", stride=stride, padding=1)
        self.gate = SqueezeExcite(state, f"{inner}5.") if gated else None
        self.stride = stride
        outer = f"{prefix}shortcut_layer."
        self.widen = _conv_norm(state, f"{outer}0", f"{outer}1", stride=stride) if widen else None

    def __call__(self, x: Array) -> Array:
        """[H, W, I] -> [h, w, O]."""
        y = self.activation(self.conv_in(self.norm_in(x)))
        y = self.conv_out(y)
        y = y if self.gate is None else self.gate(y)
        return y + (x[:: self.stride, :: self.stride] if self.widen is None else self.widen(x))


class ArcFace(nnx.Module):
    """Network that maps faces to points on a sphere; frozen (spec inversion 2.2 and 8)."""

    def __init__(self, state: State, config: ArcFaceConfig):
        self.config = config
        self.stem = _conv_norm(state, "input_layer.0", "input_layer.1", padding=1)
        self.stem_activation = PRelu(state["input_layer.2.weight"])
        self.units = nnx.List(
            Unit(
                state,
                prefix,
                widen=before != after,
                stride=stride,
                gated=config.reduction is not None,
            )
            for prefix, before, after, stride in config.units()
        )
        self.norm = Affine(*_batch_norm(state, "output_layer.0"))
        side, channels = config.side // 2 ** len(config.groups), config.groups[-1][0]
        weight = state["output_layer.3.weight"]
        weight = rearrange(weight, "o (i h w) -> (h w i) o", i=channels, h=side, w=side)
        self.linear = frozen(weight)
        self.linear_bias = frozen(state["output_layer.3.bias"])
        self.linear_norm = Affine(*_batch_norm(state, "output_layer.4"))

    def __call__(self, image: Array) -> Array:
        """Embedding [512], of unit length, of the face in a whole picture (see `identity_crop`)."""
        return self.embed(identity_crop(image))

    def embed(self, crop: Array) -> Array:
        """Embedding of an aligned face.

        Args:
          crop: [112, 112, 3] RGB in [-1, 1].

        Returns:
          [512], of unit length.

        Raises:
          ValueError: if the crop has another shape.
        """
        wanted = (self.config.side, self.config.side, 3)
        if crop.shape != wanted:
            raise ValueError(
                f"a face crop has shape {crop.shape}, wanted {wanted}; make it by `identity_crop`"
            )
        x = self.stem_activation(self.stem(crop))
        for unit in self.units:
            x = unit(x)
        x = self.norm(x).reshape(-1) @ self.linear[...] + self.linear_bias[...]
        x = self.linear_norm(x)
        return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x)), 1e-24))


def load_arcface(state: State, config: ArcFaceConfig | None = None) -> ArcFace:
    """Load the network from a PyTorch state dict.

    Args:
      state: arrays by the names of model_ir_se50.pth or of CurricularFace's IR-101, in PyTorch's
        layouts. Counters of batch norms ('num_batches_tracked') are ignored.
      config: sizes; if None, those of IR-SE-50 for a state with gates and of IR-101 for others.

    Raises:
      ValueError: naming what is missing, unknown or of another shape.
    """
    if config is None:
        config = IR_SE_50 if any(".fc1." in name for name in state) else IR_101
    wanted = dict(_shapes(config))
    found = {k: np.shape(v) for k, v in state.items() if not k.endswith("num_batches_tracked")}
    missing, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    misshapen = sorted(
        f"{name} {found[name]}, wanted {shape}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    )
    if missing or unknown or misshapen:
        raise ValueError(
            f"this is no state dict of IR-SE-50 or IR-101: missing {_some(missing)}; unknown "
            f"{_some(unknown)}; of another shape {_some(misshapen)}; use model_ir_se50.pth or "
            "CurricularFace's backbone"
        )
    return ArcFace(state, config)


def _some(names: list[str], count: int = 3) -> str:
    """Join names for a message, cut short."""
    more = len(names) - count
    return f"{names[:count]} and {more} more" if more > 0 else str(names)


def _shapes(config: ArcFaceConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all tensors of the state dict."""
    width = config.groups[0][0]
    yield "input_layer.0.weight", (width, 3, 3, 3)
    yield from _batch_norm_shapes("input_layer.1", width)
    yield "input_layer.2.weight", (width,)
    for prefix, before, after, _ in config.units():
        if before != after:
            yield f"{prefix}shortcut_layer.0.weight", (after, before, 1, 1)
            yield from _batch_norm_shapes(f"{prefix}shortcut_layer.1", after)
        inner = f"{prefix}res_layer."
        yield from _batch_norm_shapes(f"{inner}0", before)
        yield f"{inner}1.weight", (after, before, 3, 3)
        yield f"{inner}2.weight", (after,)
        yield f"{inner}3.weight", (after, after, 3, 3)
        yield from _batch_norm_shapes(f"{inner}4", after)
        if config.reduction is not None:
            hidden = after // config.reduction
            yield f"{inner}5.fc1.weight", (hidden, after, 1, 1)
            yield f"{inner}5.fc2.weight", (after, hidden, 1, 1)
    channels, side = config.groups[-1][0], config.side // 2 ** len(config.groups)
    yield from _batch_norm_shapes("output_layer.0", channels)
    yield "output_layer.3.weight", (config.embedding, channels * side * side)
    yield "output_layer.3.bias", (config.embedding,)
    yield from _batch_norm_shapes("output_layer.4", config.embedding, scaled=config.scaled)


def _batch_norm_shapes(
    name: str, channels: int, *, scaled: bool = True
) -> Iterator[tuple[str, tuple[int, ...]]]:
    for part in (*(("weight", "bias") if scaled else ()), "running_mean", "running_var"):
        yield f"{name}.{part}", (channels,)


def _conv_norm(state: State, conv: str, norm: str, *, stride: int = 1, padding: int = 0) -> Conv:
    """Fold a convolution and the batch norm after it into one convolution."""
    scale, shift = _batch_norm(state, norm)
    kernel = _transposed(state[f"{conv}.weight"]) * scale
    return Conv(kernel, shift, stride=stride, padding=padding)


def _batch_norm(state: State, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of a batch norm in inference, in float64."""
    mean, variance = (
        np.asarray(state[f"{name}.running_{part}"], np.float64) for part in ("mean", "var")
    )
    weight = np.asarray(state.get(f"{name}.weight", np.ones_like(mean)), np.float64)
    bias = np.asarray(state.get(f"{name}.bias", np.zeros_like(mean)), np.float64)
    scale = weight / np.sqrt(variance + _BATCH_NORM_EPSILON)
    return scale, bias - mean * scale


def _transposed(kernel: np.ndarray) -> np.ndarray:
    """Transpose PyTorch's [O, I, h, w] to [h, w, I, O]."""
    return rearrange(np.asarray(kernel), "o i h w -> h w i o")
