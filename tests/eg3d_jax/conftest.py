"""Generators with the weights of the golden fixtures, and a ledger of differences to PyTorch."""

import functools
import os
from types import ModuleType

import golden_rule as rule
import jax
import numpy as np
import pytest

from convert_weights.generator import expected_tensors, load_torch_state
from eg3d_jax.config import tiny

# Accelerators multiply with fewer bits by default, which costs two digits of parity. How many is
# what `experiments.benchmark.gpu_day` asks for.
jax.config.update(
    "jax_default_matmul_precision", os.environ.get("EG3D_JAX_TEST_PRECISION", "highest")
)

_LEDGER: dict[str, float] = {}


@pytest.fixture(scope="session")
def golden_rule() -> ModuleType:
    """The module `tests/golden_rule.py`."""
    return rule


@pytest.fixture(scope="session")
def build():
    """From a configuration to the generator with weights by rule."""

    def build(config):
        shapes = expected_tensors(config)
        weights = {name: rule.weight(name, shape) for name, shape in shapes.items()}
        return load_torch_state(config, weights)

    return build


@pytest.fixture(scope="session")
def named_generator(build):
    """From a name in configs.json to its generator; built once a session."""
    return functools.cache(lambda name: build(rule.generator_config(name)))


@pytest.fixture(scope="session")
def tiny_generator(build):
    """The smallest generator, with weights by rule."""
    return build(tiny())


@pytest.fixture(scope="session")
def within():
    """Assert that an error stays within a bound, and remember it for the table at the end."""

    def within(group: str, error: float, bound: float):
        _LEDGER[group] = float(np.maximum(_LEDGER.get(group, 0.0), error))
        assert error <= bound, f"{group}: {error:.3g} > {bound:.3g}"

    return within


@pytest.fixture(scope="session")
def close(within):
    """`within` for the largest absolute difference of two arrays of the same shape."""

    def close(group: str, actual, wanted, bound: float):
        actual, wanted = np.asarray(actual), np.asarray(wanted)
        assert actual.shape == wanted.shape, (group, actual.shape, wanted.shape)
        within(group, np.abs(actual - wanted).max(), bound)

    return close


def pytest_terminal_summary(terminalreporter):
    if _LEDGER:
        terminalreporter.section("largest differences to PyTorch")
        for group, error in sorted(_LEDGER.items()):
            terminalreporter.write_line(f"{group:<48} {error:.1e}")
