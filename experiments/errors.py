"""Errors that a user can act on, as the commands name them; see `eg3d_jax.errors`."""

from eg3d_jax.errors import (
    DiskFullError,
    InputError,
    explained,
    is_disk_full,
    is_out_of_memory,
    run,
)

__all__ = [
    "DiskFullError",
    "InputError",
    "explained",
    "is_disk_full",
    "is_out_of_memory",
    "run",
]
