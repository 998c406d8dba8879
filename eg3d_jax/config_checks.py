"""Refuse numbers that no configuration can hold; named by their fields."""

from __future__ import annotations

import math


def at_least(low: int, **counts: int) -> None:
    """Raise a ValueError if a count is below `low`."""
    for name, count in counts.items():
        if count < low:
            raise ValueError(f"{name}={count} must be at least {low}")


def positive(**values: float) -> None:
    """Raise a ValueError if a value is not positive and finite."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name}={value} must be positive and finite")
