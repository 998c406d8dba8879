"""Gaussians of a head: ellipsoids with an opacity and a colour that depends on the direction.

Source: Kerbl et al. 2023, "3D Gaussian Splatting" (arXiv:2308.04079). N Gaussians, B = (degree + 1)
** 2 spherical harmonics.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from inversion.splats.files import read_splat, write_splat
from inversion.units import FFHQ_METRES

MAX_DEGREE = 3


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Gaussians:
    """N Gaussians in world units: y up, the face towards +z.

    Attributes:
      centres: [N, 3] world units.
      log_scales: [N, 3] logarithms of the standard deviations along the three axes, world units.
      rotations: [N, 4] quaternions (w, x, y, z) that turn those axes into the world; any length but
        0.
      opacity_logits: [N] logits of the opacity at the centre.
      harmonics: [N, B, 3] coefficients of the colour by `harmonic_basis`; B is 1, 4, 9 or 16.
    """

    centres: Array
    log_scales: Array
    rotations: Array
    opacity_logits: Array
    harmonics: Array

    def __len__(self) -> int:
        """Number of Gaussians."""
        return self.centres.shape[0]

    @property
    def degree(self) -> int:
        """Degree of the harmonics, 0 to 3."""
        return math.isqrt(self.harmonics.shape[1]) - 1

    def save(self, path: Path | str, *, metres: float = FFHQ_METRES) -> Path:
        """Write a `.ply` of the reference implementation, or an `.spz`, by the suffix.

        Lengths there are metres; see `inversion.splats.files` for axes and encodings.

        Args:
          path: of the file.
          metres: of a world unit; see `inversion.units.metres_of_unit`.

        Raises:
          InputError: if the suffix is none of these, or a number is not finite.
        """
        return write_splat(Path(path), self.fields(), metres)

    def fields(self) -> dict[str, np.ndarray]:
        """Host copies of all fields by name."""
        return {f.name: np.asarray(getattr(self, f.name)) for f in dataclasses.fields(self)}


def load_gaussians(path: Path | str, *, metres: float = FFHQ_METRES) -> Gaussians:
    """Read a `.ply` or `.spz` that `Gaussians.save` or another program wrote.

    Args:
      path: of the file.
      metres: of the world unit that is wanted.

    Raises:
      InputError: if the file is damaged, or holds something else.
    """
    return Gaussians(**{k: jnp.asarray(v) for k, v in read_splat(Path(path), metres).items()})


_CONSTANT = 0.28209479177387814  # the harmonic of degree 0


def colour_harmonics(colours: np.ndarray) -> np.ndarray:
    """Coefficients of degree 0 of colours in [0, 1]."""
    return (colours - 0.5) / _CONSTANT


def harmonic_basis(directions: Array, degree: int) -> Array:
    """Real spherical harmonics in the order and signs of the reference implementation.

    Args:
      directions: [..., 3] unit, from the camera to the Gaussian, in the world's axes of the file:
        x right, y down, z forward for a camera in front (`inversion.splats.files`).
      degree: 0 to 3.

    Returns:
      [..., (degree + 1) ** 2].
    """
    x, y, z = jnp.moveaxis(directions, -1, 0)
    terms = [jnp.full_like(x, _CONSTANT)]
    if degree > 0:
        terms += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree > 1:
        terms += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * z * z - x * x - y * y),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ]
    if degree > 2:
        terms += [
            -0.5900435899266435 * y * (3 * x * x - y * y),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * z * z - x * x - y * y),
            0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -0.4570457994644658 * x * (4 * z * z - x * x - y * y),
            1.445305721320277 * z * (x * x - y * y),
            -0.5900435899266435 * x * (x * x - 3 * y * y),
        ]
    return jnp.stack(terms, axis=-1)
