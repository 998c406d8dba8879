"""Shares compiled programs between the tests, and finds the modules that write checkpoints."""

import importlib
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

_CACHE = "JAX_COMPILATION_CACHE_DIR"


def pytest_configure(config):
    """Keep compiled programs for this session, so that no two workers or commands compile the same.

    JAX reads the variables when it is imported; workers and commands inherit them.
    """
    if not hasattr(config, "workerinput") and _CACHE not in os.environ:
        os.environ[_CACHE] = config.compiled = tempfile.mkdtemp(prefix="eg3d_jax_tests_")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
        # See experiments/__init__.py; JAX, imported by a plugin, has set it to 1 by now.
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def pytest_unconfigure(config):
    if folder := getattr(config, "compiled", None):
        shutil.rmtree(folder, ignore_errors=True)


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
