"""Check that a checkpoint's layers compute what ours compute, which shapes alone do not tell."""

from __future__ import annotations

import math
from typing import Any

from convert_weights.array_pickle import CheckpointError, printable
from convert_weights.pickle_reader import Record
from eg3d_jax.config import GeneratorConfig
from eg3d_jax.stylegan2 import MAPPING_LR_MUL


def check_layers(generator: Record, config: GeneratorConfig) -> None:
    """Compare the attributes that the pickled layers carry with this implementation's behaviour.

    Args:
      generator: the record `G_ema`.
      config: derived from it.

    Raises:
      CheckpointError: naming the first layer that would compute something else.
    """
    mapping = generator.module("backbone.mapping")
    for name, layer in mapping.modules.items():
        fc = name.startswith("fc")
        wanted = _linear(layer, MAPPING_LR_MUL if fc else 1.0, "lrelu" if fc else "linear")
        _compare(f"backbone.mapping.{name}", layer, wanted)
    _check_decoder(generator.module("decoder.net"), config)
    for side in config.block_sides:
        name = f"backbone.synthesis.b{side}"
        _check_block(name, generator.module(name), side, up=side > 4)
    side = config.superresolution.input_side
    for index, up in enumerate(config.superresolution.upsample):
        side *= 2 if up else 1
        name = f"superresolution.block{index}"
        _check_block(name, generator.module(name), side, up=up)


def _check_decoder(net: Record, config: GeneratorConfig) -> None:
    """Refuse decoders other than two linear layers with softplus between (spec eg3d 7.4)."""
    if list(net.modules) != ["0", "1", "2"]:
        found = printable(", ".join(net.modules))
        raise CheckpointError(f"its decoder.net has the layers {found}, expected 0, 1, 2")
    for index in (0, 2):
        layer = net.module(str(index))
        _compare(f"decoder.net.{index}", layer, _linear(layer, config.decoder_lr_mul, "linear"))
    activation = net.module("1")
    name = activation.class_name
    if name != "torch.nn.modules.activation.Softplus":
        raise CheckpointError(f"its decoder.net.1 is a {name}, expected a torch.nn Softplus")
    for attribute, value in (("beta", 1), ("threshold", 20)):
        if attribute not in activation.state:
            raise CheckpointError(f"its layer decoder.net.1 does not say its {attribute}")
        _compare("decoder.net.1", activation, {attribute: float(value)})


def _check_block(name: str, block: Record, side: int, *, up: bool) -> None:
    _compare(name, block, {"architecture": "skip", "resolution": side})
    for part, layer in block.modules.items():
        path = f"{name}.{part}"
        _compare(f"{path}.affine", layer.module("affine"), _linear(layer.module("affine")))
        if part != "torgb":
            _compare(
                path,
                layer,
                {
                    "activation": "lrelu",
                    "act_gain": math.sqrt(2),
                    "up": 2 if up and part == "conv0" else 1,
                    "resolution": side,
                    "use_noise": True,
                },
            )


def _linear(layer: Record, lr_mul: float = 1.0, activation: str = "linear") -> dict[str, Any]:
    weight = dict(layer.tensors()).get("weight")
    if weight is None or len(weight.shape) != 2:
        return {}
    gain = lr_mul / math.sqrt(max(weight.shape[1], 1))
    return {"activation": activation, "weight_gain": gain, "bias_gain": lr_mul}


def _compare(name: str, layer: Record, wanted: dict[str, Any]) -> None:
    for attribute, value in wanted.items():
        found = layer.get(attribute, value)
        if type(value) is float and type(found) in (int, float):
            same = math.isclose(found, value, rel_tol=1e-4)
        else:
            same = type(found) in (str, int, bool) and found == value
        if not same:
            shown = printable(str(found)) if type(found) in (str, int, float, bool) else "strange"
            raise CheckpointError(f"its layer {name} has {attribute} {shown}, expected {value}")
