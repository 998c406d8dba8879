"""The frozen networks that the losses look through, as the commands load them."""

from __future__ import annotations

from pathlib import Path

from convert_weights.state_dict import read_state_dict
from experiments.errors import InputError
from inversion.features.ir_se50 import PICTURE_SIDE, load_ir_se50
from inversion.features.lpips import load_lpips
from inversion.objectives import FeatureNetworks

# Larger pictures are judged by VGG16 at 256 pixels, as in the paper.
_SMALL_SIDE = 128


def load_networks(image_side: int, identity: Path | None = None) -> FeatureNetworks:
    """LPIPS for pictures of a size, and the network of the identity loss if its file is given.

    Args:
      image_side: of the generator's pictures, pixels.
      identity: a state dict of IR-SE-50, `model_ir_se50.pth`.

    Raises:
      InputError: if the file is no such state dict, or the pictures are too small for its crop.
    """
    lpips = load_lpips("alexnet" if image_side <= _SMALL_SIDE else "vgg16")
    if identity is None:
        return FeatureNetworks(lpips=lpips)
    if image_side < PICTURE_SIDE:
        raise InputError(
            f"--identity {identity}: this generator's pictures have {image_side} pixels, and the "
            f"identity loss needs {PICTURE_SIDE} or more; leave the option out"
        )
    try:
        network = load_ir_se50(read_state_dict(identity))
    except ValueError as error:
        raise InputError(f"--identity {identity}: {error}") from None
    return FeatureNetworks(lpips=lpips, identity=network)
