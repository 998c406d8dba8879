"""Multi-view inversion of 3D-aware GANs: frames of a head in, a 3D head out.

inversion.prepare_footage("head.mp4").save("video")
frames = inversion.load_frames("video", generator)
head = inversion.invert(generator, frames.evenly(7), inversion.quick(), key=jax.random.key(0))
head.render(cameras).image
head.save("runs/video/result")
"""

from inversion.camera_refinement.refine import refine_cameras
from inversion.cluster import Cluster
from inversion.config import InversionConfig, LossWeights, StageConfig, paper, quick
from inversion.editing import edit
from inversion.evaluation import Evaluation, evaluate
from inversion.fitting.memory import Resources
from inversion.fitting.states import StateFolder, Store
from inversion.footage.prepare import Footage, FootageSettings, prepare_footage
from inversion.foreign_cameras.convert import (
    ConversionSettings,
    ConvertedFrames,
    convert_frames,
)
from inversion.frames.folder import Frames, load_frames
from inversion.latents import Latents
from inversion.meshes import mesh
from inversion.methods import Method
from inversion.monitor import Monitor, Stopped
from inversion.pipeline import invert, invert_videos
from inversion.result import Inversion, load
from inversion.splats.fit import SplatSettings, splat
from inversion.splats.gaussians import Gaussians, load_gaussians
from inversion.views import Views

__all__ = [
    "Cluster",
    "ConversionSettings",
    "ConvertedFrames",
    "Evaluation",
    "Footage",
    "FootageSettings",
    "Frames",
    "Gaussians",
    "Inversion",
    "InversionConfig",
    "Latents",
    "LossWeights",
    "Method",
    "Monitor",
    "Resources",
    "SplatSettings",
    "StageConfig",
    "StateFolder",
    "Stopped",
    "Store",
    "Views",
    "convert_frames",
    "edit",
    "evaluate",
    "invert",
    "invert_videos",
    "load",
    "load_frames",
    "load_gaussians",
    "mesh",
    "paper",
    "prepare_footage",
    "quick",
    "refine_cameras",
    "splat",
]
