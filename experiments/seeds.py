"""The seeds that every generator of random numbers takes."""

from __future__ import annotations

from experiments.errors import InputError

MAX_SEED = 2**32 - 1


def check_seed(seed: int) -> None:
    """Refuse a seed that cannot be.

    Raises:
      InputError: naming it.
    """
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"seed {seed} is outside 0 to {MAX_SEED}; choose another")
