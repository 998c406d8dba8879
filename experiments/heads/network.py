"""Generators of synthetic heads: the configuration of the embedded one, and loading."""

from __future__ import annotations

from pathlib import Path

from eg3d_jax.config import FIXED_AXES, GeneratorConfig, RenderConfig, SuperResolutionConfig
from eg3d_jax.errors import InputError
from eg3d_jax.generator import TriPlaneGenerator
from experiments.heads.anatomy import Z_DIM
from experiments.subjects import load_generator


def load_head_generator(folder: Path, option: str = "--generator") -> TriPlaneGenerator:
    """Load a generator of synthetic heads, and refuse others; see `load_generator`."""
    generator = load_generator(folder)
    check_heads(generator, option)
    return generator


def check_heads(generator: TriPlaneGenerator, option: str = "--generator") -> None:
    """Refuse a generator whose z is not the parameters of the synthetic heads.

    Raises:
      InputError: if so.
    """
    if generator.config.z_dim != Z_DIM:
        raise InputError(
            f"this generator's z has {generator.config.z_dim} numbers, not the {Z_DIM} parameters "
            f"of the synthetic heads; leave {option} out to use the embedded one"
        )


def embedded_config(z_dim: int) -> GeneratorConfig:
    """Configuration of a small EG3D of heads on white: planes of 64 texels, pictures of 128.

    The same code and semantics as the large checkpoints, with one latent axis for each parameter
    of the synthetic heads, `z_dim`, and no conditioning on the camera.
    """
    return GeneratorConfig(
        z_dim=z_dim,
        c_dim=0,
        w_dim=128,
        mapping_layers=6,
        channel_base=4096,
        channel_max=128,
        plane_side=64,
        plane_axes=FIXED_AXES,
        neural_side=64,
        render=RenderConfig(
            ray_start=2.25,
            ray_end=3.15,
            coarse_samples=16,
            fine_samples=16,
            white_background=True,
        ),
        superresolution=SuperResolutionConfig(
            input_side=64, channels=(64, 32), upsample=(False, True)
        ),
        camera_pivot=(0.0, 0.0, 0.0),
    )
