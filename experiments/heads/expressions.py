"""Expressions of a filmed head: latents [T, 8] as functions of time in [0, 1].

Two are mild, as in talk; the others go to the ends of what faces do.
"""

from __future__ import annotations

import numpy as np


def mild_speech(time: np.ndarray) -> np.ndarray:
    """Talking, smiling a little, one blink."""
    jaw = 0.3 + 0.6 * np.sin(2 * np.pi * 5 * time) * np.sin(np.pi * time)
    smile = 0.6 - 0.5 * np.cos(2 * np.pi * time)
    lips = 0.4 * np.sin(2 * np.pi * 3 * time)
    return _stack(jaw, smile, lips, 1.9 * _pulse(time, 0.42), 0.3 * lips, gaze=0.4 * lips)


def mild_attention(time: np.ndarray) -> np.ndarray:
    """Looking about with the mouth nearly closed, two blinks, half a smile at the end."""
    sway = np.sin(2 * np.pi * (2 * time + 0.1))
    return _stack(
        0.15 + 0.1 * sway,
        0.7 * _pulse(time, 0.85, 0.2) - 0.2,
        0.2 * np.sin(2 * np.pi * time),
        1.9 * (_pulse(time, 0.22) + _pulse(time, 0.71)),
        0.5 * _pulse(time, 0.45, 0.12),
        gaze=0.7 * sway,
    )


def strong_expressions(time: np.ndarray) -> np.ndarray:
    """A frown, surprise, then a broad smile."""
    surprise, laugh = _pulse(time, 0.45, 0.16), _pulse(time, 0.85, 0.22)
    frown = _pulse(time, 0.08, 0.18)
    return _stack(
        1.8 * surprise + 0.9 * laugh,
        2.0 * laugh - 1.5 * frown,
        1.2 * _pulse(time, 0.25, 0.08),
        1.9 * (_pulse(time, 0.2) + _pulse(time, 0.66)) - 1.2 * surprise,
        1.8 * surprise - 1.8 * frown,
        gaze=0.7 * np.sin(2 * np.pi * time),
    )


def strong_reversed(time: np.ndarray) -> np.ndarray:
    """A broad smile, surprise, then a frown."""
    return strong_expressions(1 - time)


def grimaces(time: np.ndarray) -> np.ndarray:
    """A laugh, pursed lips, a snarl with the nose wrinkled, then the mouth wide open."""
    laugh, purse = _pulse(time, 0.12, 0.12), _pulse(time, 0.38, 0.09)
    snarl, shout = _pulse(time, 0.62, 0.11), _pulse(time, 0.88, 0.10)
    return _stack(
        1.2 * laugh + 0.3 * snarl + 2.6 * shout,
        2.6 * laugh - 1.2 * snarl,
        2.6 * purse - 0.8 * laugh,
        1.9 * (_pulse(time, 0.25) + _pulse(time, 0.5)) - 1.2 * shout,
        1.2 * purse - 2.6 * snarl + 1.8 * shout,
        squint=2.4 * snarl + 0.8 * laugh,
        lips=2.0 * snarl,
        gaze=0.8 * np.sin(2 * np.pi * 1.5 * time),
    )


def _pulse(time: np.ndarray, centre: float, width: float = 0.035) -> np.ndarray:
    return np.exp(-(((time - centre) / width) ** 2))


def _stack(jaw, smile, pucker, blink, brow, *, squint=None, lips=None, gaze) -> np.ndarray:
    still = np.zeros_like(jaw)
    squint, lips = (still if part is None else part for part in (squint, lips))
    return np.stack([jaw, smile, pucker, blink, brow, squint, lips, gaze], -1).astype(np.float32)
