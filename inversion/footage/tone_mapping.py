"""Map pictures of high dynamic range, PQ or HLG, to those of usual screens."""

from __future__ import annotations

import functools

import numpy as np

_REFERENCE_WHITE = 203.0  # candelas a square metre, ITU-R BT.2408
_PEAK = 1000.0
_WIDE_TO_SRGB = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    np.float32,
)  # of linear light, ITU-R BT.2087


def tone_mapped(deep: np.ndarray, *, pq: bool, wide: bool) -> np.ndarray:
    """Map light of high dynamic range to that of usual screens.

    What is as bright as paper keeps four fifths of a screen's light; brighter light up to 1000
    candelas is compressed into the rest, by the brightest colour of each pixel, so that hues stay.

    Args:
      deep: uint16 [height, width, 3].
      pq: whether the transfer is PQ (SMPTE ST 2084); else HLG (ITU-R BT.2100).
      wide: whether the primaries are those of BT.2020; else of sRGB.

    Returns:
      uint8 [height, width, 3], sRGB.
    """
    light = _to_light(pq)[deep]
    if not pq:  # the display's gamma of a peak of 1000 candelas
        scene = light @ np.array([0.2627, 0.678, 0.0593], np.float32)
        light = light * (_PEAK / _REFERENCE_WHITE * np.maximum(scene, 1e-6) ** 0.2)[..., None]
    if wide:
        light = np.maximum(light @ _WIDE_TO_SRGB.T, 0)
    brightest = np.maximum(light.max(-1, keepdims=True), 1e-6)
    peak = _PEAK / _REFERENCE_WHITE
    # Reinhard's curve with the peak at 1, scaled so that black keeps its slope.
    mapped = brightest * (1 + brightest / peak**2) / (1 + brightest)
    straight = 0.5 * (1 + 1 / peak**2)  # what becomes of white
    light = light * (mapped / brightest) * (0.8 / straight)
    index = np.clip(light, 0, 1) * (len(_from_light()) - 1) + 0.5
    return _from_light()[index.astype(np.int32)]


@functools.cache
def _to_light(pq: bool) -> np.ndarray:
    """Light of each of 65536 values: of PQ in units of the reference white, of HLG of the scene."""
    value = np.arange(65536) / 65535
    if pq:
        power = value ** (1 / 78.84375)
        light = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
        found = 10000 / _REFERENCE_WHITE * light ** (1 / 0.1593017578125)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        found = np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
    return found.astype(np.float32)


@functools.cache
def _from_light() -> np.ndarray:
    """8 bits of sRGB for light in 16384 steps from 0 to 1."""
    light = np.linspace(0, 1, 16384)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(curve * 255).astype(np.uint8)
