"""Render latents from any cameras: of fitted ones, that of the azimuth (spec inversion 7)."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from eg3d_jax import checkpoint
from eg3d_jax.cameras import Cameras, azimuth
from eg3d_jax.errors import InputError
from eg3d_jax.generator import Renders, TriPlaneGenerator
from inversion.files import save_arrays
from inversion.latents import Latents, latents_at


def render_path(
    generator: TriPlaneGenerator,
    latents: Latents,
    cameras: Cameras,
    *,
    views_at_once: int | None = None,
    rays_at_once: int | None = None,
) -> Renders:
    """Render fitted latents along cameras; call it under `jax.jit`.

    A single latent's planes are painted once. Of several latents each camera gets the one that
    `latents_at` finds between the two nearest, and planes of its own.

    Args:
      generator: tuned or not.
      latents: K latents, K = 1 for one that serves all views.
      cameras: leading axis [T].
      views_at_once: how many views are rendered together; all if None.
      rays_at_once: see `render_rays`.

    Returns:
      `Renders` with a leading axis [T].
    """
    if len(latents) == 1:
        return generator.synthesize_views(
            latents.w_plus[0], cameras, views_at_once=views_at_once, rays_at_once=rays_at_once
        )

    ws = jax.vmap(lambda camera: latents_at(latents, azimuth(camera)))(cameras)
    return render_each(
        generator, ws, cameras, views_at_once=views_at_once, rays_at_once=rays_at_once
    )


def render_each(
    generator: TriPlaneGenerator,
    w_plus: Array,
    cameras: Cameras,
    *,
    views_at_once: int | None = None,
    rays_at_once: int | None = None,
) -> Renders:
    """Render each camera with a latent, and so planes, of its own; call it under `jax.jit`.

    Args:
      generator: tuned or not.
      w_plus: [T, L, D].
      cameras: leading axis [T].
      views_at_once: how many views are rendered together; all if None.
      rays_at_once: see `render_rays`.

    Returns:
      `Renders` with a leading axis [T].
    """

    def one(view: tuple[Array, Cameras]) -> Renders:
        return generator.synthesize(*view, rays_at_once=rays_at_once)

    return jax.lax.map(one, (w_plus, cameras), batch_size=views_at_once or len(cameras))


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


_LATENTS, _GENERATOR = "latents.npz", "generator"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What an inversion found; all that rendering, editing and measuring start from.

    Attributes:
      generator: tuned, or the original one.
      latents: K latents with their azimuths; K = 1 serves all views.
      labels: [V, 25] EG3D labels of the fitted views.
      metadata: of the generator's checkpoint: source, licence, fingerprint.
    """

    generator: TriPlaneGenerator
    latents: Latents
    labels: np.ndarray
    metadata: dict[str, Any]


def save_result(
    folder: Path,
    generator: TriPlaneGenerator,
    latents: Latents,
    labels: np.ndarray,
    metadata: dict[str, Any],
) -> None:
    """Write `folder`/generator and `folder`/latents.npz.

    Args:
      folder: the run's result folder.
      generator: tuned.
      latents: K latents.
      labels: [V, 25] of the fitted views.
      metadata: of the original generator, whose source and licence the tuned one keeps.
    """
    saved = checkpoint.save(
        folder / _GENERATOR,
        generator,
        source={"tuned_from": metadata.get("fingerprint"), "original": metadata.get("source")},
        license=metadata.get("license"),
        overwrite=True,
    )
    arrays = {"w_plus": latents.w_plus, "azimuth": latents.azimuth, "labels": labels}
    kept = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    save_arrays(folder / _LATENTS, {"fingerprint": np.array(saved["fingerprint"]), **kept})


def load_result(folder: Path) -> Result:
    """Read what `save_result` wrote.

    Raises:
      InputError: if something is missing or damaged, or the latents are another generator's.
    """
    path = folder / _LATENTS
    try:
        generator, metadata = checkpoint.load(folder / _GENERATOR)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("w_plus", "azimuth", "labels")}
            fingerprint = str(file["fingerprint"])
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{folder} holds no complete result ({error}); run it again") from None
    if fingerprint != metadata["fingerprint"]:
        raise InputError(
            f"{path} was fitted with another generator than the one in {folder / _GENERATOR}; "
            "keep the two of one run together"
        )
    config, shape = generator.config, arrays["w_plus"].shape
    if shape[1:] != (config.num_ws, config.w_dim) or arrays["azimuth"].shape != shape[:1]:
        raise InputError(
            f"{path}: w_plus {shape} and azimuth {arrays['azimuth'].shape} are not K latents "
            f"[K, {config.num_ws}, {config.w_dim}] and their angles; run it again"
        )
    latents = Latents(w_plus=jnp.asarray(arrays["w_plus"]), azimuth=jnp.asarray(arrays["azimuth"]))
    return Result(generator=generator, latents=latents, labels=arrays["labels"], metadata=metadata)
