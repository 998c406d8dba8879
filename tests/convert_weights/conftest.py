import importlib.util
from pathlib import Path

import pytest

from convert_weights.generator import read_generator
from convert_weights.pickle_reader import read_pickle

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


@pytest.fixture
def convert(tmp_path, writer):
    """Write a checkpoint of a configuration, read it back."""

    def run(config, *arguments, **keywords):
        path = tmp_path / "x.pkl"
        path.write_bytes(writer.checkpoint_bytes(config, *arguments, **keywords))
        return read_generator(read_pickle(path))

    return run
