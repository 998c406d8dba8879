"""Weighted losses over the views, by which latents or a tuned generator are fitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from eg3d_jax.cameras import Cameras
from eg3d_jax.generator import TriPlaneGenerator
from inversion import losses
from inversion.config import InversionConfig
from inversion.features.arcface import ArcFace
from inversion.features.lpips import Lpips
from inversion.views import Views

Terms = dict[str, Array]
# Names of all terms, in the order of tables.
TERMS = ("pixel", "perceptual", "identity", "prior", "noise", "distance", "interpolation", "depth")


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class FeatureNetworks:
    """Frozen networks of the losses.

    Attributes:
      lpips: of the perceptual term.
      identity: of the identity term; None leaves it out.
    """

    lpips: Lpips
    identity: ArcFace | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Targets:
    """Views to be fitted, with all that is computed once from them.

    Attributes:
      images: [V, H, W, 3] in [-1, 1].
      cameras: [V].
      features: [V, F] for the perceptual term.
      embeddings: [V, E] for the identity term, or None.
      mask: bool [V, H, W], outside of which nothing counts, and images are grey; or None.
      count: [] how many of the views are fitted; the rest repeats the last one, so that videos with
        more and with fewer views share what is compiled. None for all of them.
    """

    images: Array
    cameras: Cameras
    features: Array
    embeddings: Array | None
    mask: Array | None = None
    count: Array | None = None


def prepare_targets(networks: FeatureNetworks, views: Views, count: int | None = None) -> Targets:
    """Compute the target features of all views, once; of the person alone where they have masks.

    Args:
      networks: that the losses look through.
      views: V of them.
      count: how many are fitted, the first ones; None for all.
    """
    images, embeddings = views.images, None
    if views.mask is not None:
        images = jax.vmap(losses.person_alone)(images, views.mask)
    if networks.identity is not None:
        embeddings = _embed(networks.identity, images)
    return Targets(
        images=images,
        cameras=views.cameras,
        features=_describe(networks.lpips, images),
        embeddings=embeddings,
        mask=views.mask,
        count=None if count is None else jnp.asarray(count, jnp.int32),
    )


_embed = jax.jit(lambda network, images: jax.lax.map(network, images))
_describe = jax.jit(lambda network, images: jax.lax.map(network.features, images))


def view_terms(networks: FeatureNetworks, image: Array, target: Targets) -> Terms:
    """Unweighted loss terms of one rendered view [H, W, 3] and its target."""
    if target.mask is not None:
        image = losses.person_alone(image, target.mask)
    terms = {
        "pixel": losses.pixel(image, target.images),
        "perceptual": losses.perceptual(networks.lpips.features(image), target.features),
    }
    if networks.identity is not None and target.embeddings is not None:
        terms["identity"] = losses.identity(networks.identity(image), target.embeddings)
    return terms


def map_views(function: Callable[[Any], Any], inputs: Any, views_at_once: int | None) -> Any:
    """Apply a function along the leading axes, so many entries together; None for all.

    With fewer together than there are, each is computed anew in the backward pass, which bounds
    memory.
    """
    count = jax.tree.leaves(inputs)[0].shape[0]
    at_once = views_at_once or count
    if at_once >= count:
        return jax.vmap(function)(inputs)
    return jax.lax.map(jax.checkpoint(function), inputs, batch_size=at_once)


def draw_views(views: Any, number: int | None, key: Array) -> Any:
    """Draw `number` of the views [V, ...] of a tree without repetition; None for all."""
    count = jax.tree.leaves(views)[0].shape[0]
    if number is None or number >= count:
        return views
    drawn = jax.random.permutation(key, count)[:number]
    return jax.tree.map(lambda x: x[drawn], views)


def draw_first_views(views: Any, count: Array, number: int, key: Array) -> tuple[Any, Array]:
    """Draw `number` of the first `count` views [V, ...] of a tree without repetition.

    Returns:
      The views, and their weights [number]: 1, or 0 where there are no more than `count`.
    """
    total = jax.tree.leaves(views)[0].shape[0]
    order = jnp.where(jnp.arange(total) < count, jax.random.uniform(key, (total,)), 2.0)
    drawn = jnp.argsort(order)[:number]
    return jax.tree.map(lambda x: x[drawn], views), (drawn < count).astype(jnp.float32)


def tri_planes_of(generator: TriPlaneGenerator, ws: Array, config: InversionConfig) -> Array:
    """Feature planes of a latent [L, D], or of each of several [K, L, D]."""
    if ws.ndim == 2:
        return generator.tri_planes(ws)
    return map_views(generator.tri_planes, ws, config.views_at_once)


def reconstruct(
    generator: TriPlaneGenerator,
    ws: Array,
    networks: FeatureNetworks,
    targets: Targets,
    config: InversionConfig,
    key: Array,
    *,
    planes: Array | None = None,
) -> Terms:
    """Loss terms of latents seen from all cameras, means over the views.

    The authors sum over the views; Adam's steps do not depend on that factor.

    Args:
      generator: any with `tri_planes`, `render` and `superresolve`.
      ws: [L, D] for all views, or [V, L, D] one for each.
      networks: of the feature losses.
      targets: V views.
      config: sampling and batching.
      key: of the ray samples.
      planes: of ws, if they are computed already.
    """
    key, key_views = jax.random.split(key)
    own, weights, fitted = ws.ndim == 3, None, targets.count
    views: Any = (replace(targets, count=None), *((ws, planes) if own else ()))
    if fitted is None:
        views = draw_views(views, config.views_per_step, key_views)
    else:
        number = config.views_per_step or targets.images.shape[0]
        views, weights = draw_first_views(views, fitted, number, key_views)
    targets, ws, planes = views if own else (*views, ws, planes)
    count = targets.images.shape[0]
    planes = tri_planes_of(generator, ws, config) if planes is None else planes

    def one_view(inputs: tuple[Targets, Array, tuple[Array, Array] | None]) -> Terms:
        target, key, given = inputs
        latent, seen = (ws, planes) if given is None else given
        draws = generator.random_draws(key) if config.random_rays else None
        rendered = generator.render(
            seen, target.cameras, draws=draws, rays_at_once=config.rays_at_once
        )
        return view_terms(networks, generator.superresolve(rendered, latent).image, target)

    inputs = (targets, jax.random.split(key, count), (ws, planes) if own else None)
    terms = map_views(one_view, inputs, config.views_at_once)
    if weights is None:
        return jax.tree.map(jnp.mean, terms)
    return jax.tree.map(lambda term: jnp.sum(weights * term) / jnp.sum(weights), terms)


def weighted(terms: Terms, weights: Any) -> Array:
    """Sum of the terms times their weights, attributes of their names; one without is an error."""
    return jnp.asarray(sum(getattr(weights, name) * term for name, term in terms.items()))
