"""Our side of the comparison, with the outputs in PyTorch's layouts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jax import Array

from eg3d_jax.cameras import from_label
from eg3d_jax.generator import Renders, TriPlaneGenerator
from eg3d_jax.rays import RayDraws
from experiments.crosscheck.comparison import Side
from experiments.crosscheck.inputs import Arrays
from experiments.crosscheck.torch_side import peak_memory


@jax.jit
def _map(generator: TriPlaneGenerator, z: Array, condition: Array) -> Array:
    return generator.map_to_ws(z, from_label(condition))


@jax.jit
def _planes(generator: TriPlaneGenerator, ws: Array) -> Array:
    """Flatten planes to [N * C, P, P], one after another in the channels."""
    return rearrange(generator.tri_planes(ws), "n h w c -> (n c) h w")


def _synthesize(
    generator: TriPlaneGenerator,
    ws: Array,
    label: Array,
    draws: RayDraws,
    rays_at_once: int | None,
) -> Renders:
    side = math.isqrt(draws.jitter.shape[0])
    return generator.synthesize(
        ws, from_label(label), side=side, draws=draws, rays_at_once=rays_at_once
    )


def _loss(ws: Array, generator: TriPlaneGenerator, *arguments: Any) -> Array:
    out = _synthesize(generator, ws, *arguments)
    return jnp.mean(jnp.square(out.image)) + jnp.mean(out.depth)


_forward = jax.jit(_synthesize, static_argnames="rays_at_once")
_gradient = jax.jit(jax.grad(_loss), static_argnums=4)


def compute(
    generator: TriPlaneGenerator, inputs: Arrays, *, rays_at_once: int | None = None
) -> Side:
    """Compute all stages, as `torch_side.compute` does.

    Args:
      generator: converted from the same checkpoint.
      inputs: from `make_inputs`.
      rays_at_once: bounds memory, see `render_rays`.
    """
    seconds: dict[str, list[float]] = {"forward": [], "gradient": []}
    latents, cameras = [], []
    with jax.default_matmul_precision("highest"):
        for z in inputs["z"]:
            ws = _map(generator, z, inputs["condition"])
            latents.append({"ws": ws, "planes": _planes(generator, ws)})
            for camera, label in enumerate(inputs["labels"]):
                draws = RayDraws(
                    jitter=jnp.asarray(inputs["jitter"][camera]), u=jnp.asarray(inputs["u"][camera])
                )
                out = _timed(
                    seconds["forward"], _forward, generator, ws, label, draws, rays_at_once
                )
                gradient = _timed(
                    seconds["gradient"], _gradient, ws, generator, label, draws, rays_at_once
                )
                cameras.append(
                    {
                        "raw": rearrange(out.raw, "h w c -> c h w"),
                        "depth": out.depth[None],
                        "image": rearrange(out.image, "h w c -> c h w"),
                        "gradient": gradient,
                    }
                )
    axes = len(inputs["z"]), len(inputs["labels"])
    views = {name: x.reshape(*axes, *x.shape[1:]) for name, x in _stacked(cameras).items()}
    memory = {"host": peak_memory()}
    device = jax.devices()[0]
    if statistics := device.memory_stats():
        memory["device"] = statistics["peak_bytes_in_use"]
    return Side(
        arrays=_stacked(latents) | views,
        seconds=seconds,
        memory=memory,
        version=jax.__version__,
        device=device.device_kind,
    )


def _timed(seconds: list[float], function: Callable, *arguments: Any) -> Any:
    started = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    seconds.append(time.perf_counter() - started)
    return result


def _stacked(parts: Sequence[dict[str, Array]]) -> Arrays:
    return {name: np.stack([np.asarray(part[name]) for part in parts]) for name in parts[0]}
