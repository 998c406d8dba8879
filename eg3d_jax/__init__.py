"""EG3D, a tri-plane generator of heads, in JAX and Flax.

generator = eg3d_jax.load_embedded()  # or eg3d_jax.load("weights/ffhq512-128")
image = generator.synthesize(ws, camera).image
"""

from eg3d_jax.cameras import Cameras
from eg3d_jax.checkpoint import load, load_embedded, save
from eg3d_jax.config import GeneratorConfig
from eg3d_jax.errors import InputError
from eg3d_jax.generator import TriPlaneGenerator

__all__ = [
    "Cameras",
    "GeneratorConfig",
    "InputError",
    "TriPlaneGenerator",
    "load",
    "load_embedded",
    "save",
]
