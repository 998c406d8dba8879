"""`GeneratorConfig` of a pickled checkpoint (spec eg3d 11.2).

Values come from the objects in the file, not from the constructor arguments stored beside them:
training and inversion change attributes (`ray_start`, neural resolution) after construction.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any, cast

import numpy as np

from convert_weights.array_pickle import CheckpointError, printable
from convert_weights.pickle_reader import Record
from convert_weights.storages import Tensor
from eg3d_jax.cameras import FFHQ_FOCAL, SHAPENET_FOCAL
from eg3d_jax.config import (
    SUPERRESOLUTION_VARIANTS,
    Axes,
    GeneratorConfig,
    RenderConfig,
    SuperResolutionConfig,
)

_SR_PREFIX = "SuperresolutionHybrid"
_MISSING = object()


def config_from_pickle(generator: Record, *, focal: float | None = None) -> GeneratorConfig:
    """Derive the configuration of a pickled generator.

    Args:
      generator: the record `G_ema`.
      focal: focal length over the image side, which no checkpoint holds; None takes FFHQ's, or
        ShapeNet's for a white background seen from its orbit radius of 1.7.

    Raises:
      CheckpointError: if a value is missing, out of range or unknown to this implementation.
    """
    _check_focal(focal)
    options = generator.get("rendering_kwargs")
    if type(options) is not dict:
        raise CheckpointError(
            f"its G_ema is {_other_generator(generator)}, not EG3D's generator; give a checkpoint "
            "of EG3D, such as ffhq512-128.pkl"
        )
    _refuse_tri_grids(generator, options)
    axes = _plane_axes(generator.module("renderer"))
    render = _render(options)
    radius = _number(options.get("avg_camera_radius", 2.7), "avg_camera_radius", 1e-3, 1e3)
    if focal is None:
        shapenet = render.white_background and math.isclose(radius, 1.7)
        focal = SHAPENET_FOCAL if shapenet else FFHQ_FOCAL
    neural_side = generator.get("neural_rendering_resolution")
    try:
        return GeneratorConfig(
            **_mapping(generator, options),
            **_backbone(generator, len(axes)),
            plane_axes=axes,
            decoder_hidden=_rows(generator.module("decoder.net.0"), "decoder"),
            decoder_lr_mul=_number(options.get("decoder_lr_mul", 1), "decoder_lr_mul", 1e-6, 1e6),
            neural_side=_integer(neural_side, "neural_rendering_resolution", 1, 2048),
            render=render,
            superresolution=_superresolution(generator.module("superresolution"), options),
            camera_radius=radius,
            camera_pivot=_pivot(options.get("avg_camera_pivot", (0.0, 0.0, 0.2))),
            focal=focal,
        )
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"its configuration is impossible: {error}") from None


def _other_generator(generator: Record) -> str:
    """Name the kind of a generator without rendering options, by its parts."""
    synthesis = generator.modules.get("synthesis")
    parts = list(synthesis.modules) if synthesis else []
    if synthesis and "mapping" in generator.modules:
        if "b4" in parts:
            return "a StyleGAN2 generator of flat pictures"
        if "input" in parts or any(re.match(r"L\d+_", part) for part in parts):
            return "a StyleGAN3 generator of flat pictures"
    return f"a {generator.class_name} without rendering options"


def _refuse_tri_grids(generator: Record, options: dict[str, Any]) -> None:
    """Refuse tri-grids (PanoHead): several planes along each axis, and mostly a background."""
    depth = generator.get("triplane_depth", options.get("triplane_depth"))
    depth = depth if type(depth) is int and depth > 0 else 1
    background = [name for name in generator.modules if name.startswith(("bcg", "background"))]
    decoder = dict(generator.module("decoder.net.0").tensors()).get("weight")
    painted = generator.module("backbone.synthesis").get("img_channels")
    axes = generator.module("renderer").get("plane_axes")
    if isinstance(axes, Tensor) and decoder is not None and type(painted) is int:
        wanted = axes.shape[0] * decoder.shape[-1] if axes.shape and decoder.shape else 0
        if wanted and painted > wanted and painted % wanted == 0:
            depth = painted // wanted
    if background or depth != 1:
        raise CheckpointError(
            f"its G_ema is a generator with tri-grids ({depth} planes along each axis) or a "
            "background, such as PanoHead's, not EG3D's, which has tri-planes alone; give a "
            "checkpoint of EG3D, such as ffhq512-128.pkl"
        )


def _mapping(generator: Record, options: dict[str, Any]) -> dict[str, Any]:
    """Fields of a `GeneratorConfig` about the latents and the mapping between them."""
    names = generator.module("backbone.mapping").modules
    layers = sum(bool(re.fullmatch(r"fc\d+", name)) for name in names)
    dims = {name: _integer(generator.get(name), name, 1, 8192) for name in ("z_dim", "w_dim")}
    if type(generator.get("c_dim")) is not int or generator.get("c_dim") not in (0, 25):
        raise CheckpointError("its c_dim is neither 25, a camera label, nor 0, none")
    return dims | {
        "c_dim": generator.get("c_dim"),
        "mapping_layers": _integer(layers, "number of mapping layers", 1, 64),
        "c_scale": _number(options.get("c_scale", 0), "c_scale", -1e3, 1e3),
        "c_zero": bool(options.get("c_gen_conditioning_zero", False)),
    }


def _backbone(generator: Record, num_planes: int) -> dict[str, Any]:
    """Fields of a `GeneratorConfig` about the planes and the network that makes them."""
    synthesis = generator.module("backbone.synthesis")
    features = _integer(synthesis.get("img_channels"), "img_channels of the backbone", 1, 4096)
    if features % num_planes:
        raise CheckpointError(
            f"its {features} plane channels do not divide into {num_planes} planes"
        )
    side = _integer(synthesis.get("img_resolution"), "plane side", 4, 2048)
    arguments = generator.get("_init_kwargs")
    arguments = arguments if type(arguments) is dict else {}
    base, largest = arguments.get("channel_base", 32768), arguments.get("channel_max", 512)
    return {
        "channel_base": _integer(base, "channel_base", side, 1 << 24),
        "channel_max": _integer(largest, "channel_max", 1, 8192),
        "plane_side": side,
        "plane_features": features // num_planes,
        "conv_clamp": _clamp(synthesis, "backbone"),
    }


def _check_focal(focal: float | None) -> None:
    if focal is not None and not 0 < focal < math.inf:
        raise CheckpointError(
            f"the focal length {focal:g} is no positive number; give it over the image side, "
            f"{FFHQ_FOCAL} for FFHQ"
        )


def _integer(value: Any, name: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise CheckpointError(f"its {name} is no whole number from {low} to {high}")
    return value


def _number(value: Any, name: str, low: float, high: float) -> float:
    if type(value) not in (int, float) or not low <= value <= high:
        raise CheckpointError(f"its {name} is no number from {low:g} to {high:g}")
    return float(value)


def _rows(layer: Record, name: str) -> int:
    weight = dict(layer.tensors()).get("weight")
    if weight is None or not weight.shape:
        raise CheckpointError(f"its {name} has no weight")
    return _integer(weight.shape[0], f"{name}'s width", 1, 8192)


def _pivot(value: Any) -> tuple[float, float, float]:
    if type(value) not in (list, tuple) or len(value) != 3:
        raise CheckpointError("its avg_camera_pivot is no list of three numbers")
    x, y, z = (_number(part, "avg_camera_pivot", -1e3, 1e3) for part in value)
    return x, y, z


def _plane_axes(renderer: Record) -> tuple[Axes, ...]:
    axes = renderer.get("plane_axes")
    if not isinstance(axes, Tensor) or axes.shape[1:] != (3, 3) or not 1 <= axes.shape[0] <= 16:
        raise CheckpointError("its renderer has no plane axes of shape [planes, 3, 3]")
    matrices = axes.numpy().astype(np.float64)
    if not np.isfinite(matrices).all() or (np.abs(np.linalg.det(matrices)) < 1e-6).any():
        raise CheckpointError("its plane axes are no invertible matrices")
    return tuple(cast(Axes, tuple(map(tuple, matrix))) for matrix in matrices.tolist())


def _render(options: dict[str, Any]) -> RenderConfig:
    if options.get("clamp_mode", "softplus") != "softplus":
        raise CheckpointError("its clamp_mode is not softplus, the only one known")
    if options.get("density_noise", 0) != 0:
        raise CheckpointError("its density_noise is not 0, and no noise is added to densities here")
    limits = (options.get("ray_start"), options.get("ray_end"))
    start, end = (None, None)
    if limits != ("auto", "auto"):
        start = _number(limits[0], "ray_start", 1e-6, 1e6)
        end = _number(limits[1], "ray_end", 1e-6, 1e6)
    fine = options.get("depth_resolution_importance", 0)
    try:
        return RenderConfig(
            ray_start=start,
            ray_end=end,
            coarse_samples=_integer(options.get("depth_resolution"), "depth_resolution", 2, 4096),
            fine_samples=_integer(fine, "depth_resolution_importance", 0, 4096),
            box_warp=_number(options.get("box_warp"), "box_warp", 1e-6, 1e6),
            white_background=bool(options.get("white_back", False)),
            disparity_sampling=bool(options.get("disparity_space_sampling", False)),
        )
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"its rendering options are impossible: {error}") from None


def _superresolution(module: Record, options: dict[str, Any]) -> SuperResolutionConfig:
    name = module.class_name.rsplit(".", 1)[-1]
    variant = SUPERRESOLUTION_VARIANTS.get(name.removeprefix(_SR_PREFIX))
    dotted = options.get("superresolution_module", name)
    if variant is None or not name.startswith(_SR_PREFIX):
        known = ", ".join(_SR_PREFIX + key for key in SUPERRESOLUTION_VARIANTS)
        raise CheckpointError(f"its super-resolution module {name} is unknown (known: {known})")
    if type(dotted) is not str or dotted.rsplit(".", 1)[-1] != name:
        raise CheckpointError(
            f"its super-resolution module is a {name}, but its options name another "
            f"({printable(str(dotted)) if type(dotted) is str else 'no string'})"
        )
    noise = options.get("superresolution_noise_mode", "none")
    if noise not in ("none", "const"):
        raise CheckpointError("its superresolution_noise_mode is neither none nor const")
    blocks = [module.module(f"block{i}") for i in range(2)]
    upsample = tuple(not block.class_name.endswith("NoUp") for block in blocks)
    if upsample != variant.upsample:
        raise CheckpointError(f"the blocks of its {name} do not enlarge as that module does")
    antialias = module.get("sr_antialias", options.get("sr_antialias", False))
    side = module.get("input_resolution", variant.input_side)
    first, second = (_rows(block.module("conv1"), "super-resolution") for block in blocks)
    return dataclasses.replace(
        variant,
        input_side=_integer(side, "super-resolution's input side", 4, 1024),
        channels=(first, second),
        antialias=variant.antialias and bool(antialias),
        clamp=_clamp(module, "super-resolution"),
        noise=noise,
    )


def _clamp(network: Record, name: str) -> float | None:
    """Clamp that all layers of a network share; NoUp and ordinary blocks alike."""
    found: list[Any] = []
    for block in network.modules.values():
        for layer in block.modules.values():
            value = layer.get("conv_clamp", _MISSING)
            if value is _MISSING:
                raise CheckpointError(f"a layer of its {name} does not say how it is clamped")
            found.append(None if value is None else _number(value, "conv_clamp", 1e-6, 1e12))
    if not found or any(value != found[0] for value in found):
        raise CheckpointError(f"the layers of its {name} are clamped differently")
    return found[0]
