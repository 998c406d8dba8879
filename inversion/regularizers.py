"""One latent for each of several views, and the three regularisers that hold them together.

Source: spec inversion section 5, arXiv:2312.05330. *Distance* keeps the latents near the one that
was fitted to all views, *interpolation* makes the latents between them show the frames between
them, *depth* makes all of them show one surface.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from eg3d_jax.cameras import Cameras, azimuth
from eg3d_jax.generator import TriPlaneGenerator
from inversion import losses
from inversion.config import InversionConfig
from inversion.latents import Latents, latents_at
from inversion.objectives import (
    FeatureNetworks,
    Targets,
    Terms,
    map_views,
    reconstruct,
    tri_planes_of,
    weighted,
)

# Generator and latents, of which one is being fitted, and a step's key -> unweighted terms.
Objective = Callable[[TriPlaneGenerator, Latents, Array], Terms]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class KnotTargets:
    """Targets of several latents: views at the knots, and views between them.

    Attributes:
      knots: K views by ascending azimuth, each shown by its own latent.
      between: the other fitted views, shown by interpolated latents; None if there are none.
    """

    knots: Targets
    between: Targets | None


def split_targets(targets: Targets, knots: ArrayLike, between: ArrayLike) -> KnotTargets:
    """Split targets [N] by the indices [K] of the knots and [N - K] of the others."""
    knots, between = jnp.asarray(knots), jnp.asarray(between)
    return KnotTargets(
        knots=_taken(targets, knots), between=_taken(targets, between) if between.size else None
    )


@jax.jit  # one program, not one for each shape
def _taken(targets: Targets, index: Array) -> Targets:
    return jax.tree.map(lambda x: x[index], targets)


def objectives(
    networks: FeatureNetworks,
    targets: KnotTargets,
    config: InversionConfig,
    reference: Array | None = None,
) -> tuple[Objective, ...]:
    """Objectives of the Adam steps of one iteration (spec inversion section 5).

    With `config.update` 'joint' this is one sum of all terms, for which the planes of each latent
    are computed once; with 'alternating' it is up to three objectives, one after another, as in the
    authors' code.

    Args:
      networks: of the image losses.
      targets: all fitted views.
      config: `regularizers` says which terms take part.
      reference: [L, D] of the distance term, the latent of all views; None leaves the term out, as
        in tuning, where the latents stay.
    """
    use_depth = "depth" in config.regularizers
    between = targets.between if "interpolation" in config.regularizers else None
    pull = None if "distance" not in config.regularizers else reference
    at_knots, at_between = _share_config(config, targets.knots, between)

    def show_knots(generator: TriPlaneGenerator, latents: Latents, key: Array, planes=None):
        terms = reconstruct(
            generator, latents.w_plus, networks, targets.knots, at_knots, key, planes=planes
        )
        if pull is not None:
            terms |= {"distance": losses.latent_prior(latents.w_plus, pull)}
        return terms

    def show_between(generator: TriPlaneGenerator, latents: Latents, key: Array) -> Terms:
        assert between is not None
        return interpolate(generator, latents, networks, between, at_between, key)

    def share_depth(generator: TriPlaneGenerator, latents: Latents, key: Array) -> Terms:
        planes = tri_planes_of(generator, latents.w_plus, config)
        return agree_in_depth(generator, planes, targets.knots.cameras, config, key)

    def joint(generator: TriPlaneGenerator, latents: Latents, key: Array) -> Terms:
        key_knots, key_depth, key_between = jax.random.split(key, 3)
        # Without the depth term only the planes of views drawn in this step are needed.
        planes = tri_planes_of(generator, latents.w_plus, config) if use_depth else None
        terms = show_knots(generator, latents, key_knots, planes)
        if planes is not None:
            cameras = targets.knots.cameras
            terms |= agree_in_depth(generator, planes, cameras, config, key_depth)
        return terms | (show_between(generator, latents, key_between) if between else {})

    if config.update == "joint":
        return (joint,)
    chosen = ((show_knots, True), (share_depth, use_depth), (show_between, between is not None))
    return tuple(objective for objective, used in chosen if used)


def _share_config(
    config: InversionConfig, knots: Targets, between: Targets | None
) -> tuple[InversionConfig, InversionConfig]:
    """Split the config into that of the knots' views and that of the views between."""
    if between is None or config.views_per_step is None:
        return config, config
    counts = (targets.images.shape[0] for targets in (knots, between))
    drawn_knots, drawn_between = share_step(config.views_per_step, *counts)
    return (
        replace(config, views_per_step=drawn_knots),
        replace(config, views_per_step=drawn_between),
    )


def share_step(number: int, knots: int, between: int) -> tuple[int, int]:
    """Split the `number` of views that a step draws into knots' views and views between.

    Half of each, but at least one; where one kind has too few, the other fills up.
    """
    drawn_between = min(max(number // 2, number - knots, 1), between)
    return min(max(number - drawn_between, 1), knots), drawn_between


def interpolate(
    generator: TriPlaneGenerator,
    latents: Latents,
    networks: FeatureNetworks,
    between: Targets,
    config: InversionConfig,
    key: Array,
) -> Terms:
    """Image losses of the views between the knots, rendered with interpolated latents.

    Args:
      generator: shows them.
      latents: K knots; the gradient reaches the two around each view.
      networks: of the image losses.
      between: views without a latent of their own.
      config: weights of the image losses within the term, sampling and batching.
      key: of the ray samples.

    Returns:
      {"interpolation": scalar}, the weighted sum of the image losses.
    """
    ws = jax.vmap(partial(latents_at, latents))(azimuth(between.cameras))
    return {
        "interpolation": weighted(
            reconstruct(generator, ws, networks, between, config, key), config.weights
        )
    }


def agree_in_depth(
    generator: TriPlaneGenerator,
    planes: Array,
    cameras: Cameras,
    config: InversionConfig,
    key: Array,
) -> Terms:
    """Disagreement of the latents' depths from one camera, drawn at random (spec inversion 5.3).

    The authors compare with a mean that is partly of earlier steps; this one is of this step, and
    constant. All latents are seen through the same ray samples, so that equal ones agree exactly.
    Pixels count by the least opacity, see `losses.depth_consistency`.

    Args:
      generator: renders depth, without super-resolution.
      planes: [K, ...] from `tri_planes_of`.
      cameras: [V] to draw from.
      config: `depth_side` pixels along either axis; sampling and batching.
      key: of the camera and the ray samples.

    Returns:
      {"depth": scalar}, the mean over latents and solid pixels of the squared distance from the
      mean, world units squared.
    """
    key_view, key_rays = jax.random.split(key)
    camera = cameras[jax.random.randint(key_view, (), 0, len(cameras))]
    side = config.depth_side
    draws = generator.random_draws(key_rays, side) if config.random_rays else None

    def surface(planes: Array) -> tuple[Array, Array]:
        seen = generator.render(
            planes, camera, side=side, draws=draws, rays_at_once=config.rays_at_once
        )
        return seen.depth, seen.opacity

    depths, opacities = map_views(surface, planes, config.views_at_once)
    mean, solid = jnp.mean(depths, axis=0), jnp.min(opacities, axis=0)
    each = jax.vmap(losses.depth_consistency, (0, None, None))(depths, mean, solid)
    return {"depth": jnp.mean(each)}
