"""Principal directions of W and edits along them (GANSpace; spec inversion 9)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from inversion.latents import Latents


@dataclass(frozen=True, kw_only=True)
class Directions:
    """Directions of W with the spread of mapped latents along each.

    Attributes:
      components: [C, D] float32, of length one; the entry of largest magnitude is positive.
      std: [C] float32, standard deviation of mapped latents along each, units of W.
      mean: [D] float32, of mapped latents.
    """

    components: np.ndarray
    std: np.ndarray
    mean: np.ndarray

    def __len__(self) -> int:
        """Number of directions C."""
        return len(self.components)

    @property
    def steps(self) -> np.ndarray:
        """[C, D] offsets of one standard deviation along each."""
        return self.std[:, None] * self.components


def sample_w(
    map_to_w: Callable[[Array], Array],
    z_dim: int,
    *,
    num_samples: int = 1_000_000,
    batch: int = 10_000,
    seed: int = 0,
) -> Iterator[np.ndarray]:
    """Latents mapped from random z, a batch at a time.

    Args:
      map_to_w: z [n, z_dim] -> w [n, D], not truncated; conditioned on a camera from the front.
      z_dim: length of z.
      num_samples: in all.
      batch: how many are mapped together; the last batch may be smaller.
      seed: of the draws. The authors' are not seeded.

    Yields:
      w [n, D].

    Raises:
      ValueError: if a number is not positive.
    """
    if min(z_dim, num_samples, batch) < 1:
        raise ValueError(f"{z_dim=}, {num_samples=} and {batch=} must be positive")
    rng, mapped = np.random.default_rng(seed), jax.jit(map_to_w)
    for start in range(0, num_samples, batch):
        size = min(batch, num_samples - start)
        yield np.asarray(mapped(rng.standard_normal((size, z_dim), np.float32)))


def principal_directions(batches: Iterable[ArrayLike], num_components: int = 100) -> Directions:
    """Directions of greatest variance, by the exact decomposition of the covariance.

    Mean and covariance are accumulated in float64, about the first batch's mean so that nothing
    cancels; the samples themselves are never held together.

    Args:
      batches: of samples [n, D], n may differ; see `sample_w`.
      num_components: C, at most D.

    Returns:
      C directions, the widest first.

    Raises:
      ValueError: if there are fewer than two samples, or not so many components.
    """
    batches = iter(batches)
    first = np.asarray(next(batches, np.zeros((0, 1))), np.float64)
    origin = first.sum(axis=0) / max(len(first), 1)
    count, total, products = 0, np.zeros_like(origin), np.zeros((len(origin), len(origin)))
    for batch in itertools.chain([first], batches):
        w = np.asarray(batch, np.float64) - origin
        count += len(w)
        total += w.sum(axis=0)
        products += w.T @ w
    if count < 2:
        raise ValueError(f"{count} samples have no variance; give 2 or more")
    if not 1 <= num_components <= len(origin):
        raise ValueError(f"{num_components=} must be from 1 to {len(origin)}, the length of w")
    covariance = (products - np.outer(total, total) / count) / (count - 1)
    variances, vectors = np.linalg.eigh(covariance)  # ascending
    components = vectors.T[::-1][:num_components]
    largest = np.abs(components).argmax(axis=1, keepdims=True)
    components = components * np.sign(np.take_along_axis(components, largest, axis=1))
    variances = np.maximum(variances[::-1][:num_components], 0.0)  # rounding may leave it below
    return Directions(
        components=components.astype(np.float32),
        std=np.sqrt(variances).astype(np.float32),
        mean=(origin + total / count).astype(np.float32),
    )


def shift(latents: Latents, offset: ArrayLike, layers: Sequence[int] | None = None) -> Latents:
    """All K latents moved by the same offset, so that an edit holds from every side.

    Moving the keys moves every latent between them by as much: interpolation is linear.

    Args:
      latents: of K key views.
      offset: [D], units of W.
      layers: which of the L latents move; all if None.

    Returns:
      The moved latents, differentiable in `latents` and `offset`.

    Raises:
      ValueError: if the offset has another length, or a layer is not from 0 to L - 1.
    """
    num_layers, width = latents.w_plus.shape[1:]
    if jnp.shape(offset) != (width,):
        raise ValueError(f"an offset {jnp.shape(offset)} does not fit latents of length {width}")
    chosen = range(num_layers) if layers is None else layers
    wrong = [layer for layer in chosen if not 0 <= layer < num_layers]
    if wrong:
        raise ValueError(f"layer {wrong[0]} is none of the {num_layers} from 0 on")
    moves = np.isin(np.arange(num_layers), list(chosen)).astype(np.float32)
    w_plus = latents.w_plus + moves[:, None] * jnp.asarray(offset)
    return dataclasses.replace(latents, w_plus=w_plus)
