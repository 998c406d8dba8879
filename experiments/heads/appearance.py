"""Colours of a head: masks of its regions as smooth functions of the template, and shading.

Ten latent numbers set them: skin tone, skin warmth, hair darkness, hair tint (ginger to grey),
hair volume, hairline, lips, iris, and two of the clothes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiments.heads.anatomy import APPEARANCE, PHENOTYPE
from experiments.heads.scene import Hits

# sRGB ramps from light to dark.
_SKIN = np.array([[0.97, 0.82, 0.74], [0.90, 0.70, 0.58], [0.72, 0.50, 0.38], [0.50, 0.33, 0.24],
                  [0.30, 0.19, 0.14]])  # fmt: skip
_HAIR = np.array([[0.86, 0.70, 0.44], [0.62, 0.43, 0.25], [0.37, 0.23, 0.13], [0.20, 0.13, 0.09],
                  [0.10, 0.08, 0.07]])  # fmt: skip
_IRIS = np.array([[0.36, 0.55, 0.70], [0.36, 0.48, 0.38], [0.45, 0.30, 0.14], [0.22, 0.12, 0.06]])
_GREY = np.array([0.74, 0.73, 0.72])
_CAVITY, _TONGUE, _SCLERA = (
    np.array([0.22, 0.06, 0.06]), np.array([0.66, 0.32, 0.32]), np.array([0.95, 0.94, 0.92])
)  # fmt: skip
# Hairline height over depth z, both in metres of the template: nape, behind the ear, sideburn,
# temple, forehead.
_HAIRLINE = np.array(
    [[-0.06, 0.655], [-0.01, 0.665], [0.035, 0.70], [0.07, 0.735], [0.105, 0.775], [0.16, 0.80]]
)
_LIGHT = np.array([0.38, 0.52, 0.76]) / np.linalg.norm([0.38, 0.52, 0.76])  # fixed to the world


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """Colours [3] in sRGB [0, 1] and hair dimensions in metres of one head."""

    skin: np.ndarray
    hair: np.ndarray
    lips: np.ndarray
    iris: np.ndarray
    clothes: np.ndarray
    beard: float
    hair_volume: float
    hairline: float

    @classmethod
    def from_latent(cls, z: np.ndarray) -> Appearance:
        """The appearance of latent z [37]; every field is smooth in it."""
        tone, warmth, dark, tint, volume, line, lips, iris, hue, shade = z[APPEARANCE]
        age, gender = z[PHENOTYPE][:2]
        skin = ramp(_SKIN, sigmoid(1.4 * tone - 0.4)) + 0.014 * np.tanh(warmth) * np.array(
            [1, -0.3, -1]
        )
        return cls(
            skin=skin,
            hair=_hair_colour(dark + 0.7 * tone, tint, age),
            lips=_lip_colour(skin, lips, gender),
            iris=ramp(_IRIS, sigmoid(1.2 * iris + 0.8 * tone)),
            clothes=_clothes_colour(hue, shade),
            beard=0.42 * sigmoid(-2.0 * gender - 1.2),
            hair_volume=0.005 + 0.025 * sigmoid(1.3 * volume - 0.3),
            hairline=0.010 * np.tanh(0.7 * line),
        )


def raise_hair(vertices, normals, template, ears, look: Appearance, scale: float) -> np.ndarray:
    """Move the scalp of vertices [V, 3] out along its normals by the hair's thickness."""
    mask = hair_mask(template, look.hairline, softness=0.022, offset=0.010) * (1 - ears)
    crown = 0.8 + 0.35 * smoothstep(0.74, 0.84, template[:, 1])
    return vertices + (scale * look.hair_volume * mask * crown)[:, None] * normals


def hair_mask(template, hairline: float, *, softness: float, offset: float = 0.0) -> np.ndarray:
    """Hair share [...] in [0, 1] at template positions [..., 3]."""
    x, y, z = np.abs(template[..., 0]), template[..., 1], template[..., 2]
    line = np.interp(z, _HAIRLINE[:, 0], _HAIRLINE[:, 1]) - hairline * smoothstep(0.05, 0.12, z)
    line -= 0.035 * smoothstep(0.04, 0.075, x) * smoothstep(0.09, 0.14, z)
    return smoothstep(-softness / 2, softness / 2, y - line - offset) * (z < 0.17)


def colours(
    hits: Hits,
    static: dict[str, np.ndarray],
    look: Appearance,
    decorate: Callable[..., np.ndarray] | None = None,
) -> np.ndarray:
    """Colours [N, 3] of surface hits, sRGB in [0, 1].

    Args:
      hits: where the rays met the mesh.
      static: per-vertex `template`, `lips`, `ears`, `occlusion` and per-triangle `eyeball`,
        `cavity`, `tongue`.
      look: the head's colours.
      decorate: from albedo [N, 3], template [N, 3], lips and ears [N] to an albedo; of all but
        eyes and mouth, before light.
    """
    at = hits.interpolate(static["packed"])
    template, lips, ears, occlusion = at[:, :3], at[:, 3], at[:, 4], at[:, 5]
    x, y, z = np.abs(template[:, 0]), template[:, 1], template[:, 2]
    albedo = np.broadcast_to(look.skin, (len(x), 3))
    flush = np.exp(-(((x - 0.048) / 0.02) ** 2) - ((y - 0.69) / 0.016) ** 2) * (z > 0.08)
    flush += np.exp(-((x / 0.014) ** 2) - ((y - 0.694) / 0.012) ** 2) * (z > 0.14) + 0.8 * ears
    albedo = albedo * (1 - flush[:, None] * np.array([0.0, 0.07, 0.08]))
    albedo = mix(albedo, 0.5 * look.hair + 0.2 * look.skin, look.beard * _beard_mask(x, y, z))
    albedo = mix(albedo, look.lips, smoothstep(0.3, 0.75, lips))
    albedo = mix(albedo, 0.8 * look.hair + 0.05 * look.skin, 0.9 * _brow_mask(x, y, z))
    hair = hair_mask(template, look.hairline, softness=0.007) * (1 - ears)
    albedo = mix(albedo, look.hair * _strands(template)[:, None], hair)
    albedo = mix(albedo, look.clothes, _clothes_mask(x, y, z))
    if decorate is not None:
        albedo = decorate(albedo, template, lips, ears)
    for part, colour in (("cavity", _CAVITY), ("tongue", _TONGUE)):
        albedo = np.where(static[part][hits.triangle][:, None], colour, albedo)
    eye = static["eyeball"][hits.triangle]
    albedo[eye] = _eye_colour(x[eye], y[eye], look.iris)
    return np.clip(albedo * illumination(hits.normal, occlusion, eye)[:, None], 0, 1)


def illumination(normal, occlusion, eye) -> np.ndarray:
    """Light [N] on normals [N, 3]: wrapped sun and hemisphere sky, both fixed to the world.

    Args:
      normal: unit normals.
      occlusion: share of the sky that is seen, in [0, 1].
      eye: whether it is an eyeball, which is lit more evenly.
    """
    sun = np.maximum((normal @ _LIGHT + 0.4) / 1.4, 0)
    sky = 0.62 + 0.38 * normal[:, 1]
    light = 0.52 * sun * (0.5 + 0.5 * occlusion) + 0.80 * sky * (0.2 + 0.8 * occlusion)
    return np.where(eye, 0.6 + 0.4 * light, light)


def _eye_colour(x, y, iris) -> np.ndarray:
    distance = np.hypot(x - 0.0303, y - 0.7284)
    colour = mix(np.broadcast_to(_SCLERA, (len(x), 3)), iris, smoothstep(0.0071, 0.0060, distance))
    colour = mix(colour, 0.45 * iris, np.exp(-(((distance - 0.0062) / 0.0007) ** 2)))
    return mix(colour, np.full(3, 0.02), smoothstep(0.0034, 0.0026, distance))


def _brow_mask(x, y, z) -> np.ndarray:
    along = (x - 0.012) / 0.036
    centre = 0.7462 + 0.0042 * np.sin(np.clip(along, 0, 1) * 2.4) - 0.002
    thickness = 0.0045 - 0.0022 * np.clip(along, 0, 1)
    across = smoothstep(1.35, 0.75, np.abs(y - centre) / thickness)
    return across * smoothstep(-0.06, 0.06, along) * smoothstep(1.06, 0.9, along) * (z > 0.09)


def _strands(template) -> np.ndarray:
    """Faint lighter and darker strands that fan out from the crown."""
    angle = np.arctan2(template[:, 0], template[:, 2] - 0.03)
    fade = smoothstep(0.0, 0.05, np.hypot(template[:, 0], template[:, 2] - 0.03))
    return 1.0 + fade * (0.03 * np.sin(46 * angle) + 0.03 * np.sin(17 * angle + 1))


def _beard_mask(x, y, z) -> np.ndarray:
    jaw = smoothstep(0.690, 0.655, y - 0.35 * np.maximum(x - 0.03, 0)) * smoothstep(0.60, 0.62, y)
    return jaw * smoothstep(0.045, 0.075, z)


def _clothes_mask(x, y, z) -> np.ndarray:
    return smoothstep(-0.003, 0.003, 0.570 - 0.25 * (z - 0.03) + 0.15 * x - y)


def _hair_colour(dark: float, tint: float, age: float) -> np.ndarray:
    colour = ramp(_HAIR, sigmoid(1.1 * dark + 0.4))
    colour = colour * (1 + 0.16 * np.tanh(-tint) * np.array([1.0, -0.3, -1.0]))
    return mix(colour, _GREY, 0.85 * sigmoid(1.6 * (0.9 * age + 0.8 * tint - 1.7)))


def _lip_colour(skin, lips: float, gender: float) -> np.ndarray:
    natural = skin * np.array([0.86, 0.62, 0.62])
    return mix(
        natural, np.array([0.70, 0.13, 0.18]), 0.5 * sigmoid(1.2 * lips + 0.9 * gender - 0.6)
    )


def _clothes_colour(hue: float, shade: float) -> np.ndarray:
    """A straight cut through colour space: blue to orange, dark to light."""
    warm = np.tanh(0.8 * hue)
    light = 0.45 + 0.22 * np.tanh(0.8 * shade)
    return np.clip(light + warm * np.array([0.22, -0.02, -0.24]), 0, 1)


def ramp(stops: np.ndarray, position: float) -> np.ndarray:
    """Colour [3] at `position` in [0, 1] among evenly spaced stops [S, 3]."""
    at = np.linspace(0, 1, len(stops))
    return np.array([np.interp(position, at, stops[:, c]) for c in range(3)])


def mix(a, b, share) -> np.ndarray:
    """Blend a (1 - share) + b share, the share [...] broadcast over colours."""
    return a + (b - a) * np.asarray(share)[..., None]


def sigmoid(x):
    """Logistic function."""
    return 1 / (1 + np.exp(-x))


def smoothstep(start: float, stop: float, x) -> np.ndarray:
    """Hermite step from 0 at `start` to 1 at `stop`, which may be the smaller one."""
    t = np.clip((x - start) / (stop - start), 0, 1)
    return t * t * (3 - 2 * t)
