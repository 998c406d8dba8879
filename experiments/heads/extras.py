"""Extras that no training head has: a birthmark, headband, glasses, scar, beard and tattoo.

All but the glasses are smooth functions of the place on the template, as brows and hairline are:
a colour laid over the skin, and for headband and beard a thickness along the normals.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiments.heads.appearance import Appearance, mix, smoothstep
from experiments.heads.glasses import Anchors, Solid, glasses


@dataclass(frozen=True, kw_only=True)
class Place:
    """Position of N points on a head's surface.

    Attributes:
      template: [N, 3] where they lie on the template, metres.
      lips: [N] lip mask in [0, 1].
      ears: [N] ear mask in [0, 1].
    """

    template: np.ndarray
    lips: np.ndarray
    ears: np.ndarray

    @property
    def xyz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lateral, up and front position, metres, [N] each."""
        return self.template[:, 0], self.template[:, 1], self.template[:, 2]


@dataclass(frozen=True, kw_only=True)
class Extra:
    """One extra of a head; effects that are None it does not have.

    Attributes:
      paint: from albedo [N, 3], place and look of the head to the albedo [N, 3] with it.
      thickness: from place to how far the surface is raised [N], metres.
      solid: from where glasses rest to a mesh beside the head's.
    """

    paint: Callable[[np.ndarray, Place, Appearance], np.ndarray] | None = None
    thickness: Callable[[Place], np.ndarray] | None = None
    solid: Callable[[Anchors], Solid] | None = None


def paint_birthmark(albedo, place: Place, look: Appearance) -> np.ndarray:
    """Paint a wine-red patch with a lobed outline on the left cheek, up to the temple."""
    across, up = _round_cheek(place, 0.052), place.template[:, 1] - 0.703
    angle = np.arctan2(up / 0.026, across / 0.021)
    outline = 1 + 0.15 * np.sin(3 * angle + 0.6) + 0.10 * np.sin(5 * angle + 2.0)
    inside = smoothstep(1.10, 0.90, np.hypot(across / 0.021, up / 0.026) / outline)
    mottled = 0.90 + 0.10 * np.sin(230 * across + 90 * up + 1) * np.sin(170 * up - 110 * across)
    stain = look.skin * np.array([0.68, 0.38, 0.42])
    return mix(albedo, stain, 0.85 * mottled * inside * (1 - place.ears))


def paint_scar(albedo, place: Place, look: Appearance) -> np.ndarray:
    """Paint a pale line with stitches from the right brow, past the eye, down the cheek."""
    x, y, z = place.xyz
    along = (y - 0.655) / 0.105
    away = np.abs(x + 0.050 - 0.013 * np.sin(3.0 * np.clip(along, 0, 1) + 0.4))
    ends = smoothstep(0, 0.06, along) * smoothstep(1, 0.94, along) * (z > 0.07)
    stitches = smoothstep(0.0065, 0.0050, away) * smoothstep(0.55, 0.8, np.cos(700 * y))
    border = np.maximum(smoothstep(0.0050, 0.0025, away), stitches)
    albedo = mix(albedo, look.skin * np.array([0.72, 0.50, 0.50]), 0.6 * border * ends)
    line = smoothstep(0.0027, 0.0013, away)
    return mix(albedo, 0.5 * look.skin + np.array([0.465, 0.37, 0.35]), 0.9 * line * ends)


def paint_tattoo(albedo, place: Place, look: Appearance) -> np.ndarray:
    """Paint a zigzag between two rings about the neck and a star on the right cheek, blue-black."""
    x, y, z = place.xyz
    angle = np.arctan2(x, z - 0.045)
    height = y - 0.592 + 0.10 * (z - 0.045)
    zigzag = 0.0075 * (np.abs((angle * 9 / np.pi) % 2 - 1) * 2 - 1)
    neck = smoothstep(0.0030, 0.0014, np.abs(height - zigzag))
    neck = np.maximum(neck, smoothstep(0.0024, 0.0010, np.abs(np.abs(height) - 0.0125)))
    across, up = _round_cheek(place, -0.052), y - 0.690
    points = np.abs((np.arctan2(across, up) * 5 / (2 * np.pi) + 0.5) % 1 - 0.5)
    star = smoothstep(0.0165, 0.0140, np.hypot(across, up) * (1 + 2.2 * points))
    ink = 0.12 * look.skin + np.array([0.02, 0.05, 0.10])
    return mix(albedo, ink, 0.88 * np.maximum(neck, star) * (1 - place.ears))


def paint_headband(albedo, place: Place, look: Appearance) -> np.ndarray:
    """Paint a red band with a white stripe about forehead and hair."""
    del look
    height = _above_headband(place)
    band = smoothstep(0.0135, 0.0120, np.abs(height)) * (1 - place.ears)
    stripe = smoothstep(0.0042, 0.0030, np.abs(height))
    colour = mix(np.array([0.78, 0.12, 0.14]), np.array([0.95, 0.93, 0.88]), stripe)
    return mix(albedo, colour, band)


def headband_thickness(place: Place) -> np.ndarray:
    """Thickness of the headband: four millimetres."""
    band = smoothstep(0.0165, 0.0115, np.abs(_above_headband(place)))
    return 0.004 * band * (1 - place.ears)


def paint_beard(albedo, place: Place, look: Appearance) -> np.ndarray:
    """Paint moustache and goatee about the mouth; cheeks and jaw keep their stubble."""
    x, y, _ = place.xyz
    strands = 1 + 0.10 * np.sin(1500 * x + 4 * np.sin(300 * y))
    colour = (0.80 * look.hair + 0.02 * look.skin) * strands[:, None]
    return mix(albedo, colour, 0.95 * _goatee(place, 0.004))


def beard_thickness(place: Place) -> np.ndarray:
    """Thickness of the beard: two millimetres, and up to fourteen at the chin."""
    _, y, _ = place.xyz
    return (0.002 + 0.012 * smoothstep(0.648, 0.622, y)) * _goatee(place, 0.010)


EXTRAS: dict[str, Extra] = {
    "birthmark": Extra(paint=paint_birthmark),
    "headband": Extra(paint=paint_headband, thickness=headband_thickness),
    "glasses": Extra(solid=glasses),
    "scar": Extra(paint=paint_scar),
    "beard": Extra(paint=paint_beard, thickness=beard_thickness),
    "tattoo": Extra(paint=paint_tattoo),
}


def _round_cheek(place: Place, x: float) -> np.ndarray:
    """Distance [N] in metres round the head from the middle of the face, less `x`.

    Seen from the side, too: the head counts as a cylinder of 8 cm about the axis through its ears.
    """
    return 0.080 * np.arctan2(place.template[:, 0], place.template[:, 2] - 0.055) - x


def _above_headband(place: Place) -> np.ndarray:
    """Height [N] in metres above the middle of the band, which falls towards the nape."""
    _, y, z = place.xyz
    return y - 0.772 - 0.12 * (z - 0.05)


def _goatee(place: Place, softness: float) -> np.ndarray:
    """Share [N] in [0, 1] of a ring about the lips that broadens to the chin and ends below it."""
    x, y, z = np.abs(place.xyz[0]), place.xyz[1], place.xyz[2]
    half_width = 0.033 - 0.35 * np.maximum(y - 0.655, 0) - 0.20 * np.maximum(0.645 - y, 0)
    sides = smoothstep(softness / 2, -softness / 2, x - half_width)
    top = smoothstep(softness / 2, -softness / 2, y - 0.6805 + 0.30 * x)
    bottom = smoothstep(0.600, 0.612, y) * smoothstep(0.100, 0.118, z)
    return sides * top * bottom * (1 - smoothstep(0.2, 0.6, place.lips))
