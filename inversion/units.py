"""The worlds of generators: how long a unit is, and where a head lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from scipy.spatial.transform import Rotation

from eg3d_jax.checkpoint import embedded_fingerprint
from inversion.footage.face_model import WORLD_UNITS_A_CM
from inversion.result import lineage
from inversion.similarity import IDENTITY, Similarity

# Metres of a world unit. EG3D's crops show faces at one size, by which MediaPipe's canonical face,
# of average size, was placed in them; the embedded generator's heads were built in metres.
FFHQ_METRES = 0.01 / WORLD_UNITS_A_CM
EMBEDDED_METRES = 1 / 1.75
# In which heads lie as in EG3D's crops, which official generators learnt from, or as the embedded
# generator has them.
World = Literal["eg3d", "embedded"]
# A face of the embedded generator's world, laid where EG3D's crops have it: the median of eight
# heads whose renders were aligned by their faces. They differ by 1.6 %, 2 degrees and .009.
_FROM_EMBEDDED = Similarity(
    scale=EMBEDDED_METRES / FFHQ_METRES,
    rotation=Rotation.from_euler("x", -4.2, degrees=True).as_matrix(),
    shift=np.array([0.0, 0.035, -0.062]),
)


def metres_of_unit(metadata: Mapping[str, Any]) -> float:
    """Metres of a world unit, of which a picture tells nothing: those of an average head.

    Args:
      metadata: of the generator's checkpoint; the embedded one, and those tuned from it, have a
        scale of their own.
    """
    return EMBEDDED_METRES if world_of(metadata) == "embedded" else FFHQ_METRES


def into_world(world: World) -> Similarity:
    """What brings a head from where EG3D's crops have it to where it lies in a world."""
    return _FROM_EMBEDDED.inverse if world == "embedded" else IDENTITY


def world_of(metadata: Mapping[str, Any]) -> World:
    """In which world the heads of a generator are.

    Args:
      metadata: of its checkpoint.
    """
    return "embedded" if embedded_fingerprint() in lineage(metadata) else "eg3d"
