"""Writes checkpoints in the layout of the official ones (spec eg3d 11), without torch."""

import math
from typing import Any

import numpy as np
from pickle_operations import Call, Global, Instance, dumps

from convert_weights.generator import FILTER, name_table
from eg3d_jax.config import GeneratorConfig, RenderConfig, SuperResolutionConfig

SOURCE = "raise RuntimeError('the source text in the file was executed')"
BUFFERS = ("resample_filter", "noise_const", "w_avg")


def state_dict(config: GeneratorConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Random arrays of every tensor."""
    rng = np.random.default_rng(seed)
    return {
        entry.name: FILTER
        if entry.path is None
        else np.asarray(rng.standard_normal(entry.shape), np.float32)
        for entry in name_table(config)
    }


def class_and_attributes(path: str, config: GeneratorConfig, variant: str) -> tuple[str, dict]:
    last = path.rsplit(".", 1)[-1]
    network, _, rest = path.partition(".")
    clamp = config.superresolution.clamp if network == "superresolution" else config.conv_clamp
    side = int(path.split(".")[2][1:]) if path.startswith("backbone.synthesis.b") else 0
    if network == "superresolution" and rest:
        index = int(rest[len("block")])
        side = config.superresolution.input_side * 2 ** sum(
            config.superresolution.upsample[: index + 1]
        )
        if last == rest:
            up = config.superresolution.upsample[index]
            return "SynthesisBlock" + "NoUp" * (not up), {"architecture": "skip"}
    match last:
        case "":
            return "TriPlaneGenerator", {}
        case "superresolution":
            antialias = config.superresolution.antialias
            side = config.superresolution.input_side
            return variant, {"input_resolution": side, "sr_antialias": antialias}
        case "synthesis":
            features = config.num_planes * config.plane_features
            return "SynthesisNetwork", {
                "img_resolution": config.plane_side,
                "img_channels": features,
            }
        case "conv0" | "conv1":
            return "SynthesisLayer", {
                "conv_clamp": clamp,
                "activation": "lrelu",
                "up": 2 if last == "conv0" and _block_up(path, config) else 1,
                "resolution": side,
                "act_gain": math.sqrt(2),
            }
        case "torgb":
            return "ToRGBLayer", {"conv_clamp": clamp}
        case "renderer":
            axes = np.asarray(config.plane_axes, np.float32)
            return "training.volumetric_rendering.renderer.ImportanceRenderer", {"plane_axes": axes}
        case "decoder":
            return "training.triplane.OSGDecoder", {"hidden_dim": config.decoder_hidden}
        case "net":
            return "torch.nn.modules.container.Sequential", {}
        case "1":
            return "torch.nn.modules.activation.Softplus", {"beta": 1.0, "threshold": 20.0}
        case "mapping":
            return "MappingNetwork", {"num_layers": config.mapping_layers}
        case "backbone":
            return "Generator", {}
        case _:
            if last.startswith("fc"):
                return "FullyConnectedLayer", {"bias_gain": 0.01, "activation": "lrelu"}
            return "SynthesisBlock" if side else "FullyConnectedLayer", {}


def _block_up(path: str, config: GeneratorConfig) -> bool:
    if path.startswith("superresolution"):
        return config.superresolution.upsample[int(path.split(".")[1][len("block")])]
    return True


def rendering_kwargs(config: GeneratorConfig, variant: str) -> dict:
    render = config.render
    return {
        "disparity_space_sampling": render.disparity_sampling,
        "clamp_mode": "softplus",
        "superresolution_module": f"training.superresolution.{variant}",
        "c_gen_conditioning_zero": config.c_zero,
        "c_scale": config.c_scale,
        "superresolution_noise_mode": config.superresolution.noise,
        "decoder_lr_mul": config.decoder_lr_mul,
        "sr_antialias": config.superresolution.antialias,
        "depth_resolution": render.coarse_samples,
        "depth_resolution_importance": render.fine_samples,
        "ray_start": "auto" if render.ray_start is None else render.ray_start,
        "ray_end": "auto" if render.ray_end is None else render.ray_end,
        "box_warp": render.box_warp,
        "white_back": render.white_background,
        "avg_camera_radius": config.camera_radius,
        "avg_camera_pivot": list(config.camera_pivot),
    }


def generator_record(
    config: GeneratorConfig,
    state: dict[str, np.ndarray] | None = None,
    *,
    variant: str = "SuperresolutionHybrid2X",
    options: dict | None = None,
    attributes: dict[str, dict] | None = None,
) -> Call:
    """G_ema. `options` change its rendering options, `attributes` those of a module by path.

    A value of `...` deletes the entry.
    """
    state = state_dict(config) if state is None else state
    own: dict[str, dict] = {"": {}, "renderer": {}}
    for name, array in state.items():
        path, _, leaf = name.rpartition(".")
        if path == "decoder.net.2":
            own.setdefault("decoder.net.1", {})  # the activation, which has no tensors
        for depth in range(path.count(".") + 1):
            own.setdefault(".".join(path.split(".")[: depth + 1]), {})
        own.setdefault(path, {})[leaf] = array
    top = {
        "z_dim": config.z_dim,
        "c_dim": config.c_dim,
        "w_dim": config.w_dim,
        "neural_rendering_resolution": config.neural_side,
        "rendering_kwargs": _edited(rendering_kwargs(config, variant), options),
        "_init_kwargs": {"channel_base": config.channel_base, "channel_max": config.channel_max},
        "_last_planes": None,
    }

    def record(path: str) -> Any:
        children = {
            child.rpartition(".")[2]: record(child)
            for child in own
            if child and child.rpartition(".")[0] == path
        }
        kind, values = class_and_attributes(path, config, variant)
        values = _edited(values if path else top, (attributes or {}).get(path))
        state = {
            "training": False,
            "_parameters": {k: v for k, v in own[path].items() if k not in BUFFERS},
            "_buffers": {k: v for k, v in own[path].items() if k in BUFFERS},
            "_modules": children,
            **values,
        }
        if "." in kind:
            return Instance(Global(*kind.rsplit(".", 1)), state)
        meta = {
            "type": "class",
            "version": 6,
            "module_src": SOURCE,
            "class_name": kind,
            "state": state,
        }
        return Call(Global("torch_utils.persistence", "_reconstruct_persistent_obj"), (meta,))

    return record("")


def _edited(values: dict, changes: dict | None) -> dict:
    return {k: v for k, v in (values | (changes or {})).items() if v is not ...}


def checkpoint_bytes(config: GeneratorConfig, *arguments: Any, **keywords: Any) -> bytes:
    record = generator_record(config, *arguments, **keywords)
    return dumps({"G": None, "D": None, "G_ema": record, "augment_pipe": None})


def smallest() -> GeneratorConfig:
    """Smaller than `tiny`: for the fuzzer, whose time it sets."""
    return GeneratorConfig(
        z_dim=2,
        w_dim=3,
        c_dim=25,
        mapping_layers=1,
        channel_base=16,
        channel_max=2,
        plane_side=4,
        plane_features=3,
        decoder_hidden=2,
        neural_side=4,
        render=RenderConfig(coarse_samples=4, fine_samples=4),
        superresolution=SuperResolutionConfig(
            input_side=4, channels=(2, 2), upsample=(False, True)
        ),
    )
