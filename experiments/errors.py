"""Errors that a user can act on, and how a command ends with one."""

from __future__ import annotations

import errno
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import jax

# As a shell's own: 2 for bad usage or input, 130 for Ctrl-C.
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


class InputError(ValueError):
    """Input that cannot be used; the message is one sentence naming what, and what to do."""


class DiskFullError(OSError):
    """The disk filled up while writing; the message says what is still intact."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that caused it, says that the disk or a quota is full."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        # Tensorstore reports the operating system's errors in the text of its own.
        if "No space left on device" in str(seen) or "ENOSPC" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of JAX says that a device's memory is exhausted."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def _one_line(message: Warning | str, *_: object, **__: object) -> str:
    """A warning without the place in the code, which is not its user's."""
    return f"warning: {message}\n"


@contextmanager
def explained(interrupted: str = "") -> Iterator[None]:
    """End the command with one line on stderr for an error that its user can act on.

    Warnings are a line each, too.

    Wrap a command's `main`. Exit status 2 for bad input, a full disk or too little memory, 130 for
    Ctrl-C; any other error is a bug of ours and keeps its traceback.

    Args:
      interrupted: what to do after Ctrl-C.
    """
    warnings.formatwarning = _one_line
    try:
        yield
    except (InputError, DiskFullError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(EXIT_BAD_INPUT) from None
    except KeyboardInterrupt as interrupt:
        advice = str(interrupt) or interrupted
        print(f"interrupted{advice and ': '}{advice}", file=sys.stderr)
        raise SystemExit(EXIT_INTERRUPTED) from None
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        print(
            f"error: a device is out of memory ({reason}); do less at once (--memory-budget, "
            "--videos-at-once, --views-at-once, --rays-at-once where the command has them), or "
            "free some of it",
            file=sys.stderr,
        )
        raise SystemExit(EXIT_BAD_INPUT) from None
    except OSError as error:
        if not is_disk_full(error):
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        print(f"error: the disk is full{where}; free some space and run again", file=sys.stderr)
        raise SystemExit(EXIT_BAD_INPUT) from None
