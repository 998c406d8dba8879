"""A command ends with one line for what its user can mend, and a traceback for our own faults."""

import errno
import warnings

import pytest

from eg3d_jax.errors import DiskFullError, InputError, is_disk_full, report_user_errors


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (InputError("frames do not exist"), 2, "error: frames do not exist\n"),
        (DiskFullError("the disk is full: nothing lost"), 2, "error: the disk is full: nothing"),
        (OSError(errno.ENOSPC, "No space", "a.png"), 2, "disk is full while writing a.png; free"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_mendable_errors_are_one_line(capsys, error, status, says):
    with pytest.raises(SystemExit) as caught, report_user_errors():
        raise error
    assert caught.value.code == status
    message = capsys.readouterr().err
    assert says in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError(errno.EIO, "broken disk")])
def test_other_errors_keep_their_traceback(error):
    with pytest.raises(type(error)), report_user_errors():
        raise error


def test_a_warning_is_one_line(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # put back afterwards
    with report_user_errors():
        shown = warnings.formatwarning("a state is damaged", UserWarning, "states.py", 166)
    assert shown == "warning: a state is damaged\n"


def test_a_full_disk_is_recognised_through_other_errors():
    error = RuntimeError("saving failed")
    error.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    assert is_disk_full(error)
    assert is_disk_full(ValueError("RESOURCE_EXHAUSTED: ... No space left on device"))
    assert not is_disk_full(ValueError("something else"))
