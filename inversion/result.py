"""Results of inversions: rendered from any camera (spec inversion 7), saved and loaded."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from eg3d_jax import checkpoint
from eg3d_jax.cameras import Cameras, azimuth, from_label, to_label
from eg3d_jax.errors import InputError
from eg3d_jax.generator import Renders, TriPlaneGenerator
from inversion.files import save_arrays
from inversion.latent_files import CONVENTION
from inversion.latents import Latents, latents_at
from inversion.noise_maps import NoiseMaps


def render_path(
    generator: TriPlaneGenerator,
    latents: Latents,
    cameras: Cameras,
    *,
    views_at_once: int | None = None,
    rays_at_once: int | None = None,
) -> Renders:
    """Render fitted latents along cameras; call it under `jax.jit`.

    A single latent's planes are computed once. Of several latents each camera gets the one that
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


# Cameras of one call, and the number rendered together.
BATCH = 12
_VIEWS_AT_ONCE = 4

_render_path = jax.jit(render_path, static_argnames="views_at_once")
_render_each = jax.jit(render_each, static_argnames="views_at_once")


def render_batches(
    generator: TriPlaneGenerator, latents: Latents, cameras: Cameras
) -> Iterator[Renders]:
    """Render from many cameras up to `BATCH` at a time: batches of `Renders` on the host."""
    generator, latents = _on_one_device(generator, latents)
    for index, count in _batches(len(cameras)):
        out = _render_path(generator, latents, cameras[index], views_at_once=_VIEWS_AT_ONCE)
        yield _on_host(out, count)


def render_each_in_batches(
    generator: TriPlaneGenerator, w_plus: Array, cameras: Cameras
) -> Iterator[Renders]:
    """Render latents [T, L, D], one for each camera, up to `BATCH` at a time."""
    generator, w_plus = _on_one_device(generator, w_plus)
    for index, count in _batches(len(cameras)):
        view = w_plus[index], cameras[index]
        yield _on_host(_render_each(generator, *view, views_at_once=_VIEWS_AT_ONCE), count)


def render_views(generator: TriPlaneGenerator, latents: Latents, cameras: Cameras) -> Renders:
    """Render from many cameras: `Renders` of NumPy arrays with a leading axis [T]."""
    return joined(render_batches(generator, latents, cameras))


def joined(batches: Iterable[Renders]) -> Renders:
    """Join batches into one."""
    return jax.tree.map(lambda *x: np.concatenate(x), *batches)


def depth_range(renders: Renders) -> tuple[float, float]:
    """Nearest and farthest depth of what is solid, for one colour scale, world units."""
    solid = renders.depth[renders.opacity > 0.5]
    if not solid.size:
        return 2.0, 3.5
    near, far = np.quantile(solid, [0.005, 0.995])
    return float(near), float(max(far, near + 1e-3))


def _on_one_device(generator: TriPlaneGenerator, latents: Any) -> Any:
    """Commit both to the latents' device.

    Arrays of a loaded generator are bound to no device, those of a tuned one are: JAX would trace
    and compile the same program for each.
    """
    device = next(iter(jax.tree.leaves(jax.tree.map(jnp.asarray, latents))[0].devices()))
    return jax.device_put((generator, latents), device)


def _batches(count: int) -> Iterator[tuple[np.ndarray, int]]:
    """Indices of each batch, the last padded by its last view, and how many are not padding."""
    for start in range(0, count, BATCH):
        yield np.minimum(np.arange(start, start + BATCH), count - 1), min(BATCH, count - start)


def _on_host(renders: Renders, count: int) -> Renders:
    return jax.tree.map(lambda x: np.asarray(x)[:count], renders)


_LATENTS, _GENERATOR = "latents.npz", "generator"


@dataclass(frozen=True, kw_only=True)
class Inversion:
    """Result of an inversion, from which rendering, editing and measuring start.

    Attributes:
      generator: tuned, or not if there was no tuning; with the fitted noise maps.
      latents: K latents with their azimuths; K = 1 serves all views.
      cameras: [V] of the fitted views.
      names: of the fitted frames, V of them; empty in a result of an earlier version.
      noise_maps: fitted with the latents; empty if none were.
      terms: unweighted losses [n] of the steps taken, by stage and name; not saved.
      seconds: that the steps of each stage took; not saved.
      stopped: a sentence for each stage that ended early; not saved.
      usable: false if a stage ended before its first step.
      metadata: of the original generator's checkpoint, or of the saved result's.
    """

    generator: TriPlaneGenerator
    latents: Latents
    cameras: Cameras
    names: tuple[str, ...] = ()
    noise_maps: NoiseMaps = field(default_factory=dict)
    terms: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    stopped: tuple[str, ...] = ()
    usable: bool = True
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> np.ndarray:
        """EG3D labels [V, 25] of the fitted views."""
        return np.asarray(to_label(self.cameras))

    def render(self, cameras: Cameras) -> Renders:
        """Render the head from any cameras: `Renders` of NumPy arrays with a leading axis [T]."""
        return render_views(self.generator, self.latents, cameras)

    def save(self, folder: Path | str) -> None:
        """Write `folder`/generator and `folder`/latents.npz, replacing earlier ones.

        The file holds w_plus [K, L, D], azimuth [K], labels [V, 25], names [V], what they mean, and
        fingerprints of the generator beside it; docs/latents.md describes all of it.
        """
        folder = Path(folder)
        saved = checkpoint.save(
            folder / _GENERATOR,
            self.generator,
            source={
                "tuned_from": self.metadata.get("fingerprint"),
                "original": self.metadata.get("source"),
            },
            license=self.metadata.get("license"),
            overwrite=True,
        )
        found = {
            "w_plus": self.latents.w_plus,
            "azimuth": self.latents.azimuth,
            "labels": self.labels,
        }
        arrays = {name: np.asarray(array, np.float32) for name, array in found.items()}
        texts = {
            "fingerprint": saved["fingerprint"],
            "tuned_from": lineage(saved)[1:],
            "names": self.names,
            "convention": CONVENTION,
        }
        texts = {name: np.array(text, str) for name, text in texts.items()}
        save_arrays(folder / _LATENTS, {**texts, **arrays})


def lineage(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Fingerprints of a generator and of those that it was tuned from, the last one first.

    Tuning leaves the mapping as it is, so that all of them share their latents.
    """
    found, source = [metadata.get("fingerprint")], metadata.get("source")
    while isinstance(source, Mapping):
        found.append(source.get("tuned_from"))
        source = source.get("original")
    return tuple(dict.fromkeys(text for text in found if isinstance(text, str)))


def load(folder: Path | str) -> Inversion:
    """Load an inversion that `Inversion.save` wrote.

    Raises:
      InputError: if something is missing or damaged, or the latents are another generator's.
    """
    folder = Path(folder)
    path = folder / _LATENTS
    try:
        generator = checkpoint.load(folder / _GENERATOR)
        metadata = generator.origin.metadata
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("w_plus", "azimuth", "labels")}
            fingerprint = str(file["fingerprint"])
            names = tuple(map(str, file["names"])) if "names" in file else ()
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
    return Inversion(
        generator=generator,
        latents=Latents(
            w_plus=jnp.asarray(arrays["w_plus"]), azimuth=jnp.asarray(arrays["azimuth"])
        ),
        cameras=from_label(arrays["labels"]),
        names=names,
        metadata=metadata,
    )
