"""Differences between two implementations, stage by stage, and their tolerances."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eg3d_jax.errors import InputError
from inversion.wording import beside


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """Largest differences allowed between two float32 implementations.

    Attributes:
      ws: of the latents
      planes: of the features on the planes
      raw: of the colours of the volume rendering, in [-1, 1]
      depth: world units
      image: of the final colours, in [-1, 1]
      gradient: of the loss's gradient with respect to ws, over its largest entry in a view
    """

    ws: float = 2e-5
    planes: float = 1e-4
    raw: float = 2e-4
    depth: float = 2e-4
    image: float = 5e-4
    gradient: float = 1e-3


@dataclass(frozen=True, kw_only=True)
class Side:
    """Results of one implementation for L latents and C cameras.

    Attributes:
      arrays: ws [L, W, D], planes [L, N * C, P, P], raw [L, C, 3, h, w], depth [L, C, 1, h, w],
        image [L, C, 3, H, W] and gradient [L, C, W, D].
      seconds: of each view in order, by 'forward' and 'gradient'; the first includes compilation.
      memory: largest use, bytes, of the process ('host') and of a GPU ('device'), if there is one.
      version: of the library.
      device: where it was computed.
    """

    arrays: dict[str, np.ndarray]
    seconds: dict[str, list[float]]
    memory: dict[str, int]
    version: str
    device: str


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Difference of the two sides in one stage.

    Attributes:
      stage: its name.
      largest: largest absolute difference; relative for the gradient.
      mean: mean absolute difference, likewise.
      tolerance: what `largest` may be.
    """

    stage: str
    largest: float
    mean: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether the difference is a number within the tolerance."""
        return self.largest <= self.tolerance


def compare(theirs: Side, ours: Side, tolerances: Tolerances) -> list[Difference]:
    """Compute the differences of all stages, in the order in which they are computed.

    Raises:
      InputError: if a stage has different shapes.
    """
    return [
        _difference(field.name, theirs, ours, getattr(tolerances, field.name))
        for field in dataclasses.fields(tolerances)
    ]


def _difference(stage: str, theirs: Side, ours: Side, tolerance: float) -> Difference:
    a, b = (side.arrays[stage].astype(np.float64) for side in (theirs, ours))
    if a.shape != b.shape:
        raise InputError(
            f"their {stage} has shape {list(a.shape)}, ours {list(b.shape)}; is the checkout the "
            "one that the checkpoint was made with?"
        )
    difference = np.abs(a - b)
    if stage == "gradient":
        difference /= np.maximum(np.abs(a).max(axis=(-2, -1), keepdims=True), 1e-30)
    return Difference(
        stage=stage,
        largest=float(difference.max()),
        mean=float(difference.mean()),
        tolerance=tolerance,
    )


def verdict(differences: Sequence[Difference]) -> str:
    """Sum up in a sentence, naming the first stage that disagrees."""
    wrong = [difference for difference in differences if not difference.agrees]
    if not wrong:
        return "the two agree within the tolerances at every stage"
    first = wrong[0]
    largest, tolerance = beside(first.largest, first.tolerance, 1, "e")
    return f"the two disagree from {first.stage} on: {largest}, tolerance {tolerance}" + (
        f"; also beyond it: {', '.join(d.stage for d in wrong[1:])}" if wrong[1:] else ""
    )
