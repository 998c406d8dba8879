"""Edit latents along directions of W: principal (GANSpace; spec inversion 9) or of a parameter."""

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
from inversion.result import Inversion

# Least eigenvalue of the correlation of parameters that count as independent.
_INDEPENDENT = 1e-9


@dataclass(frozen=True, kw_only=True)
class Directions:
    """Directions of W, or of W+, with the deviation of mapped latents along each.

    Attributes:
      components: float32, [C, D] of W, or [C, L, D] of W+: an offset for each of the L layers. Of
        length one, unless others made them.
      std: [C] float32, how far strength 1 goes along each, in lengths of the component: the
        standard deviation of mapped latents, the change of their mean with a standard deviation of
        the parameter, or 1.
      mean: [D] float32, of mapped latents.
      names: of the C directions, or none.
    """

    components: np.ndarray
    std: np.ndarray
    mean: np.ndarray
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of directions C."""
        return len(self.components)

    @property
    def steps(self) -> np.ndarray:
        """Offsets of strength 1 along each, [C, D] or [C, L, D]."""
        return self.std.reshape(-1, *[1] * (self.components.ndim - 1)) * self.components


def sample_w(
    map_to_w: Callable[[Array], Array],
    z_dim: int,
    *,
    num_samples: int = 1_000_000,
    batch: int = 10_000,
    seed: int = 0,
) -> Iterator[np.ndarray]:
    """Map random z to latents, a batch at a time.

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
    """Find the directions of greatest variance by decomposing the covariance exactly.

    Mean and covariance are accumulated in float64; the samples are never held together.

    Args:
      batches: of samples [n, D], n may differ; see `sample_w`.
      num_components: C, at most D.

    Returns:
      C directions, the widest first; the entry of largest magnitude is positive.

    Raises:
      ValueError: if there are fewer than two samples, or not so many components.
    """
    mean, covariance = _moments(batches)
    if not 1 <= num_components <= len(mean):
        raise ValueError(f"{num_components=} must be from 1 to {len(mean)}, the length of w")
    variances, vectors = np.linalg.eigh(covariance)  # ascending
    components = vectors.T[::-1][:num_components]
    largest = np.abs(components).argmax(axis=1, keepdims=True)
    components = components * np.sign(np.take_along_axis(components, largest, axis=1))
    variances = np.maximum(variances[::-1][:num_components], 0.0)  # rounding may leave it below
    return Directions(
        components=components.astype(np.float32),
        std=np.sqrt(variances).astype(np.float32),
        mean=mean.astype(np.float32),
    )


def parameter_directions(
    batches: Iterable[tuple[ArrayLike, ArrayLike]], names: Sequence[str]
) -> Directions:
    """Fit the directions in which mapped latents move, on average, with a known parameter.

    The least-squares fit w = mean + sum_k (p_k - mean_k) slope_k, solved exactly: slope_k is how
    the mean of w depends on parameter k while the others stay. Strength 1 is one standard deviation
    of the parameter. The normal of the best linear predictor of p_k from w (InterFaceGAN's
    boundary) is another direction: the one that changes the prediction most, not the one along
    which latents differ when only p_k does.

    Args:
      batches: of parameters [n, P] and the latents [n, D] mapped from the same heads; n may differ.
      names: of the P parameters.

    Returns:
      P directions with these names.

    Raises:
      ValueError: if there are fewer than two samples, a parameter is constant or follows linearly
        from the others, or shapes do not fit the names or each other.
    """
    count = len(names)
    mean, covariance = _moments(_joined(*pair, count) for pair in batches)
    std = np.sqrt(covariance.diagonal()[:count])
    if not np.all(std > 0):
        still = names[int(std.argmin())]
        raise ValueError(f"{still} is the same in all samples; leave it out, or let it vary")
    correlation = covariance[:count, :count] / np.outer(std, std)
    if np.linalg.eigvalsh(correlation)[0] < _INDEPENDENT:
        raise ValueError(
            "a parameter follows from the others, so that none can change alone; leave it out, or "
            f"give more samples than the {count} parameters"
        )
    steps = np.linalg.solve(correlation, covariance[:count, count:] / std[:, None])
    length = np.linalg.norm(steps, axis=1)
    return Directions(
        components=(steps / np.where(length > 0, length, 1.0)[:, None]).astype(np.float32),
        std=length.astype(np.float32),
        mean=mean[count:].astype(np.float32),
        names=tuple(names),
    )


def _joined(parameters: ArrayLike, w: ArrayLike, count: int) -> np.ndarray:
    """Join parameters [n, P], P being `count`, and latents [n, D] to [n, P + D] float64."""
    shapes = np.shape(parameters), np.shape(w)
    if [len(shape) for shape in shapes] != [2, 2] or shapes[0] != (shapes[1][0], count):
        raise ValueError(
            f"parameters {shapes[0]} and latents {shapes[1]} must be [n, {count}], one column a "
            "name, and [n, D]"
        )
    return np.concatenate([np.asarray(x, np.float64) for x in (parameters, w)], axis=1)


def _moments(batches: Iterable[ArrayLike]) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and covariance [D, D], float64, of batches of samples [n, D].

    Accumulated about the first batch's mean so that nothing cancels.
    """
    batches = iter(batches)
    first = np.asarray(next(batches, np.zeros((0, 1))), np.float64)
    origin = first.sum(axis=0) / max(len(first), 1)
    count, total, products = 0, np.zeros_like(origin), np.zeros((len(origin), len(origin)))
    for batch in itertools.chain([first], batches):
        samples = np.asarray(batch, np.float64) - origin
        count += len(samples)
        total += samples.sum(axis=0)
        products += samples.T @ samples
    if count < 2:
        raise ValueError(f"{count} samples have no variance; give 2 or more")
    covariance = (products - np.outer(total, total) / count) / (count - 1)
    return origin + total / count, covariance


def shift(latents: Latents, offset: ArrayLike, layers: Sequence[int] | None = None) -> Latents:
    """Move all K latents by the same offset, so that an edit holds from every side.

    Moving the knots moves every latent between them by as much: interpolation is linear.

    Args:
      latents: at K knots.
      offset: [D], units of W, the same for all layers, or [L, D].
      layers: which of the L latents move; all if None.

    Returns:
      The moved latents, differentiable in `latents` and `offset`.

    Raises:
      ValueError: if the offset has another shape, or a layer is not from 0 to L - 1.
    """
    num_layers, width = latents.w_plus.shape[1:]
    if jnp.shape(offset) not in ((width,), (num_layers, width)):
        raise ValueError(
            f"an offset {jnp.shape(offset)} does not fit latents of {num_layers} layers of length "
            f"{width}"
        )
    chosen = range(num_layers) if layers is None else layers
    wrong = [layer for layer in chosen if not 0 <= layer < num_layers]
    if wrong:
        raise ValueError(f"layer {wrong[0]} is none of the {num_layers} from 0 on")
    moves = np.isin(np.arange(num_layers), list(chosen)).astype(np.float32)
    w_plus = latents.w_plus + moves[:, None] * jnp.asarray(offset)
    return dataclasses.replace(latents, w_plus=w_plus)


def edit(inversion: Inversion, offset: ArrayLike, layers: Sequence[int] | None = None) -> Inversion:
    """The head moved along a direction of W or W+, the same from every side; see `shift`.

    Args:
      inversion: of one latent or several.
      offset: a strength times one of `Directions.steps`.
      layers: which of the L latents move; all if None.
    """
    return dataclasses.replace(inversion, latents=shift(inversion.latents, offset, layers))
