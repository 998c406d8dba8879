"""A differentiable rasteriser of Gaussians for pictures of some hundred pixels (arXiv:2308.04079).

Which Gaussians a pixel shows, and in which order, is found by NumPy: `overlaps` lists the K nearest
that are visible there. The blend along these lists is JAX, and differentiable in all fields of the
Gaussians: a gather, then arithmetic that is the same for all pixels. The lists have no derivative,
and stay good while the Gaussians move by less than a pixel.

N Gaussians, P pixels, K entries of a list. Pictures are squares of `side` pixels, row by row, of
which the centre of pixel i lies at i + 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.sparse import csc_matrix

from eg3d_jax.cameras import Cameras
from inversion.splats.gaussians import Gaussians, harmonic_basis

# A pixel shows the mean over its square, whose variance along each axis this is. The reference
# implementation blurs by 0.3 instead, and so makes whatever it renders small too large.
PIXEL_VARIANCE = 1 / 12
LEAST_ALPHA, MOST_ALPHA = 1 / 255, 0.99  # as the reference implementation
# Logarithm of the share of light that must come through for what lies behind to be listed.
_LEAST_LEFT = np.log(1e-3)
_NEAR = 0.05  # world units; what is nearer to the camera is not shown


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Footprints:
    """Gaussians as one camera sees them.

    Attributes:
      means: [N, 2] pixels, x right and y down.
      precisions: [N, 3] inverse covariance xx, xy, yy, 1 / pixels squared.
      opacities: [N] at the centre.
      colours: [N, 3] in [0, about 1].
      distances: [N] of the centres from the camera's, world units.
      depths: [N] along the camera's axis, which order them, world units.
      extents: [N, 2] standard deviations along x and y, pixels.
    """

    means: Array
    precisions: Array
    opacities: Array
    colours: Array
    distances: Array
    depths: Array
    extents: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Overlaps:
    """Which Gaussians each of P pixels shows.

    Attributes:
      pixels: [P] index in the picture, row * side + column.
      entries: [K, P] Gaussians from near to far; N where a list has ended.
    """

    pixels: Array
    entries: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Blend:
    """What P pixels show.

    Attributes:
      colours: [P, 3] in [0, about 1], on black: times the opacity.
      opacity: [P] in [0, 1).
      depth: [P] mean distance from the camera times the opacity, world units.
    """

    colours: Array
    opacity: Array
    depth: Array


def rotation_matrices(quaternions: Array) -> Array:
    """Rotation matrices [..., 3, 3] of quaternions [..., 4] (w, x, y, z) of any length but 0."""
    q = quaternions / jnp.linalg.norm(quaternions, axis=-1, keepdims=True)
    w, x, y, z = jnp.moveaxis(q, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def project(gaussians: Gaussians, camera: Cameras, side: int) -> Footprints:
    """Project Gaussians to a camera, linear in their extent (EWA splatting; 2308.04079 eq. 5).

    Args:
      gaussians: N of them.
      camera: a single one.
      side: of the picture, pixels.
    """
    to_world = camera.cam2world[:3, :3]
    offset = gaussians.centres - camera.position
    x, y, depth = jnp.moveaxis(_product(offset, to_world), -1, 0)
    z = jnp.maximum(depth, _NEAR)
    lens = side * camera.intrinsics[:2]
    along = jnp.stack([x / z, y / z, jnp.ones_like(z)], axis=-1)
    zero = jnp.zeros_like(z)
    slope = jnp.stack(
        [
            jnp.stack([1 / z, zero, -x / (z * z)], axis=-1),
            jnp.stack([zero, 1 / z, -y / (z * z)], axis=-1),
        ],
        axis=-2,
    )
    axes = rotation_matrices(gaussians.rotations) * jnp.exp(gaussians.log_scales)[:, None, :]
    turned = _product(to_world.T, axes)
    shape = _product(_product(lens[:, :2], slope), turned)  # [N, 2, 3]
    xx, xy, yy = (jnp.sum(shape[:, i] * shape[:, j], axis=-1) for i, j in ((0, 0), (0, 1), (1, 1)))
    xx, yy = xx + PIXEL_VARIANCE, yy + PIXEL_VARIANCE
    determinant = xx * yy - xy * xy
    distances = jnp.linalg.norm(offset, axis=-1)
    return Footprints(
        means=_product(along, lens.T),
        precisions=jnp.stack([yy, -xy, xx], axis=-1) / determinant[:, None],
        opacities=jnp.where(depth > _NEAR, jax.nn.sigmoid(gaussians.opacity_logits), 0.0),
        colours=_colours(gaussians, offset / distances[:, None]),
        distances=distances,
        depths=depth,
        extents=jnp.sqrt(jnp.stack([xx, yy], axis=-1)),
    )


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")


def _colours(gaussians: Gaussians, directions: Array) -> Array:
    # The file's axes, in which the harmonics are told: y and z turned round.
    basis = harmonic_basis(directions * jnp.array([1.0, -1.0, -1.0]), gaussians.degree)
    return jnp.maximum(jnp.einsum("nb,nbc->nc", basis, gaussians.harmonics) + 0.5, 0.0)


def overlaps(
    footprints: Footprints, side: int, *, length: int, num_pixels: int | None = None
) -> Overlaps:
    """List what each pixel shows, from near to far; on the host.

    Args:
      footprints: N of them.
      side: of the picture, pixels.
      length: entries K of a list; those farther away are left out.
      num_pixels: how many pixels P are listed: those that show anything, in the picture's order,
        then others; what is beyond P is left out. All of the picture if None.
    """
    opacities = np.asarray(footprints.opacities)
    visible = np.flatnonzero(opacities > LEAST_ALPHA)
    order = visible[np.argsort(np.asarray(footprints.depths)[visible], kind="stable")]
    means, precisions, extents = (
        np.asarray(getattr(footprints, name))[order] for name in ("means", "precisions", "extents")
    )
    opacities = opacities[order]
    # Where opacity * exp(-q / 2) falls to LEAST_ALPHA, on the outermost points of the ellipse.
    reach = np.sqrt(2 * np.log(opacities / LEAST_ALPHA))[:, None] * extents
    first = np.clip(np.ceil(means - reach - 0.5), 0, side).astype(np.int32)
    last = np.clip(np.floor(means + reach - 0.5), -1, side - 1).astype(np.int32)
    spans = np.maximum(last - first + 1, 0)
    counts = spans[:, 0] * spans[:, 1]
    which = np.repeat(np.arange(len(order), dtype=np.int32), counts)
    within = np.arange(counts.sum(), dtype=np.int32) - np.repeat(np.cumsum(counts) - counts, counts)
    row, column = np.divmod(within, spans[which, 0])
    column, row = column + first[which, 0], row + first[which, 1]
    dx, dy = column + 0.5 - means[which, 0], row + 0.5 - means[which, 1]
    xx, xy, yy = precisions[which].T
    power = 0.5 * (xx * dx * dx + yy * dy * dy) + xy * dx * dy
    alpha = np.minimum(opacities[which] * np.exp(-power), MOST_ALPHA)
    kept = alpha > LEAST_ALPHA
    which, pixel = which[kept], (row * side + column)[kept]
    # Pairs come in the order of depth. Compressed columns to rows are a counting sort, which keeps
    # that order within a pixel.
    starts = np.concatenate([[0], np.cumsum(np.bincount(which, minlength=len(order)))])
    by_pixel = csc_matrix(
        (np.log1p(-alpha[kept]), pixel, starts), (side * side, len(order))
    ).tocsr()
    return _lists(by_pixel, order, len(footprints.depths), length, num_pixels)


def _lists(by_pixel, order, ended: int, length: int, num_pixels: int | None) -> Overlaps:
    """Cut rows of a matrix, a pixel each, of how each Gaussian dims it, to lists of one length."""
    area, lengths, begins = by_pixel.shape[0], np.diff(by_pixel.indptr), by_pixel.indptr[:-1]
    shows = np.argsort(lengths == 0, kind="stable")
    chosen = np.arange(area) if num_pixels is None else shows[:num_pixels]
    place = np.full(area, -1, np.int32)
    place[chosen] = np.arange(len(chosen))
    rank = np.arange(len(by_pixel.data), dtype=np.int32) - np.repeat(begins, lengths)
    dimmed = np.concatenate([[0.0], np.cumsum(by_pixel.data, dtype=np.float64)])
    left = dimmed[:-1] - np.repeat(dimmed[begins], lengths)
    where = np.repeat(place, lengths)
    kept = (rank < length) & (where >= 0) & (left > _LEAST_LEFT)
    entries = np.full((length, len(chosen)), ended, np.int32)
    entries[rank[kept], where[kept]] = order[by_pixel.indices[kept]]
    return Overlaps(pixels=jnp.asarray(chosen, jnp.int32), entries=jnp.asarray(entries))


def blend(footprints: Footprints, lists: Overlaps, side: int) -> Blend:
    """Blend the listed Gaussians from near to far (arXiv:2308.04079, eq. 3).

    Args:
      footprints: N of them.
      lists: of P pixels.
      side: of the picture, pixels.
    """
    table = jnp.concatenate(
        [
            footprints.means,
            footprints.precisions,
            footprints.opacities[:, None],
            footprints.distances[:, None],
            footprints.colours,
        ],
        axis=-1,
    )
    table = jnp.concatenate([table, jnp.zeros((1, table.shape[1]))])  # what ended lists name
    mean_x, mean_y, xx, xy, yy, opacity, *values = jnp.moveaxis(table[lists.entries], -1, 0)
    dx, dy = lists.pixels % side + 0.5 - mean_x, lists.pixels // side + 0.5 - mean_y
    power = 0.5 * (xx * dx * dx + yy * dy * dy) + xy * dx * dy
    alpha = jnp.minimum(opacity * jnp.exp(-power), MOST_ALPHA)
    alpha = jnp.where(alpha > LEAST_ALPHA, alpha, 0.0)
    left, before = jax.lax.scan(lambda t, a: (t * (1.0 - a), t), jnp.ones_like(alpha[0]), alpha)
    weights = alpha * before
    depth, *colours = (jnp.sum(weights * value, axis=0) for value in values)
    return Blend(colours=jnp.stack(colours, axis=-1), opacity=1.0 - left, depth=depth)
