"""Losses that train a generator on heads whose latent, pictures and depth are known."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from eg3d_jax.cameras import from_label
from eg3d_jax.compositing import interval_weights, midpoints, sample_weights
from eg3d_jax.generator import TriPlaneGenerator
from eg3d_jax.rays import pixel_rays, random_draws
from inversion.features.lpips import Lpips

_HEAD_WEIGHT = 1.0  # of the head's pixels beyond the others'
_SQUARES = 8.0  # weight of squared differences of colours beside absolute ones


@dataclass(frozen=True, kw_only=True)
class RegressionWeights:
    """Factors on the terms of the loss.

    Attributes:
      colour: of |difference| + 8 difference^2 of ray colours in [0, 1].
      opacity: of |difference| of ray opacities.
      depth: of the weighted mean distance of samples from the true surface, world units.
      picture: the same of whole pictures, mean of the final and the raw one.
      lpips: of LPIPS between whole pictures.
    """

    colour: float = 1.0
    opacity: float = 0.5
    depth: float = 0.7
    picture: float = 1.0
    lpips: float = 0.3


def ray_terms(generator: TriPlaneGenerator, batch: dict[str, Array], key: Array):
    """Unweighted losses of random rays of several heads, from `draw_rays`' batch -> {term: []}.

    Half of a ray's samples are stratified, half lie around the true surface, where there is one:
    the field is sampled where it matters from the first step on.
    """
    config = generator.config.render
    if config.ray_start is None or config.ray_end is None:
        raise ValueError("training needs ray_start and ray_end in the configuration")
    start, end = config.ray_start, config.ray_end
    batch_shape = batch["depth"].shape

    def one_head(batch: dict[str, Array], key: Array) -> dict[str, Array]:
        colour, opacity, depth = batch["colour"], batch["opacity"], batch["depth"]
        planes = generator.tri_planes(generator.map_to_ws(batch["z"]))
        rays = jax.vmap(lambda label, u, v: pixel_rays(from_label(label), u, v))(
            batch["labels"], batch["u"], batch["v"]
        )
        samples = sample_depths(depth, key, start, end)
        points = rays.origins[:, :, None] + samples[..., None] * rays.directions[:, :, None]
        features, density = generator.query(planes, points.reshape(-1, 3))
        weights = interval_weights(density.reshape(samples.shape), samples)
        seen = sample_weights(weights)
        rgb = jnp.einsum("vrs,vrsc->vrc", seen, features.reshape(*samples.shape, -1)[..., :3])
        shown = jnp.sum(weights, axis=-1)
        rgb = rgb + (1.0 - shown)[..., None]
        error = rgb - (colour * 0.5 + 0.5)
        solid = (depth > 0) & (opacity > 0.99)
        distance = jnp.sum(weights * jnp.abs(midpoints(samples) - depth[..., None]), axis=-1)
        weight = batch["weight"]
        return {
            "colour": colour_error(error, weight[..., None]),
            "opacity": jnp.mean(weight * jnp.abs(shown - opacity)) / jnp.mean(weight),
            "depth": jnp.mean(jnp.where(solid, distance, 0.0)),
        }

    names = ("z", "labels", "u", "v", "colour", "opacity", "depth", "weight")
    keys = jax.random.split(key, batch_shape[0])
    terms = jax.vmap(one_head)({name: batch[name] for name in names}, keys)
    return jax.tree.map(jnp.mean, terms)


def colour_error(difference: Array, weight: Array | float = 1.0) -> Array:
    """Weighted mean of |difference| + 8 difference^2 of colours in [0, 1]."""
    error = jnp.abs(difference) + _SQUARES * jnp.square(difference)
    return jnp.mean(weight * error) / jnp.mean(weight)


def sample_depths(depth: Array, key: Array, start: float, end: float) -> Array:
    """True depths [*, R] (0 where empty) -> sample depths [*, R, 16], ascending."""
    key_all, key_near = jax.random.split(key)
    shape = (*depth.shape, 8)
    spread = start + (end - start) * (jnp.arange(8) + jax.random.uniform(key_all, shape)) / 8
    near = depth[..., None] + 0.025 * jax.random.normal(key_near, shape)
    anywhere = start + (end - start) * jax.random.uniform(key_near, shape)
    near = jnp.where(depth[..., None] > 0, near, anywhere)
    return jnp.sort(jnp.concatenate([spread, near], axis=-1), axis=-1)


def picture_terms(
    generator: TriPlaneGenerator,
    lpips: Lpips,
    batch: dict[str, Array],
    key: Array,
    *,
    superresolution_only: bool = False,
) -> dict[str, Array]:
    """Unweighted losses of whole pictures, from `draw_pictures`' batch -> {term: []}.

    With `superresolution_only` its input is constant, which saves the gradient of the renderer.
    """

    def one(batch: dict[str, Array], key: Array) -> dict[str, Array]:
        image, raw = batch["image"], batch["raw"]
        draws = random_draws(key, raw.shape[0] * raw.shape[1], generator.config.render)
        ws, camera = generator.map_to_ws(batch["z"]), from_label(batch["label"])
        rendered = generator.render(generator.tri_planes(ws), camera, draws=draws)
        if superresolution_only:
            rendered, ws = jax.lax.stop_gradient((rendered, ws))
        out = generator.superresolve(rendered, ws)
        errors = [0.5 * (out.image - image), 0.5 * (out.raw - raw)]  # of colours in [0, 1]
        # Without more weight on the head, the white around it brightens the head.
        weight = 1.0 + _HEAD_WEIGHT * batch["opacity"][..., None]
        return {
            "picture": 0.5 * (colour_error(errors[0], weight) + colour_error(errors[1])),
            "lpips": lpips.distance(out.image, image),
        }

    keys = jax.random.split(key, batch["z"].shape[0])
    terms = jax.vmap(one)(
        {name: batch[name] for name in ("z", "label", "image", "raw", "opacity")}, keys
    )
    return jax.tree.map(jnp.mean, terms)
