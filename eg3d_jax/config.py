"""Configuration of a generator: sizes of its networks, and how rays are sampled."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from eg3d_jax.cameras import FFHQ_FOCAL, SHAPENET_FOCAL


def at_least(low: int, **counts: int) -> None:
    """Raise a ValueError if a count is below `low`."""
    for name, count in counts.items():
        if count < low:
            raise ValueError(f"{name}={count} must be at least {low}")


def positive(**values: float) -> None:
    """Raise a ValueError if a value is not positive and finite."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value} must be positive and finite")


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


Axes = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]

_X, _Y, _Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)

# Rows are a plane's axes; a point p has plane coordinates (p @ inv(axes))[:2] (spec eg3d 7.2).
# The released NVIDIA checkpoints address plane 2 by (z, x); no plane of theirs spans y and z.
EG3D_AXES: tuple[Axes, ...] = ((_X, _Y, _Z), (_X, _Z, _Y), (_Z, _X, _Y))
# (x, y), (x, z), (z, y): LPFF and the `ffhq-fixed-triplane` checkpoints, and our own heads.
FIXED_AXES: tuple[Axes, ...] = ((_X, _Y, _Z), (_X, _Z, _Y), (_Z, _Y, _X))


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """Sampling and compositing of rays.

    Attributes:
      ray_start: distance of the first coarse sample, world units; None with `ray_end` None takes
        the limits from the box (EG3D's 'auto').
      ray_end: distance of the last coarse sample before jitter, world units.
      coarse_samples: stratified samples a ray, >= 4 if there are fine samples.
      fine_samples: importance samples a ray; 0 makes the coarse pass final.
      box_warp: side of the cube that the planes span, world units.
      white_background: light an empty ray white instead of black.
      disparity_sampling: space the coarse samples evenly in 1 / distance.
    """

    ray_start: float | None = 2.25
    ray_end: float | None = 3.3
    coarse_samples: int = 48
    fine_samples: int = 48
    box_warp: float = 1.0
    white_background: bool = False
    disparity_sampling: bool = False

    def __post_init__(self):
        if (self.ray_start is None) != (self.ray_end is None):
            raise ValueError(
                f"ray_start={self.ray_start} and ray_end={self.ray_end}: give both, or neither to "
                "take the limits from the box"
            )
        if self.ray_start is not None and self.ray_end is not None:
            if not 0 < self.ray_start < self.ray_end:
                raise ValueError(
                    f"ray_start={self.ray_start} must lie between 0 and ray_end={self.ray_end}"
                )
            if self.disparity_sampling and self.ray_end >= self.coarse_samples * self.ray_start:
                raise ValueError(
                    f"disparity_sampling with ray_end={self.ray_end} may place the last sample "
                    f"behind the camera; want ray_end below coarse_samples * ray_start = "
                    f"{self.coarse_samples * self.ray_start:g}"
                )
        elif self.disparity_sampling:
            raise ValueError("disparity_sampling needs ray_start and ray_end")
        if self.coarse_samples < (4 if self.fine_samples else 2) or self.fine_samples < 0:
            raise ValueError(
                f"coarse_samples={self.coarse_samples}, fine_samples={self.fine_samples}: want at "
                "least 4 coarse samples (2 without fine ones) and no negative count"
            )
        positive(box_warp=self.box_warp)


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Configuration that fixes every shape of a `TriPlaneGenerator`.

    Attributes:
      z_dim: length of the random input z.
      c_dim: length of the conditioning label; 0 for an unconditional mapping without embedding.
      w_dim: length D of one style latent.
      mapping_layers: fully connected layers from (z, label) to w.
      c_scale: factor on the conditioning label.
      c_zero: condition on a label of zeros whatever is given.
      channel_base: a backbone block of side r has min(channel_base // r, channel_max) channels.
      channel_max: see `channel_base`.
      plane_side: side P of a feature plane in texels, a power of two >= 4.
      plane_features: channels C of one plane, input width of decoder and super-resolution.
      plane_axes: one 3 x 3 matrix a plane, rows the plane's axes; differs between checkpoints.
      conv_clamp: clamp of the backbone's activations, None for none.
      decoder_hidden: hidden width of the decoder.
      decoder_lr_mul: learning-rate multiplier of the decoder's layers.
      neural_side: default side of the volume rendering, pixels.
      render: ray sampling.
      superresolution: from rendered features to the image.
      camera_radius: orbit radius of the training cameras, world units.
      camera_pivot: point the training cameras look at, world units.
      focal: focal length of the conditioning camera over the image side.
    """

    z_dim: int = 512
    c_dim: int = 25
    w_dim: int = 512
    mapping_layers: int = 2
    c_scale: float = 1.0
    c_zero: bool = False
    channel_base: int = 32768
    channel_max: int = 512
    plane_side: int = 256
    plane_features: int = 32
    plane_axes: tuple[Axes, ...] = EG3D_AXES
    conv_clamp: float | None = None
    decoder_hidden: int = 64
    decoder_lr_mul: float = 1.0
    neural_side: int = 128
    render: RenderConfig = field(default_factory=RenderConfig)
    superresolution: SuperResolutionConfig = SUPERRESOLUTION_VARIANTS["8XDC"]
    camera_radius: float = 2.7
    camera_pivot: tuple[float, float, float] = (0.0, 0.0, 0.2)
    focal: float = FFHQ_FOCAL

    def __post_init__(self):
        if self.plane_side < 4 or self.plane_side & (self.plane_side - 1):
            raise ValueError(f"plane_side={self.plane_side} must be a power of two, at least 4")
        if self.plane_features < 3:
            raise ValueError(
                f"plane_features={self.plane_features}: the first three are the raw colour"
            )
        if self.c_dim not in (0, 25):
            raise ValueError(f"c_dim={self.c_dim} must be 25, a camera label, or 0, none")
        at_least(
            1,
            z_dim=self.z_dim,
            w_dim=self.w_dim,
            mapping_layers=self.mapping_layers,
            channel_max=self.channel_max,
            decoder_hidden=self.decoder_hidden,
            neural_side=self.neural_side,
        )
        at_least(self.plane_side, channel_base=self.channel_base)
        positive(
            decoder_lr_mul=self.decoder_lr_mul, camera_radius=self.camera_radius, focal=self.focal
        )
        if self.conv_clamp is not None:
            positive(conv_clamp=self.conv_clamp)
        axes = np.asarray(self.plane_axes, np.float64)
        if axes.shape[1:] != (3, 3) or not (np.abs(np.linalg.det(axes)) >= 1e-6).all():
            raise ValueError(
                f"plane_axes={self.plane_axes} must be invertible 3 x 3 matrices, one a plane"
            )

    @property
    def block_sides(self) -> tuple[int, ...]:
        """Sides of the backbone blocks: 4, 8, ..., plane_side."""
        return tuple(2**k for k in range(2, self.plane_side.bit_length()))

    def channels(self, side: int) -> int:
        """Channels of the backbone block of that side (spec eg3d 1.1)."""
        return min(self.channel_base // side, self.channel_max)

    @property
    def num_ws(self) -> int:
        """Number L of style latents: one per convolution and one for the last to-RGB layer."""
        return 2 * len(self.block_sides)

    @property
    def num_planes(self) -> int:
        """Number of feature planes, three in every known checkpoint."""
        return len(self.plane_axes)

    @property
    def image_side(self) -> int:
        """Side of the final image, pixels."""
        return self.superresolution.image_side


def ffhq_512() -> GeneratorConfig:
    """NVIDIA's ffhq512-128: human faces, 512 pixels."""
    return GeneratorConfig()


def afhq_512() -> GeneratorConfig:
    """NVIDIA's afhqcats512-128: cat faces, 512 pixels."""
    return GeneratorConfig(camera_pivot=(0.0, 0.0, -0.06))


def shapenet_128() -> GeneratorConfig:
    """NVIDIA's shapenetcars128-64: cars on white, 128 pixels."""
    render = RenderConfig(
        ray_start=0.1,
        ray_end=2.6,
        coarse_samples=64,
        fine_samples=64,
        box_warp=1.6,
        white_background=True,
    )
    return GeneratorConfig(
        neural_side=64,
        render=render,
        superresolution=SUPERRESOLUTION_VARIANTS["2X"],
        camera_radius=1.7,
        camera_pivot=(0.0, 0.0, 0.0),
        focal=SHAPENET_FOCAL,
    )


def tiny() -> GeneratorConfig:
    """The smallest generator with every part; for tests."""
    return GeneratorConfig(
        z_dim=8,
        w_dim=16,
        channel_base=128,
        channel_max=8,
        plane_side=16,
        plane_features=8,
        plane_axes=FIXED_AXES,
        decoder_hidden=8,
        neural_side=8,
        render=dataclasses.replace(RenderConfig(), coarse_samples=6, fine_samples=6),
        superresolution=SuperResolutionConfig(
            input_side=8, channels=(8, 8), upsample=(False, True)
        ),
    )
