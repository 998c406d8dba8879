"""Noise maps of the backbone that are fitted with a latent (spec inversion 2.4)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from eg3d_jax.generator import TriPlaneGenerator

# Maps by path of the layer, "backbone.blocks.1.conv0"; empty if a generator keeps its own.
NoiseMaps = dict[str, Array]

_NAME = "noise_map"


def own_noise_maps(generator: TriPlaneGenerator) -> NoiseMaps:
    """Maps [r, r] of the backbone, from which fitted ones start; super-resolution's stay.

    The authors draw new ones. The official generators' own are such a draw; a generator that was
    trained with its own, as the embedded one, has never seen others.
    """
    buffers = nnx.to_flat_state(nnx.state(generator, nnx.Not(nnx.Param)))
    return {_layer(path): jnp.asarray(v[...]) for path, v in buffers if _is_noise_map(path)}


def with_noise_maps(
    generator: TriPlaneGenerator, noise_maps: NoiseMaps | None
) -> TriPlaneGenerator:
    """Copy the generator with other noise maps; itself if none are given.

    Raises:
      ValueError: if a map belongs to no layer of the generator.
    """
    if not noise_maps:
        return generator
    graph, buffers, rest = nnx.split(generator, nnx.Not(nnx.Param), ...)
    flat, left = nnx.to_flat_state(buffers), set(noise_maps)
    replaced = []
    for path, variable in flat:
        if _is_noise_map(path) and _layer(path) in left:
            variable = variable.replace(noise_maps[_layer(path)])
            left.remove(_layer(path))
        replaced.append((path, variable))
    if left:
        raise ValueError(f"noise maps of {sorted(left)}, which the generator does not have")
    return nnx.merge(graph, nnx.from_flat_state(replaced), rest)


def standardize(noise_maps: NoiseMaps) -> NoiseMaps:
    """Scale maps to mean 0 and mean square 1, as after each step (spec inversion 2.4)."""

    def one(noise: Array) -> Array:
        noise = noise - jnp.mean(noise)
        return noise * jax.lax.rsqrt(jnp.mean(jnp.square(noise)))

    return jax.tree.map(one, noise_maps)


def _is_noise_map(path: tuple) -> bool:
    return path[0] == "backbone" and path[-1] == _NAME


def _layer(path: tuple) -> str:
    return ".".join(map(str, path[:-1]))
