"""What a run was made with."""

from __future__ import annotations

import importlib.metadata
import platform

import jax

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
