"""Generators as the commands load them, and what they need to know of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
from flax import nnx
from jax import Array

from convert_weights.conversion import Conversion, convert_checkpoint
from eg3d_jax import checkpoint
from eg3d_jax.cameras import to_label
from eg3d_jax.generator import TriPlaneGenerator
from eg3d_jax.safe_pickle import CheckpointError
from experiments.errors import InputError
from inversion.latents import WStatistics, w_statistics

# What the commands call the generator that comes along, in place of a folder.
EMBEDDED = Path("embedded")
_HEADS = Path(checkpoint.__file__).parent / "pretrained" / "heads128"


def load_generator(folder: Path) -> tuple[TriPlaneGenerator, dict]:
    """A checkpoint folder's generator and metadata; those that come along for `EMBEDDED`."""
    try:
        return checkpoint.load(_HEADS if folder == EMBEDDED else folder)
    except ValueError as error:
        raise InputError(str(error)) from None


def ray_range(generator: TriPlaneGenerator) -> tuple[float, float] | None:
    """Distances between which the generator samples rays, or None if it takes them from its box."""
    render = generator.config.render
    if render.ray_start is None or render.ray_end is None:
        return None
    return render.ray_start, render.ray_end


def with_finer_rays(generator: TriPlaneGenerator, factor: int) -> TriPlaneGenerator:
    """The generator with `factor` times as many samples along each ray, both passes."""
    render = generator.config.render
    finer = dataclasses.replace(
        render,
        coarse_samples=factor * render.coarse_samples,
        fine_samples=factor * render.fine_samples,
    )
    copy = nnx.merge(*nnx.split(generator))
    copy.config = dataclasses.replace(generator.config, render=finer)
    return copy


def convert_pickle(path: Path) -> Conversion:
    """A PyTorch checkpoint's generator, and its source; nothing of it is executed."""
    try:
        return convert_checkpoint(path)
    except CheckpointError as error:
        raise InputError(str(error)) from None


def frontal_mapping(generator: TriPlaneGenerator) -> Callable[[Array], Array]:
    """The map of z [n, z_dim] to w [n, D] under the frontal camera, not truncated."""
    label = to_label(generator.frontal_camera()) if generator.config.c_dim else None
    return lambda z: generator.mapping(z, label)


def mean_latent(generator: TriPlaneGenerator) -> WStatistics:
    """W statistics under the frontal camera (spec inversion 1.3)."""
    return w_statistics(frontal_mapping(generator), generator.config.z_dim)


def disk_bytes(generator: TriPlaneGenerator, methods: int) -> int:
    """Disk space of a run: two states of parameters and moments a method, and the result."""
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(generator))
    return size * (6 * methods + 2) + 50 * 2**20
