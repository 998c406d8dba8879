"""Many views in batches of one size, so that one compiled program serves any number of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import jax
import numpy as np
from jax import Array

from eg3d_jax.cameras import Cameras
from eg3d_jax.generator import Renders, TriPlaneGenerator
from inversion.latents import Latents
from inversion.replay import render_each, render_path

# Cameras of one call, and how many of them are rendered together.
BATCH = 12
_VIEWS_AT_ONCE = 4

_render_path = jax.jit(render_path, static_argnames="views_at_once")
_render_each = jax.jit(render_each, static_argnames="views_at_once")


def render_batches(
    generator: TriPlaneGenerator, latents: Latents, cameras: Cameras
) -> Iterator[Renders]:
    """Render from many cameras: `Renders` on the host, up to `BATCH` views at a time."""
    for index, count in _batches(len(cameras)):
        out = _render_path(generator, latents, cameras[index], views_at_once=_VIEWS_AT_ONCE)
        yield _on_host(out, count)


def render_each_in_batches(
    generator: TriPlaneGenerator, w_plus: Array, cameras: Cameras
) -> Iterator[Renders]:
    """The same for latents [T, L, D], one for each camera."""
    for index, count in _batches(len(cameras)):
        view = w_plus[index], cameras[index]
        yield _on_host(_render_each(generator, *view, views_at_once=_VIEWS_AT_ONCE), count)


def render_views(generator: TriPlaneGenerator, latents: Latents, cameras: Cameras) -> Renders:
    """Render from many cameras, on the host: `Renders` of NumPy arrays with a leading axis [T]."""
    return joined(render_batches(generator, latents, cameras))


def joined(batches: Iterable[Renders]) -> Renders:
    """Batches as one."""
    return jax.tree.map(lambda *x: np.concatenate(x), *batches)


def depth_range(renders: Renders) -> tuple[float, float]:
    """Nearest and farthest depth of what is solid, for one colour scale, world units."""
    solid = renders.depth[renders.opacity > 0.5]
    if not solid.size:
        return 2.0, 3.5
    near, far = np.quantile(solid, [0.005, 0.995])
    return float(near), float(max(far, near + 1e-3))


def _batches(count: int) -> Iterator[tuple[np.ndarray, int]]:
    """Indices of each batch, the last padded by its last view, and how many are not padding."""
    for start in range(0, count, BATCH):
        yield np.minimum(np.arange(start, start + BATCH), count - 1), min(BATCH, count - start)


def _on_host(renders: Renders, count: int) -> Renders:
    return jax.tree.map(lambda x: np.asarray(x)[:count], renders)
