"""Self-check of a converted generator: statistics of one rendered picture."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from convert_weights.array_pickle import CheckpointError
from eg3d_jax.generator import TriPlaneGenerator

_SIDE = 32
_FLAT = 1e-3  # standard deviation of an image in [-1, 1] that shows nothing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistics:
    """Simple statistics of one rendered picture.

    Attributes:
      image_mean: mean of the image, about [-1, 1].
      image_std: standard deviation of the image over pixels and colours.
      raw_std: the same of the volume rendering's colours.
      depth_min: smallest depth, world units.
      depth_max: largest depth, world units.
      opacity: mean opacity, in [0, 1].
      w_distance: distance of 64 mapped latents' mean from the stored mean latent, over the root
        mean square distance of the latents from their own mean; below 1 if the two agree.
    """

    image_mean: float
    image_std: float
    raw_std: float
    depth_min: float
    depth_max: float
    opacity: float
    w_distance: float


def render_statistics(generator: TriPlaneGenerator, *, seed: int = 0) -> Statistics:
    """Render a seeded latent from the frontal camera, at a low neural side."""
    config = generator.config
    side = min(_SIDE, config.neural_side, config.superresolution.input_side)
    keys = jax.random.split(jax.random.key(seed), 64)

    @jax.jit
    def statistics(generator: TriPlaneGenerator) -> dict[str, jax.Array]:
        z = jax.vmap(lambda key: jax.random.normal(key, (config.z_dim,)))(keys)
        ws = jax.vmap(lambda z: generator.map_to_ws(z)[0])(z)
        mean = ws.mean(axis=0)
        spread = jnp.sqrt(jnp.mean(jnp.sum(jnp.square(ws - mean), axis=-1)))
        latents = jnp.broadcast_to(ws[0], (config.num_ws, config.w_dim))
        out = generator.synthesize(latents, generator.frontal_camera(), side=side)
        return {
            "image_mean": out.image.mean(),
            "image_std": out.image.std(),
            "raw_std": out.raw.std(),
            "depth_min": out.depth.min(),
            "depth_max": out.depth.max(),
            "opacity": out.opacity.mean(),
            "w_distance": jnp.linalg.norm(mean - generator.mapping.w_avg[...])
            / jnp.maximum(spread, 1e-12),
        }

    return Statistics(**{name: float(value) for name, value in statistics(generator).items()})


def check(generator: TriPlaneGenerator, *, seed: int = 0) -> Statistics:
    """Render a picture and compare its statistics with what any sound generator has.

    Raises:
      CheckpointError: if a number is not finite, or the picture is blank.
    """
    found = render_statistics(generator, seed=seed)
    if not np.isfinite(dataclasses.astuple(found)).all():
        raise CheckpointError("its generator renders numbers that are not finite")
    contrast = min(found.image_std, found.raw_std)
    if contrast < _FLAT:
        raise CheckpointError(f"its generator renders a blank picture (std {contrast:.1e})")
    return found
