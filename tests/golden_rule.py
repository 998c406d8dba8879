"""Weights and inputs of the golden fixtures, which are defined by rule instead of stored.

Also the comparison with fixtures that are stored reduced. See tests/golden/README.md.
"""

import functools
import json
import zlib
from pathlib import Path

import numpy as np

from eg3d_jax.config import SUPERRESOLUTION_VARIANTS, GeneratorConfig, RenderConfig

GOLDEN = Path(__file__).parent / "golden"
FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32) / 64


@functools.cache
def load(name: str) -> dict[str, np.ndarray]:
    """All arrays of a fixture file."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return dict(arrays)


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The rule's value of one tensor of the PyTorch state dict."""
    if name.endswith("resample_filter"):
        return FILTER
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    a = np.asarray(rng.standard_normal(shape), np.float32)
    if name.endswith(".affine.bias"):
        a = np.float32(0.1) * a + 1
    elif ".mapping.fc" in name and name.endswith(".weight"):
        a = 100 * a
    elif ".mapping.fc" in name and name.endswith(".bias"):
        a = 10 * a
    elif name.endswith((".bias", ".noise_strength", ".w_avg")):
        a = np.float32(0.1) * a
    if name.endswith("decoder.net.2.weight"):
        a[0] = 10 * (a[0] - a[0].mean())
    if name.endswith("decoder.net.2.bias"):
        a[0] += 3
    return np.asarray(a, np.float32)


def normal(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """An input array by rule, standard normal."""
    return np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)


def uniform(key: str, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """An input array by rule, uniform."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    return (low + (high - low) * rng.random(shape)).astype(np.float32)


def generator_config(name: str) -> GeneratorConfig:
    """The named configuration of configs.json."""
    entry = json.loads((GOLDEN / "configs.json").read_text())[name]
    kwargs, side = entry["kwargs"], entry["neural_rendering_resolution"]
    options = kwargs["rendering_kwargs"]
    variant = options["superresolution_module"].removeprefix(
        "training.superresolution.SuperresolutionHybrid"
    )
    return GeneratorConfig(
        z_dim=kwargs["z_dim"],
        w_dim=kwargs["w_dim"],
        mapping_layers=kwargs["mapping_kwargs"]["num_layers"],
        c_scale=options["c_scale"],
        c_zero=options["c_gen_conditioning_zero"],
        channel_base=kwargs["channel_base"],
        channel_max=kwargs["channel_max"],
        neural_side=side,
        render=RenderConfig(),
        superresolution=SUPERRESOLUTION_VARIANTS[variant],
    )


def largest_difference(fixture: dict[str, np.ndarray], key: str, actual: np.ndarray) -> float:
    """Largest |difference| to a fixture, stored whole or reduced (strided, corners, statistics).

    Args:
      fixture: arrays of one file.
      key: name without the suffix of a reduction.
      actual: [N, C, H, W], in PyTorch's layout.
    """
    if key in fixture:
        assert fixture[key].shape == actual.shape, (key, fixture[key].shape, actual.shape)
        return float(np.abs(fixture[key] - actual).max())
    (strided,) = [name for name in fixture if name.startswith(f"{key}.strided")]
    stride = int(strided.removeprefix(f"{key}.strided"))
    statistics = [actual.mean(dtype=np.float64), actual.std(dtype=np.float64), np.abs(actual).max()]
    pairs = [
        (fixture[strided], actual[..., ::stride, ::stride]),
        (fixture[f"{key}.corner_tl"], actual[..., :4, :4]),
        (fixture[f"{key}.corner_br"], actual[..., -4:, -4:]),
        (fixture[f"{key}.stats"], np.asarray(statistics)),
    ]
    for want, got in pairs:
        assert want.shape == got.shape, (key, want.shape, got.shape)
    return max(float(np.abs(want - got).max()) for want, got in pairs)
