"""Shares compiled programs between the tests, and finds the modules that write checkpoints."""

import ctypes
import gc
import importlib
import os
import shutil
import sys
import tempfile
import threading
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import pytest

_CACHE = "JAX_COMPILATION_CACHE_DIR"
_QUICK = "jax_disable_most_optimizations"
# XLA's way to compile loops takes more than half of the time that is left without optimisations,
# and a tenth of the rest goes into cutting programs in parts for threads, of which there are none.
_FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
# XLA ends a process at a flag that it does not know, and flags come and go.
_FLAGS_ARE_KNOWN_TO = "0.10.1"
# Of one worker; the gradients of the generators take 5 GB more, and a machine may have 16.
_MOST_MEMORY = 2_500_000_000


# The same examples each time, so that a change fails for what it does; new ones are sought by the
# long tests. No deadline: a machine may have other work.
hypothesis.settings.register_profile(
    "suite", derandomize=not os.environ.get("EG3D_JAX_LONG_TESTS"), deadline=None
)
hypothesis.settings.load_profile("suite")


def pytest_configure(config):
    """Keep compiled programs for this session, so that no two workers or commands compile the same.

    Or for longer, in a folder that the variable names. JAX reads the variables when it is imported;
    workers and commands inherit them.
    """
    # Tracing makes and drops objects by the million; looking through them for cycles at Python's
    # usual pace takes a ninth of the tests' time.
    gc.set_threshold(100_000, 20, 10)
    if hasattr(config, "workerinput"):
        return
    if version("jaxlib") == _FLAGS_ARE_KNOWN_TO and not os.environ.get("EG3D_JAX_LONG_TESTS"):
        # The long tests, and those with other releases, show that results do not depend on it.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}".strip()
    if _CACHE not in os.environ:
        os.environ[_CACHE] = config.compiled = tempfile.mkdtemp(prefix="eg3d_jax_tests_")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    # Where in the code an operation comes from, which takes a fifth of the time to trace it.
    os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
    # See `command.quiet_cache_loader`; JAX, imported by a plugin, has set it to 1 by now.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def pytest_unconfigure(config):
    if folder := getattr(config, "compiled", None):
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items):
    """Long work comes first, so that workers end together; what is compiled in full, before it."""
    groups = Counter()
    for item in items:
        groups[_group(item.nodeid)] += 10.0 if item.get_closest_marker("slow") else 0.2

    def order(item):
        quick, group = item.get_closest_marker("compiled_in_full") is None, _group(item.nodeid)
        return quick, -groups[group], group

    items.sort(key=order)


# Inversions of the same settings (`short_runs`): a worker compiles their steps once.
_INVERSIONS = (
    *("test_invert", "test_library", "test_many_videos", "test_notebook", "test_readme"),
    "test_start_from",
)


def _group(nodeid: str) -> str:
    """What one worker runs from beginning to end: a file, as its tests share what they make."""
    file = nodeid.partition("::")[0]
    return "inversions" if Path(file).stem in _INVERSIONS else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give the next group to the worker that has least to do, in the order from above."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    config.option.loadscopereorder = False
    return ByGroup(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Compile with few optimisations, as most of what is compiled here runs a few times.

    Not for a test marked `compiled_in_full`: what is compared with PyTorch's numbers is compiled as
    users have it, and so is what runs longer than it compiles.
    """
    import jax  # after the variables above are set

    quick = item.get_closest_marker("compiled_in_full") is None
    if version("jaxlib") != _FLAGS_ARE_KNOWN_TO:
        # jaxlib 0.12.0 ended two of two runs by a segmentation fault in a test of the library. It
        # does not where it compiles as users have it.
        quick &= item.path.is_relative_to(Path(__file__).parent / "experiments")
    before = os.environ.get(_QUICK.upper())
    os.environ[_QUICK.upper()] = str(int(quick))  # of the commands that the tests start
    if before != os.environ[_QUICK.upper()]:
        jax.clear_caches()  # else what was compiled for one test would serve another one
        jax.config.update(_QUICK, quick)
        _give_back_memory()


def pytest_runtest_teardown(item, nextitem):
    """Forget what was compiled for tests of other groups, where that has become much."""
    ends = nextitem is None or _group(nextitem.nodeid) != _group(item.nodeid)
    if ends and _memory() > _MOST_MEMORY:
        import jax

        jax.clear_caches()
        _give_back_memory()


def _memory() -> int:
    """Bytes of this process in memory; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _give_back_memory():
    """Free what nothing uses; glibc would keep most of it for the process."""
    gc.collect()
    if sys.platform == "linux":
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)


@pytest.fixture(autouse=True, scope="session")
def _few_views():
    """Render four views at a time and turntables of eight: no test looks at each of 96."""
    from experiments.invert import outputs
    from inversion import result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outputs, "TURNTABLE_FRAMES", 8)
        patch.setattr(result, "BATCH", 4)
        yield


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
