"""Generators of any configuration whose weights are drawn by NumPy: JAX takes seconds to do so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from eg3d_jax.config import GeneratorConfig
from eg3d_jax.generator import TriPlaneGenerator


def drawn_generator(config: GeneratorConfig, seed: int = 0) -> TriPlaneGenerator:
    """What `TriPlaneGenerator(config, rngs=nnx.Rngs(seed))` is, with other numbers."""
    rng = np.random.default_rng(seed)
    params = SimpleNamespace(normal=lambda shape: rng.standard_normal(shape, np.float32))
    rngs: Any = SimpleNamespace(params=params)
    return jax.device_put(TriPlaneGenerator(config, rngs=rngs))
