"""Loss terms of one view, unweighted: arrays in, a scalar out (spec inversion section 2).

Weights, and sums over views, belong to the caller.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

# Noise maps are halved until they have at most this side (spec inversion 2.4).
_COARSEST_NOISE = 8


def pixel(image: Array, target: Array) -> Array:
    """Mean squared difference of images (spec inversion section 2, MSE).

    Args:
      image: [H, W, 3] about [-1, 1], not clamped.
      target: the same shape.

    Returns:
      Scalar in squared units of the [-1, 1] range: four times the value for [0, 1].

    Raises:
      ValueError: if the shapes differ.
    """
    return _mean_square(image, target, "image", "target")


def person_alone(image: Array, mask: Array) -> Array:
    """Lay an image on grey where no one is.

    Both images of a comparison are laid on the same grey. So they are equal there for every loss,
    also those that look at a pixel's surroundings, as LPIPS does: a weight on its features would
    still let the background reach those of the head near it. And the gradient with respect to the
    image is exactly zero outside the mask.

    Args:
      image: [H, W, 3] about [-1, 1].
      mask: bool [H, W], where the person is.

    Returns:
      [H, W, 3], 0 outside the mask.

    Raises:
      ValueError: if the sides differ.
    """
    if image.shape[:2] != mask.shape:
        raise ValueError(f"image {image.shape} and mask {mask.shape} must be of one size")
    return jnp.where(mask[..., None], image, 0.0)


def perceptual(features: Array, target: Array) -> Array:
    """LPIPS distance from feature vectors (spec inversion 2.1).

    Args:
      features: [F] from `Lpips.features`.
      target: [F] of the target image, computed once.

    Returns:
      Scalar >= 0.

    Raises:
      ValueError: if the shapes differ, as those of images of different sizes do.
    """
    _require_same(features, target, "features", "target")
    return jnp.sum(jnp.square(features - target))


def identity(embedding: Array, target: Array) -> Array:
    """One minus the cosine of two faces (spec inversion 2.2).

    Args:
      embedding: [E], of unit length.
      target: [E] of the target image, of unit length.

    Returns:
      Scalar in [0, 2].

    Raises:
      ValueError: if the shapes differ.
    """
    _require_same(embedding, target, "embedding", "target")
    return 1.0 - jnp.vdot(embedding, target)


def latent_prior(w_plus: Array, reference: Array) -> Array:
    """Mean squared distance of a latent from a reference (spec inversion section 2).

    Args:
      w_plus: [L, D], or [K, L, D] of several, without the exploration noise of the first stage.
      reference: of the same shape, or without the first axis for the same reference in every layer,
        such as the mean latent, or of every latent.

    Returns:
      Scalar.

    Raises:
      ValueError: if the reference has neither shape.
    """
    if reference.shape == w_plus.shape[1:]:
        reference = jnp.broadcast_to(reference, w_plus.shape)
    return _mean_square(w_plus, reference, "w_plus", "reference")


def depth_consistency(depth: Array, reference: Array, solid: Array) -> Array:
    """Squared depth disagreement of one view; holds the latents to one surface.

    Source: spec inversion 5.3, arXiv:2312.05330, where every pixel counts. It is the same where a
    generator fills the picture with matter, as the official ones do. Where rays pass by the head,
    depth is a quotient of two vanishing numbers, whose differences would outweigh the head's.

    Args:
      depth: [h, w] rendered from one latent, world units.
      reference: [h, w] mean over all latents from the same camera; treated as constant.
      solid: [h, w] in [0, 1], how much each pixel counts; treated as constant.

    Returns:
      Scalar, world units squared: the mean over the pixels that count.

    Raises:
      ValueError: if the shapes differ.
    """
    _require_same(depth, reference, "depth", "reference")
    _require_same(depth, solid, "depth", "solid")
    reference, solid = jax.lax.stop_gradient((reference, solid))
    # A weight of less than one pixel is not scaled up to one.
    return jnp.sum(solid * jnp.square(depth - reference)) / jnp.maximum(jnp.sum(solid), 1.0)


def noise_regularizer(noise_maps: Sequence[Array]) -> Array:
    """Squared correlation of noise maps with their neighbours at every scale (spec 2.4).

    At each scale the mean of n times n shifted by one column, squared, and the same by one row;
    edges wrap around. Then 2 x 2 means, until the side is 8 or less.

    Args:
      noise_maps: square arrays [r, r]; r is even as long as it is above 8.

    Returns:
      Scalar >= 0, summed over maps and scales; 0 for no maps.

    Raises:
      ValueError: if a map is not square or cannot be halved.
    """
    total = jnp.zeros(())
    for noise in noise_maps:
        if noise.ndim != 2 or noise.shape[0] != noise.shape[1]:
            raise ValueError(f"a noise map has shape {noise.shape}, wanted a square [r, r]")
        while True:
            for axis in (0, 1):
                total += jnp.square(jnp.mean(noise * jnp.roll(noise, 1, axis)))
            side = noise.shape[0]
            if side <= _COARSEST_NOISE:
                break
            if side % 2:
                raise ValueError(
                    f"a noise map comes to a side of {side}, which cannot be halved; "
                    f"sides above {_COARSEST_NOISE} must be even at every scale"
                )
            noise = noise.reshape(side // 2, 2, side // 2, 2).mean(axis=(1, 3))
    return total


def _mean_square(a: Array, b: Array, name_a: str, name_b: str) -> Array:
    _require_same(a, b, name_a, name_b)
    return jnp.mean(jnp.square(a - b))


def _require_same(a: Array, b: Array, name_a: str, name_b: str) -> None:
    if a.shape != b.shape:
        raise ValueError(
            f"{name_a} {a.shape} and {name_b} {b.shape} must be equal in shape, one view a call; "
            "resize one, or vmap over views"
        )
