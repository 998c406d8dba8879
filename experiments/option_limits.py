"""Limits of the numbers that a command is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.errors import InputError


def check_limits(args: Any, limits: Mapping[str, tuple[float, float]]) -> None:
    """Refuse numbers outside their limits; None, for an option that is not given, is let through.

    Args:
      args: a command's.
      limits: least and largest value by name of the option.

    Raises:
      InputError: naming the option.
    """
    for name, (least, largest) in limits.items():
        value = getattr(args, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not least <= number <= largest:
                shown = f"--{name.replace('_', '-')} {number}"
                raise InputError(f"{shown} must be from {least:.10g} to {largest:.10g}")
