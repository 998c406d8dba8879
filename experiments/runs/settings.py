"""Versions and settings of a run; refuse to resume it with other settings."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from eg3d_jax.errors import InputError
from inversion.files import flatten_names, to_json

_PACKAGES = ("eg3d-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Names and versions of the packages, of Python and the machine, and the device in use."""
    found = {"python": platform.python_version(), "machine": platform.platform()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    device = jax.devices()[0]
    found["device"] = f"{jax.device_count()} x {device.device_kind} ({device.platform})"
    return found


# Settings of one video's own frames; all others were chosen for all videos.
_OF_FRAMES = frozenset({"frames", "frame_labels", "frame_pictures", "frame_truth", "num_frames"})
# Settings that older runs did not note, which are resumed with any value.
_ONCE_UNKNOWN = frozenset({
    "frame_pictures", "frame_truth", "inversion.num_latents", "inversion.knots",
})  # fmt: skip
# What older runs did that did not note a setting.
_ONCE_FIXED = {"inversion.mask_background": False, "start_from": None}
# Batch sizes change rounding only, and smaller ones are the advice where memory runs out.
_FREE = frozenset({"inversion.views_at_once", "inversion.rays_at_once"})


class OtherSettings(InputError):
    """A run cannot be resumed, as settings differ; `names` are theirs."""

    def __init__(self, message: str, names: frozenset[str]):
        super().__init__(message)
        self.names = names

    def __reduce__(self):  # a worker's is sent to whoever started the run
        return type(self), (str(self), self.names)

    def reraise_unless_frames_changed(self) -> str:
        """Return the message if only one video's frames have changed; else raise the error again.

        Raises:
          OtherSettings: this one, if a setting differs that was chosen for all of them.
        """
        if not self.names & _OF_FRAMES:
            raise self
        return str(self)


def check_same(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume a run that was started with other settings.

    Raises:
      OtherSettings: saying how those that matter were and are.
    """
    old, new, missing = flatten_names(to_json(then)), flatten_names(to_json(now)), "(none)"
    old = {name: value for name, value in _ONCE_FIXED.items() if name in new} | old
    differ = [
        name
        for name in sorted({*old, *new} - _FREE - (_ONCE_UNKNOWN - old.keys()))
        if old.get(name, missing) != new.get(name, missing)
    ]
    if differ:
        said = "; ".join(
            f"{name} was {old.get(name, missing)}, is {new.get(name, missing)}"
            for name in differ[:5]
        )
        more = f"; and {len(differ) - 5} more" if len(differ) > 5 else ""
        raise OtherSettings(
            f"{folder} was started with other settings: {said}{more}; resume with the same ones, "
            "or choose another --run",
            frozenset(differ),
        )
