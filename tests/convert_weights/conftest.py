"""Finds the modules beside this file, which write checkpoints for the tests."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def writer() -> SimpleNamespace:
    """The functions of `pickle_operations` and `checkpoint_writer`."""
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        modules = [importlib.import_module(n) for n in ("pickle_operations", "checkpoint_writer")]
    finally:
        sys.path.pop(0)
    return SimpleNamespace(
        **vars(modules[0]),
        **{name: value for name, value in vars(modules[1]).items() if name not in vars(modules[0])},
    )


@pytest.fixture(scope="session")
def mini_path() -> Path:
    return GOLDEN / "mini_checkpoint.pkl.gz"


@pytest.fixture(scope="session")
def golden_rule():
    spec = importlib.util.spec_from_file_location(
        "_golden_rule_of_conversion", GOLDEN.parent / "golden_rule.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
