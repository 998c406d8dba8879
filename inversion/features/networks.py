"""Load the frozen feature networks of losses and metrics."""

from __future__ import annotations

from pathlib import Path

from convert_weights.state_dict import read_state_dict
from eg3d_jax.errors import InputError
from inversion.features.arcface import ArcFace, load_arcface
from inversion.features.face_crop import PICTURE_SIDE
from inversion.features.lpips import load_lpips
from inversion.objectives import FeatureNetworks

# Larger pictures are judged by VGG16 at 256 pixels, as in the paper.
_SMALL_SIDE = 128


def load_networks(image_side: int, identity: Path | None = None) -> FeatureNetworks:
    """Load LPIPS for pictures of a size, and a face network if its file is given.

    Args:
      image_side: of the generator's pictures, pixels.
      identity: a state dict of IR-SE-50, `model_ir_se50.pth`, or of IR-101.

    Raises:
      InputError: if the file is no such state dict, or the pictures are too small for its crop.
    """
    lpips = load_lpips("alexnet" if image_side <= _SMALL_SIDE else "vgg16")
    return FeatureNetworks(
        lpips=lpips, identity=None if identity is None else _faces(image_side, identity)
    )


def _faces(image_side: int, path: Path) -> ArcFace:
    if image_side < PICTURE_SIDE:
        raise InputError(
            f"--identity {path}: this generator's pictures have {image_side} pixels, and faces are "
            f"compared in {PICTURE_SIDE} or more; leave the option out"
        )
    try:
        return load_arcface(read_state_dict(path))
    except ValueError as error:
        raise InputError(f"--identity {path}: {error}") from None
