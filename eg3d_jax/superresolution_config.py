"""What fixes a super-resolution network, and the published variants; import from `config`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from eg3d_jax.config_checks import at_least, positive

Noise = Literal["none", "const"]


@dataclass(frozen=True, kw_only=True)
class SuperResolutionConfig:
    """The two-block network from rendered features to the image (spec eg3d section 9).

    Attributes:
      input_side: side to which features are resized before the first block, pixels.
      channels: widths of the two blocks.
      upsample: whether each block doubles the side.
      resize_larger: also shrink inputs larger than `input_side`; False makes them an error.
      antialias: low-pass filter when shrinking.
      clamp: activations and colours are clamped to [-clamp, clamp]; None for no clamp.
      noise: whether the layers add their noise maps ('const') or nothing ('none').
    """

    input_side: int
    channels: tuple[int, int]
    upsample: tuple[bool, bool]
    resize_larger: bool = True
    antialias: bool = True
    clamp: float | None = 256.0
    noise: Noise = "none"

    def __post_init__(self):
        at_least(1, input_side=self.input_side)
        if len(self.channels) != 2 or len(self.upsample) != 2 or min(self.channels) < 1:
            raise ValueError(
                f"channels={self.channels} and upsample={self.upsample}: give each of the two "
                "blocks a positive width and whether it doubles the side"
            )
        if self.clamp is not None:
            positive(clamp=self.clamp)
        if self.noise not in get_args(Noise):
            raise ValueError(f"noise={self.noise!r} must be one of {get_args(Noise)}")

    @property
    def image_side(self) -> int:
        """Side of the image that comes out, pixels."""
        return self.input_side * 2 ** sum(self.upsample)


# The published variants (spec eg3d section 9); despite their names, 8X enlarges four times.
SUPERRESOLUTION_VARIANTS: dict[str, SuperResolutionConfig] = {
    "8XDC": SuperResolutionConfig(input_side=128, channels=(256, 128), upsample=(True, True)),
    "8X": SuperResolutionConfig(input_side=128, channels=(128, 64), upsample=(True, True)),
    "4X": SuperResolutionConfig(
        input_side=128, channels=(128, 64), upsample=(False, True), resize_larger=False
    ),
    "2X": SuperResolutionConfig(input_side=64, channels=(128, 64), upsample=(False, True)),
    "Deepfp32": SuperResolutionConfig(
        input_side=128,
        channels=(128, 64),
        upsample=(False, True),
        resize_larger=False,
        antialias=False,
    ),
}
