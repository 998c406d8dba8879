"""Turns, scales and shifts of a whole world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, eq=False)
class Similarity:
    """Points x of one world lie at scale rotation x + shift of another, mostly EG3D's.

    Attributes:
      scale: positive.
      rotation: [3, 3].
      shift: [3].
    """

    scale: float
    rotation: np.ndarray
    shift: np.ndarray

    def move_points(self, points: np.ndarray) -> np.ndarray:
        """Points [..., 3] in the other world."""
        return self.scale * points @ self.rotation.T + self.shift

    def move(self, cam2world: np.ndarray) -> np.ndarray:
        """Cameras [n, 4, 4] in the other world."""
        moved = cam2world.copy()
        moved[:, :3, :3] = self.rotation @ cam2world[:, :3, :3]
        moved[:, :3, 3] = self.move_points(cam2world[:, :3, 3])
        return moved

    @property
    def inverse(self) -> Similarity:
        """The way back."""
        rotation = self.rotation.T
        return Similarity(
            scale=1 / self.scale, rotation=rotation, shift=-rotation @ self.shift / self.scale
        )

    def after(self, first: Similarity) -> Similarity:
        """The similarity that does another one first."""
        return Similarity(
            scale=self.scale * first.scale,
            rotation=self.rotation @ first.rotation,
            shift=self.scale * self.rotation @ first.shift + self.shift,
        )


IDENTITY = Similarity(scale=1.0, rotation=np.eye(3), shift=np.zeros(3))
