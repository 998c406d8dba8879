"""The two-pass volume renderer of one view (spec eg3d section 8)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from eg3d_jax.compositing import expected_depth, interval_weights, sample_weights
from eg3d_jax.config import RenderConfig
from eg3d_jax.rays import (
    RayDraws,
    Rays,
    count_up_to,
    importance_depths,
    midway_draws,
    ray_limits,
    stratified_depths,
    take,
)

# Points [M, 3] -> features [M, C] in about [0, 1] and raw density [M].
Field = Callable[[Array], tuple[Array, Array]]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class RenderedRays:
    """Output of the renderer; leading axes `*` are [R], or [h, w] for a whole view.

    Attributes:
      features: [*, C] in about [-1, 1]; the first three channels are the raw colour.
      depth: [*] expected distance from the camera centre, world units.
      opacity: [*] in [0, 1].
    """

    features: Array
    depth: Array
    opacity: Array


def render_rays(
    field: Field,
    rays: Rays,
    config: RenderConfig,
    *,
    draws: RayDraws | None = None,
    rays_at_once: int | None = None,
) -> RenderedRays:
    """Render the rays of one view.

    Args:
      field: features and raw density at points.
      rays: R rays.
      config: ray sampling.
      draws: random numbers; None samples the middle of every interval.
      rays_at_once: work through the rays in chunks of this size and recompute each in the backward
        pass, which bounds memory; a divisor of R. None renders all at once. No numerical effect.

    Raises:
      ValueError: if `rays_at_once` does not divide R, or is not positive.
    """
    num_rays = rays.origins.shape[0]
    if draws is None:
        draws = midway_draws(num_rays, config)
    else:  # once for both passes and the backward one: fine samples have to ascend
        draws = dataclasses.replace(draws, u=jnp.sort(draws.u, axis=-1))
    start, end = ray_limits(rays, config)
    # Of a view that misses the box altogether they descend, and samples must not.
    inputs = (rays, draws, jnp.minimum(start, end), jnp.maximum(start, end))
    if rays_at_once is None or rays_at_once >= num_rays:
        out, nearest, farthest = _render_chunk(field, config, inputs)
    else:
        if rays_at_once < 1 or num_rays % rays_at_once:
            raise ValueError(
                f"rays_at_once={rays_at_once} must divide the number of rays, {num_rays}; give a "
                "divisor of at least 1, or None for all at once"
            )
        chunked = jax.tree.map(lambda x: x.reshape(-1, rays_at_once, *x.shape[1:]), inputs)
        body = jax.checkpoint(lambda chunk: _render_chunk(field, config, chunk))
        out, nearest, farthest = jax.lax.map(body, chunked)
        out = jax.tree.map(lambda x: x.reshape(num_rays, *x.shape[2:]), out)
    # As in EG3D the limits are those of all samples of the call, so an empty ray, whose depth is
    # infinite, reports the farthest sample of the view (spec eg3d 8.5).
    depth = jnp.clip(out.depth, jnp.min(nearest), jnp.max(farthest))
    return RenderedRays(features=out.features, depth=depth, opacity=out.opacity)


def _render_chunk(
    field: Field, config: RenderConfig, inputs: tuple[Rays, RayDraws, Array, Array]
) -> tuple[RenderedRays, Array, Array]:
    """Render some rays in both passes -> their values, nearest and farthest sample."""
    rays, draws, start, end = inputs
    coarse = stratified_depths(start, end, draws.jitter, disparity=config.disparity_sampling)
    features, density = _along(field, rays, coarse)
    weights = interval_weights(density, coarse)
    depths, groups = coarse, [(features, sample_weights(weights))]
    if config.fine_samples:
        fine = importance_depths(coarse, weights, draws.u)
        fine_features, fine_density = _along(field, rays, fine)
        order, inverse = merge_orders(coarse, fine)
        depths = permute(jax.lax.stop_gradient(jnp.concatenate([coarse, fine], -1)), order, inverse)
        merged = permute(jnp.concatenate([density, fine_density], axis=-1), order, inverse)
        weights = interval_weights(merged, depths)
        # Only the weights return to the order of evaluation; the features are never moved.
        unsorted = permute(sample_weights(weights), inverse, order)
        count = coarse.shape[-1]
        groups = [(features, unsorted[:, :count]), (fine_features, unsorted[:, count:])]
    colour = sum(jnp.einsum("rs,rsc->rc", w, f, precision="highest") for f, w in groups)
    opacity = jnp.sum(weights, axis=-1)
    if config.white_background:
        colour = colour + (1.0 - opacity)[:, None]
    out = RenderedRays(
        features=2.0 * jnp.asarray(colour) - 1.0,
        depth=expected_depth(weights, depths),
        opacity=opacity,
    )
    return out, jnp.min(depths), jnp.max(depths)


def _along(field: Field, rays: Rays, depths: Array) -> tuple[Array, Array]:
    """Evaluate the field at [R, S] depths -> features [R, S, C], density [R, S]."""
    points = rays.origins[:, None] + depths[..., None] * rays.directions[:, None]
    features, density = field(points.reshape(-1, 3))
    return features.reshape(*depths.shape, -1), density.reshape(depths.shape)


@jax.named_scope("merging")
def merge_orders(coarse: Array, fine: Array) -> tuple[Array, Array]:
    """Order [R, D + K] that sorts ascending depths [R, D] and [R, K] as one list, and its inverse.

    Of equal ones the coarse come first, as in a stable sort of both. A sample's place is its own
    number and that of the others before it, so nothing has to be sorted.
    """
    before = count_up_to(jax.lax.stop_gradient(coarse), jax.lax.stop_gradient(fine))
    places = [jnp.arange(x.shape[-1], dtype=jnp.uint32) for x in (coarse, fine)]
    # Counted in integers: whatever is rounded, each place is taken once.
    after = count_up_to(before, jnp.broadcast_to(places[0], coarse.shape))
    inverse = jnp.concatenate([places[0] + after, places[1] + before], axis=-1)
    number = jnp.arange(inverse.shape[-1], dtype=jnp.uint32)
    order = jax.vmap(lambda to: jnp.zeros_like(to).at[to].set(number, unique_indices=True))(inverse)
    return order, inverse


@jax.custom_vjp
def permute(x: Array, order: Array, inverse: Array) -> Array:
    """Reorder x [R, S] along the last axis by `order`, which `inverse` undoes.

    The derivative of a permutation is its inverse: a gather. JAX, which cannot know that the
    indices are all different, would scatter.
    """
    del inverse
    with jax.named_scope("merging"):
        return take(x, order)


def _permute_forward(x: Array, order: Array, inverse: Array):
    return permute(x, order, inverse), (order, inverse)


def _permute_backward(orders: tuple[Array, Array], gradient: Array):
    with jax.named_scope("merging"):
        return take(gradient, orders[1]), None, None


permute.defvjp(_permute_forward, _permute_backward)
