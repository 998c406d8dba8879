"""Finds the modules in `convert_weights` that write checkpoints for the tests."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def writer() -> SimpleNamespace:
    """The functions of `pickle_operations` and `checkpoint_writer`."""
    sys.path.insert(0, str(Path(__file__).parent / "convert_weights"))
    try:
        modules = [importlib.import_module(n) for n in ("pickle_operations", "checkpoint_writer")]
    finally:
        sys.path.pop(0)
    return SimpleNamespace(
        **vars(modules[0]),
        **{name: value for name, value in vars(modules[1]).items() if name not in vars(modules[0])},
    )
