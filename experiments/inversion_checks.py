"""Options of an inversion that cannot be, found before any work."""

from __future__ import annotations

import math
from pathlib import Path

from experiments.errors import InputError
from experiments.inversion_args import Args
from inversion.config import InversionConfig


def check_numbers(args: Args) -> None:
    """Refuse numbers that cannot be.

    Raises:
      InputError: naming the option.
    """
    for name in ("videos_at_once", "views_per_step", "views_at_once", "rays_at_once", "save_steps"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} {value} must be at least 1")
    if args.pixel_weight is not None and not 0 <= args.pixel_weight < math.inf:
        raise InputError(f"--pixel-weight {args.pixel_weight} must be 0 or a positive number")
    if args.target_lpips is not None and not args.target_lpips > 0:
        raise InputError(f"--target-lpips {args.target_lpips} must be positive")
    if args.memory_budget is not None and not args.memory_budget > 0:
        raise InputError(f"--memory-budget {args.memory_budget} must be positive, in GB")


def check_rays(args: Args, config: InversionConfig, neural_side: int) -> None:
    """Refuse chunks of rays that do not fill a view's picture, or the depths compared.

    Raises:
      InputError: naming the option.
    """
    compared = config.depth_side if args.latents > 1 and "depth" in config.regularizers else None
    for side in (neural_side, compared or neural_side):
        chunk = args.rays_at_once or side * side
        if chunk < side * side and side * side % chunk:
            fewer = max(n for n in range(1, chunk) if side * side % n == 0)
            raise InputError(
                f"--rays-at-once {chunk} must divide the {side * side} rays of a view, as {fewer} "
                "does"
            )


def as_text(name: object) -> str:
    """A name as text that can be written, whatever bytes it is made of."""
    return str(name).encode(errors="backslashreplace").decode()


def check_names(*paths: Path) -> None:
    """Refuse paths that neither a page nor a saved state can name.

    Raises:
      InputError: naming the first.
    """
    for path in paths:
        if as_text(path) != str(path):
            raise InputError(f"{as_text(path)} is not named in UTF-8; rename it")
