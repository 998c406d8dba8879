"""EG3D's state dict in PyTorch and the generator in Flax, converted both ways.

Tensors that only training used are left out by name, and no others: an unknown tensor may be part
of an unknown layer, and leaving it out would change the pictures.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from convert_weights.array_pickle import CheckpointError, printable
from convert_weights.configuration import config_from_pickle
from convert_weights.layer_semantics import check_layers
from convert_weights.pickle_reader import Record, state_tensors
from convert_weights.storages import Tensor
from eg3d_jax.config import GeneratorConfig
from eg3d_jax.generator import TriPlaneGenerator

# EG3D's training loop registers this on the generator: the deviation of the label's numbers.
_LABEL_SPREAD = "dataset_label_std"
# Counters of torch: models averaged by an AveragedModel, batches seen by a batch normalisation
# (whose other tensors are not left out, as they do take part).
_COUNTERS = ("n_averaged", "num_batches_tracked")


def split(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Separate a generator's tensors from those that only its training used.

    Args:
      tensors: all tensors by their dotted names.

    Returns:
      The tensors that belong to layers, and those that are left out.
    """
    left_out = {name: tensor for name, tensor in tensors.items() if _is_bookkeeping(name, tensor)}
    return {k: v for k, v in tensors.items() if k not in left_out}, left_out


def _is_bookkeeping(name: str, tensor: Tensor) -> bool:
    if name == _LABEL_SPREAD:
        return len(tensor.shape) == 1
    return name.rpartition(".")[2] in _COUNTERS and tensor.size == 1


FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32) / 64
_BUFFERS = ("noise_map", "w_avg")  # that training does not change by gradients
_SHARING = 4  # numbers that tensors may see in all, for each that is stored
_OPTIONAL = frozenset({"superresolution.resample_filter"})  # 8XDC has none; nobody uses it
_LISTED = 12  # names of a kind in an error message
_LINEAR, _CONV, _CONST = (1, 0), (2, 3, 1, 0), (1, 2, 0)


@dataclass(frozen=True)
class Entry:
    """One tensor of the state dict.

    Attributes:
      name: dotted name in PyTorch.
      shape: its shape there.
      path: place in the Flax generator; None for a filter, which is fixed there.
      axes: for each axis in Flax, which one of PyTorch's it is; None keeps the order.
    """

    name: str
    shape: tuple[int, ...]
    path: tuple[str | int, ...] | None
    axes: tuple[int, ...] | None = None


def _linear(name: str, path: tuple, rows: int, columns: int) -> list[Entry]:
    return [
        Entry(f"{name}.weight", (rows, columns), (*path, "kernel"), _LINEAR),
        Entry(f"{name}.bias", (rows,), (*path, "bias")),
    ]


def _conv(name: str, path: tuple, config: GeneratorConfig, i: int, o: int, side: int):
    return [
        Entry(f"{name}.weight", (o, i, 3, 3), (*path, "kernel"), _CONV),
        Entry(f"{name}.noise_strength", (), (*path, "noise_strength")),
        Entry(f"{name}.bias", (o,), (*path, "bias")),
        Entry(f"{name}.resample_filter", FILTER.shape, None),
        Entry(f"{name}.noise_const", (side, side), (*path, "noise_map")),
        *_linear(f"{name}.affine", (*path, "affine"), i, config.w_dim),
    ]


def _block(
    name: str, path: tuple, config: GeneratorConfig, i: int | None, o: int, image: int, side: int
) -> list[Entry]:
    """A block of a synthesis network; the first one (`i` is None) begins with a constant."""
    entries = [Entry(f"{name}.resample_filter", FILTER.shape, None)]
    if i is None:
        entries.insert(0, Entry(f"{name}.const", (o, side, side), (*path[:-2], "const"), _CONST))
    else:
        entries += _conv(f"{name}.conv0", (*path, "conv0"), config, i, o, side)
    return [
        *entries,
        *_conv(f"{name}.conv1", (*path, "conv1"), config, o, o, side),
        Entry(f"{name}.torgb.weight", (image, o, 1, 1), (*path, "to_rgb", "kernel"), _CONV),
        Entry(f"{name}.torgb.bias", (image,), (*path, "to_rgb", "bias")),
        *_linear(f"{name}.torgb.affine", (*path, "to_rgb", "affine"), o, config.w_dim),
    ]


def name_table(config: GeneratorConfig) -> list[Entry]:
    """List every tensor that EG3D's state dict has for a configuration, in its order."""
    table: list[Entry] = []
    image, channels = config.num_planes * config.plane_features, None
    for k, side in enumerate(config.block_sides):
        name, path, out = f"backbone.synthesis.b{side}", ("backbone", "blocks", k), config.channels
        table += _block(name, path, config, channels, out(side), image, side)
        channels = out(side)
    table.append(Entry("backbone.mapping.w_avg", (config.w_dim,), ("mapping", "w_avg")))
    if config.c_dim:
        embed = ("mapping", "embed")
        table += _linear("backbone.mapping.embed", embed, config.w_dim, config.c_dim)
    features = config.z_dim + (config.w_dim if config.c_dim else 0)
    for k in range(config.mapping_layers):
        path = ("mapping", "layers", k)
        table += _linear(f"backbone.mapping.fc{k}", path, config.w_dim, features)
        features = config.w_dim
    table += _superresolution(config)
    hidden, planes = config.decoder_hidden, config.plane_features
    table += _linear("decoder.net.0", ("decoder", "hidden"), hidden, planes)
    table += _linear("decoder.net.2", ("decoder", "output"), 1 + planes, hidden)
    return table


def _superresolution(config: GeneratorConfig) -> list[Entry]:
    network, channels = config.superresolution, config.plane_features
    table, side = [], network.input_side
    if network.channels != (256, 128):
        table.append(Entry("superresolution.resample_filter", FILTER.shape, None))
    for k, (out, up) in enumerate(zip(network.channels, network.upsample, strict=True)):
        side *= 2 if up else 1
        path = ("superresolution", "blocks", k)
        table += _block(f"superresolution.block{k}", path, config, channels, out, 3, side)
        channels = out
    return table


def count_parameters(config: GeneratorConfig) -> tuple[int, int]:
    """Count the trained tensors of the state dict, and the numbers in them."""
    sizes = [
        math.prod(entry.shape)
        for entry in name_table(config)
        if entry.path is not None and entry.path[-1] not in _BUFFERS
    ]
    return len(sizes), sum(sizes)


def expected_tensors(config: GeneratorConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of EG3D's state dict for a configuration (spec eg3d 1.3)."""
    return {entry.name: entry.shape for entry in name_table(config)}


def check_tensors(config: GeneratorConfig, state: Mapping[str, Any]) -> None:
    """Compare a state dict, by names and shapes alone, with what the configuration wants.

    Raises:
      CheckpointError: listing what is missing, what is unexpected and what has a wrong shape.
    """
    wanted = expected_tensors(config)
    missing = [name for name in wanted if name not in state and name not in _OPTIONAL]
    unexpected = [name for name in state if name not in wanted and name not in _OPTIONAL]
    shapes = {name: tuple(state[name].shape) for name in wanted if name in state}
    differ = [
        f"{name} is {list(shape)}, wanted {list(wanted[name])}"
        for name, shape in shapes.items()
        if shape != wanted[name]
    ]
    found = {"missing": missing, "unexpected": unexpected, "of wrong shape": differ}
    parts = [f"{kind}: {_listed(names)}" for kind, names in found.items()]
    if missing or unexpected or differ:
        raise CheckpointError("its tensors do not fit its configuration; " + "; ".join(parts))


def _listed(names: list[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:_LISTED]) or "none"
    return shown + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def load_torch_state(config: GeneratorConfig, state: Mapping[str, Any]) -> TriPlaneGenerator:
    """Build the generator from PyTorch-named arrays.

    Args:
      config: fixes names and shapes.
      state: array of every name of `expected_tensors`; `superresolution.resample_filter` may be
        left out.

    Raises:
      CheckpointError: if the state does not fit, or a filter is not [1, 3, 3, 1].
    """
    check_tensors(config, state)
    for name, value in state.items():
        if name.endswith("resample_filter") and not np.array_equal(np.asarray(value), FILTER):
            raise CheckpointError(f"its filter {name} is not [1, 3, 3, 1], the only one known")
    model = nnx.eval_shape(lambda: TriPlaneGenerator(config, rngs=nnx.Rngs(0)))
    graph, abstract = nnx.split(model)
    places = dict(nnx.to_flat_state(abstract))
    filled: dict[tuple, Any] = {}
    for entry in name_table(config):
        if entry.path is None:
            continue
        value = np.asarray(state[entry.name], np.float32)
        value = value if entry.axes is None else value.transpose(entry.axes)
        if entry.path in filled or places[entry.path].shape != value.shape:
            raise ValueError(f"the table does not fit the generator at {entry.path}")
        filled[entry.path] = places[entry.path].replace(jnp.asarray(np.array(value, order="C")))
    if filled.keys() != places.keys():
        raise ValueError(f"no tensor fills {sorted(places.keys() - filled.keys(), key=str)}")
    return nnx.merge(graph, nnx.from_flat_state(filled))


def to_torch_state(generator: TriPlaneGenerator) -> dict[str, np.ndarray]:
    """The generator's arrays by their PyTorch names, in the order of its state dict."""
    values = dict(nnx.to_flat_state(nnx.state(generator)))
    state = {}
    for entry in name_table(generator.config):
        if entry.path is None:
            state[entry.name] = FILTER
        else:
            value = np.asarray(values[entry.path][...])
            state[entry.name] = (
                value if entry.axes is None else value.transpose(np.argsort(entry.axes))
            )
    return state


def read_generator(
    tree: Mapping[str, Any], *, focal: float | None = None
) -> tuple[GeneratorConfig, dict[str, np.ndarray]]:
    """Read configuration and arrays of the generator `G_ema` from a tree of `read_pickle`.

    Args:
      tree: from `read_pickle`.
      focal: see `config_from_pickle`.

    Returns:
      The configuration, and every array of the state dict, in its order, as read-only views; what
      training left beside them (see `left_out`) is missing.

    Raises:
      CheckpointError: if the configuration is unknown or the tensors do not fit it.
    """
    record: Record = tree["G_ema"]
    tensors, _ = split(state_tensors(record))  # first: it refuses modules that are shared
    config = config_from_pickle(record.unwrapped(), focal=focal)
    check_tensors(config, tensors)
    check_layers(record, config)
    check_sharing(tensors.values())
    return config, {name: _floats(name, tensor) for name, tensor in tensors.items()}


def left_out(tree: Mapping[str, Any]) -> list[str]:
    """List names and shapes of the tensors that `read_generator` leaves out of such a tree."""
    _, found = split(state_tensors(tree["G_ema"]))
    return [f"{printable(name)} {list(tensor.shape)}" for name, tensor in found.items()]


def check_sharing(tensors: Collection[Tensor]) -> None:
    """Refuse views of one storage that are out of proportion to the file once written out.

    Raises:
      CheckpointError: if together they are several times as large as their storages.
    """
    stored = {id(tensor.storage): tensor.storage.num_elements for tensor in tensors}
    # A generator's filters, 16 numbers each, may all be one.
    if sum(tensor.size for tensor in tensors) > _SHARING * sum(stored.values()) + (1 << 16):
        raise CheckpointError("it is malformed: its tensors share storages again and again")


def _floats(name: str, tensor: Tensor) -> np.ndarray:
    array = tensor.numpy()
    if array.dtype.kind != "f" or not math.isfinite(float(np.abs(array).max(initial=0))):
        raise CheckpointError(f"its tensor {name} holds something other than finite numbers")
    return array
