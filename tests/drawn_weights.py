"""Generators of any configuration whose weights are drawn by NumPy: JAX takes seconds to do so."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from eg3d_jax.config import GeneratorConfig, SuperResolutionConfig, tiny
from eg3d_jax.generator import TriPlaneGenerator

# The smallest whose pictures, of 32 pixels, LPIPS can see: tests of commands compile its steps.
VISIBLE = dataclasses.replace(
    tiny(),
    plane_side=8,
    superresolution=SuperResolutionConfig(input_side=16, channels=(8, 8), upsample=(False, True)),
)


def drawn_generator(config: GeneratorConfig, seed: int = 4) -> TriPlaneGenerator:
    """What `TriPlaneGenerator(config, rngs=nnx.Rngs(seed))` is, with other numbers.

    Densities of the usual ones of `VISIBLE` lie to both sides of zero, where it has a surface.
    """
    rng = np.random.default_rng(seed)
    params = SimpleNamespace(normal=lambda shape: rng.standard_normal(shape, np.float32))
    rngs: Any = SimpleNamespace(params=params)
    return jax.device_put(TriPlaneGenerator(config, rngs=rngs))
