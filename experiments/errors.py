"""Errors that a user can act on, and how a command ends with one."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def explained() -> Iterator[None]:
    """End the command with one line on stderr for an error that its user can act on.

    Wrap a command's `main`. Exit status 2 for bad input or a full disk, 130 for Ctrl-C; any other
    error is a bug of ours and keeps its traceback.
    """
    try:
        yield
    except (InputError, DiskFullError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(EXIT_BAD_INPUT) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(EXIT_INTERRUPTED) from None
    except OSError as error:
        if not is_disk_full(error):
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        print(f"error: the disk is full{where}; free some space and run again", file=sys.stderr)
        raise SystemExit(EXIT_BAD_INPUT) from None
