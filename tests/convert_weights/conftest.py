import importlib.util
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden"


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
