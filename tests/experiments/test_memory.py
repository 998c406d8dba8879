"""Less is done at once until a plan fits, and what does not fit is said before the start."""

from pathlib import Path

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eg3d_jax.errors import InputError, report_user_errors
from inversion.fitting.memory import BatchSizes, device_memory, fit_in_memory, narrower

WIDE = BatchSizes(videos=8, views=7, rays=4096)


def fitting(budget):
    sizes, planned = fit_in_memory(lambda sizes: (peak(sizes), str(sizes)), WIDE, budget, str)
    assert planned == str(sizes)  # what was compiled for the very sizes
    return sizes


def peak(sizes):
    """A gigabyte that is always there, and a kilobyte for each ray at once."""
    return 10**9 + 1000 * sizes.videos * sizes.views * sizes.rays


def test_all_is_done_at_once_where_it_fits():
    assert fitting(None) == WIDE
    assert fitting(2e9) == WIDE


@pytest.mark.parametrize("budget", [1.1e9, 1.02e9, 1.001e9, 1.00007e9])
def test_what_is_done_at_once_fits_the_budget(budget):
    sizes = fitting(budget)
    assert peak(sizes) <= budget
    assert WIDE.rays % sizes.rays == 0
    assert (sizes.views == WIDE.views) or sizes.videos == 1  # videos are the first to wait
    assert (sizes.rays == WIDE.rays) or sizes.views == 1


def test_what_never_fits_is_refused():
    with pytest.raises(InputError, match=r"need 1\.00 GB of memory, more than the 0\.90 GB"):
        fitting(0.9e9)


@given(
    st.builds(
        BatchSizes, videos=st.integers(1, 9), views=st.integers(1, 9), rays=st.integers(1, 5000)
    ),
    st.floats(0.01, 0.99),
)
def test_narrower_is_smaller_until_nothing_is_left(sizes, ratio):
    size, left = sizes.videos * sizes.views * sizes.rays, narrower(sizes, ratio)
    if left is None:
        assert sizes.videos == sizes.views == 1
    else:
        assert 0 < left.videos * left.views * left.rays < size
        assert sizes.rays % left.rays == 0


@pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="no Linux, which would tell")
def test_this_machine_tells_its_memory():
    found = device_memory()
    assert found is not None
    assert found > 1e8


def test_out_of_memory_becomes_advice(capsys):
    with pytest.raises(SystemExit) as stop, report_user_errors():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert "--memory-budget" in said
    assert "--views-at-once" in said
    with pytest.raises(jax.errors.JaxRuntimeError), report_user_errors():
        raise jax.errors.JaxRuntimeError("INTERNAL: of another kind")


def test_ctrl_c_tells_how_to_go_on(capsys):
    with pytest.raises(SystemExit) as stop, report_user_errors(interrupted="use --resume"):
        raise KeyboardInterrupt
    assert stop.value.code == 130
    assert capsys.readouterr().err == "interrupted: use --resume\n"
