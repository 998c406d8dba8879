"""Shares compiled programs between the tests, and finds the modules that write checkpoints."""

import functools
import gc
import importlib
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import pytest

_CACHE = "JAX_COMPILATION_CACHE_DIR"
_QUICK = "jax_disable_most_optimizations"
_EMITTERS = "xla_cpu_use_fusion_emitters"


# The same examples each time, so that a change fails for what it does; new ones are sought by the
# long tests. No deadline: a machine may have other work.
hypothesis.settings.register_profile(
    "suite", derandomize=not os.environ.get("EG3D_JAX_LONG_TESTS"), deadline=None
)
hypothesis.settings.load_profile("suite")


def pytest_configure(config):
    """Keep compiled programs for this session, so that no two workers or commands compile the same.

    JAX reads the variables when it is imported; workers and commands inherit them.
    """
    # Tracing makes and drops objects by the million; looking through them for cycles at Python's
    # usual pace takes a ninth of the tests' time.
    gc.set_threshold(100_000, 20, 10)
    if not hasattr(config, "workerinput") and _CACHE not in os.environ:
        os.environ[_CACHE] = config.compiled = tempfile.mkdtemp(prefix="eg3d_jax_tests_")
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
        # See `command.quiet_cache_loader`; JAX, imported by a plugin, has set it to 1 by now.
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def pytest_unconfigure(config):
    if folder := getattr(config, "compiled", None):
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items):
    """Tests of the whole come first: one is the longest, and no worker should end with it."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


@functools.cache
def _is_known(option: str) -> bool:
    """Whether XLA has this compile option: they come and go with releases."""
    import jax

    try:
        jax.jit(lambda: 0, compiler_options={option: False})()
    except jax.errors.JaxRuntimeError:  # no such option
        return False
    return True


@pytest.fixture(autouse=True, scope="module")
def _compiled_quickly(request):
    """Compile what the commands run with few optimisations, as much of it runs but a few steps.

    Everything that is compared with PyTorch's numbers is compiled as users have it, and so is a
    module marked `computes_much`.
    """
    experiments = Path(__file__).parent / "experiments"
    computes_much = request.node.get_closest_marker("computes_much")
    if experiments not in request.path.parents or computes_much:
        yield
        return
    import jax  # after the variables above are set
    from jax._src import compiler

    ordinary = compiler.get_compile_options

    def without_emitters(*args, env_options_overrides=None, **others):
        # They take more than half of the time once optimisations are off; the other way to get
        # at them, XLA_FLAGS, holds for all that a process compiles.
        overrides = {**(env_options_overrides or {}), _EMITTERS: False}
        return ordinary(*args, env_options_overrides=overrides, **others)

    with pytest.MonkeyPatch.context() as patch:
        if _is_known(_EMITTERS):
            patch.setattr(compiler, "get_compile_options", without_emitters)
        patch.setenv(_QUICK.upper(), "1")  # of the commands that the tests start
        jax.config.update(_QUICK, True)
        yield
        jax.config.update(_QUICK, False)


@pytest.fixture
def no_thread_stays():
    """Fail a test that leaves a thread at work, such as one that waits for a failed save."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(30)  # those of an event loop that has ended do so at once
        assert not thread.is_alive()


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
