"""Weighted losses over the views: how well a latent, or a tuned generator, shows all targets."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from eg3d_jax.cameras import Cameras
from eg3d_jax.generator import TriPlaneGenerator
from inversion import losses
from inversion.config import InversionConfig
from inversion.features.ir_se50 import IrSe50
from inversion.features.lpips import Lpips
from inversion.views import Views

Terms = dict[str, Array]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class FeatureNetworks:
    """The frozen networks that the losses look through.

    Attributes:
      lpips: of the perceptual term.
      identity: of the identity term; None leaves it out.
    """

    lpips: Lpips
    identity: IrSe50 | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Targets:
    """The views to be shown, with all that is computed once from them.

    Attributes:
      images: [V, H, W, 3] in [-1, 1].
      cameras: [V].
      features: [V, F] for the perceptual term.
      embeddings: [V, E] for the identity term, or None.
    """

    images: Array
    cameras: Cameras
    features: Array
    embeddings: Array | None


def prepare_targets(networks: FeatureNetworks, views: Views) -> Targets:
    """Compute the target features of all views, once."""
    embeddings = None
    if networks.identity is not None:
        embeddings = jax.jit(lambda net, x: jax.lax.map(net, x))(networks.identity, views.images)
    features = jax.jit(lambda net, x: jax.lax.map(net.features, x))(networks.lpips, views.images)
    return Targets(
        images=views.images, cameras=views.cameras, features=features, embeddings=embeddings
    )


def view_terms(networks: FeatureNetworks, image: Array, target: Targets) -> Terms:
    """Unweighted loss terms of one rendered view [H, W, 3] and its target."""
    terms = {
        "pixel": losses.pixel(image, target.images),
        "perceptual": losses.perceptual(networks.lpips.features(image), target.features),
    }
    if networks.identity is not None and target.embeddings is not None:
        terms["identity"] = losses.identity(networks.identity(image), target.embeddings)
    return terms


def reconstruct(
    generator: TriPlaneGenerator,
    ws: Array,
    networks: FeatureNetworks,
    targets: Targets,
    config: InversionConfig,
    key: Array,
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
    """
    key, key_views = jax.random.split(key)
    count = targets.images.shape[0]
    if config.views_per_step is not None and config.views_per_step < count:
        drawn = jax.random.permutation(key_views, count)[: config.views_per_step]
        targets = jax.tree.map(lambda x: x[drawn], targets)
        ws = ws if ws.ndim == 2 else ws[drawn]
        count = config.views_per_step
    shared = generator.tri_planes(ws) if ws.ndim == 2 else None

    def one_view(inputs: tuple[Targets, Array, Array | None]) -> Terms:
        target, key, own = inputs
        latent = ws if own is None else own
        planes = generator.tri_planes(latent) if shared is None else shared
        draws = generator.random_draws(key) if config.random_rays else None
        rendered = generator.render(
            planes, target.cameras, draws=draws, rays_at_once=config.rays_at_once
        )
        return view_terms(networks, generator.superresolve(rendered, latent).image, target)

    inputs = (targets, jax.random.split(key, count), None if ws.ndim == 2 else ws)
    at_once = config.views_at_once or count
    if at_once >= count:
        terms = jax.vmap(one_view)(inputs)
    else:
        terms = jax.lax.map(jax.checkpoint(one_view), inputs, batch_size=at_once)
    return jax.tree.map(jnp.mean, terms)


def weighted(terms: Terms, config: InversionConfig) -> Array:
    """Sum of the terms times their weights; a term without a weight is an error."""
    return jnp.asarray(sum(getattr(config.weights, name) * term for name, term in terms.items()))
