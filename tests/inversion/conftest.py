"""Fixtures stored by rule or in tests/golden/inversion.npz (see tests/golden/README.md)."""

import zlib
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def golden():
    with np.load(Path(__file__).parents[1] / "golden" / "inversion.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def rng_of():
    """The generator of an input array that is defined by a key instead of stored."""
    return lambda key: np.random.default_rng(zlib.crc32(key.encode()))
