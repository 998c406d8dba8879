"""Errors that a user can act on, and the start and end of every command."""

from __future__ import annotations

import dataclasses
import errno
import io
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jax

# As in shells: 2 for bad usage or input, 130 for Ctrl-C, 141 for an output that nobody reads.
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

_X64 = "JAX_ENABLE_X64"
_DEVICE_VARIABLES = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")
# No option of any command needs more; seeds end there.
_LARGEST = 2**32 - 1

Options = TypeVar("Options")


class InputError(ValueError):
    """Input that cannot be used; the message is one sentence naming what, and what to do."""


class SetupError(RuntimeError):
    """Devices or settings that JAX lacks on this machine; no fault of any file."""


class DiskFullError(OSError):
    """The disk filled up while writing; the message says what is still intact."""


def run(
    main: Callable[[Options], int | None], parse: Callable[[], Options], *, interrupted: str = ""
) -> NoReturn:
    """Start a command, and end the process with its status; see `report_user_errors`.

    Args:
      main: the command; returns its exit status, None for 0.
      parse: reads the options, a dataclass.
      interrupted: what to do after Ctrl-C.
    """
    _open_streams()
    with report_user_errors(interrupted):
        options = parse()
        check_numbers(options)
        use_float32()
        check_devices()
        status = main(options) or 0
        sys.stdout.flush()
    sys.exit(status)


@contextmanager
def report_user_errors(interrupted: str = "") -> Iterator[None]:
    """End the command with one line on stderr for an error that its user can act on.

    Warnings are a line each, too. Exit status 2 for bad input, files that cannot be read or
    written, a full disk or too little memory, 130 for Ctrl-C, 141 if nobody reads the output; any
    other error is a bug of ours and keeps its traceback.

    Args:
      interrupted: what to do after Ctrl-C.
    """
    warnings.formatwarning = _one_line
    try:
        try:
            yield
        except SystemExit:  # the help is printed
            sys.stdout.flush()
            raise
    except KeyboardInterrupt as interrupt:
        advice = str(interrupt) or interrupted
        _end(f"interrupted{advice and ': '}{advice}", EXIT_INTERRUPTED)
    except BrokenPipeError:
        _end("", EXIT_BROKEN_PIPE)
    except Exception as error:
        words = explanation(error)
        if words is None:
            raise
        _end("error: " + " ".join(words.split()), EXIT_BAD_INPUT)


def explanation(error: Exception) -> str | None:
    """Explain an error to a user in a sentence; None if it is a bug of ours."""
    if isinstance(error, InputError | SetupError | DiskFullError):
        return str(error)
    if is_disk_full(error):
        # The second file name of a copy is the one that is written.
        name = getattr(error, "filename2", None) or getattr(error, "filename", None)
        where = f" while writing {name}" if name else ""
        return f"the disk is full{where}; free some space and run again"
    if is_out_of_memory(error):
        return (
            f"the memory of a device is exhausted ({_first_line(error)}); do less at once "
            "(--memory-budget, --videos-at-once, --views-at-once, --rays-at-once where the command "
            "has them), or free some of it"
        )
    if isinstance(error, MemoryError):
        return f"this machine's memory is exhausted ({_first_line(error)}); ask for less"
    if isinstance(error, OSError) and error.filename is not None:
        name = os.fsdecode(error.filename)
        what = error.strerror or error
        return f"{name}: {what}; check the path, and what may be read or written there"
    return None


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


def check_devices() -> None:
    """Refuse to start if JAX has none of the devices asked for.

    Raises:
      SetupError: naming the variable that asks.
    """
    try:
        jax.devices()
    except Exception as error:  # JAX answers with many kinds, one of them without a word
        asked = [f"{name}={os.environ[name]}" for name in _DEVICE_VARIABLES if name in os.environ]
        reason = _first_line(error).split(" (set JAX_PLATFORMS")[0]
        raise SetupError(
            f"{' and '.join(asked) or 'JAX'}: there is no such device here, or its part of JAX is "
            f"not installed{reason and f' ({reason})'}; unset {_DEVICE_VARIABLES[0]}, or set it to "
            "cpu"
        ) from error


def use_float32() -> None:
    """Compute in float32, whatever JAX_ENABLE_X64 asks for."""
    if jax.config.read("jax_enable_x64"):
        warnings.warn(f"{_X64} has no effect: all is computed in float32", stacklevel=2)
        jax.config.update("jax_enable_x64", False)
        os.environ[_X64] = "0"  # of the processes that a command starts


def check_float32() -> None:
    """Refuse JAX's 64 bits where the calling program has turned them on.

    Raises:
      SetupError: naming the variable.
    """
    if jax.config.read("jax_enable_x64"):
        raise SetupError(
            f"eg3d_jax computes in float32, but {_X64} is on; unset it, or call "
            "jax.config.update('jax_enable_x64', False) first"
        )


def check_numbers(options: Any, prefix: str = "--") -> None:
    """Refuse numbers that no option can take: not finite, or beyond 32 bits.

    Args:
      options: a dataclass; those in it are looked through, too.
      prefix: of the options' names.

    Raises:
      InputError: naming the option.
    """
    for field in dataclasses.fields(options):
        value, name = getattr(options, field.name), prefix + field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            check_numbers(value, f"{name}.")
        for number in value if isinstance(value, tuple) else (value,):
            if not isinstance(number, int | float):
                continue
            if not math.isfinite(number):
                raise InputError(f"{name} {number} must be a finite number")
            if abs(number) > _LARGEST:
                raise InputError(f"{name} {number:.6g} must be at most {_LARGEST}")


def _open_streams() -> None:
    """Keep closed streams and unprintable characters from ending the command."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _end(words: str, status: int) -> NoReturn:
    """Print the reason on stderr and exit; no further error if an output is closed."""
    try:
        sys.stdout.flush()
        if words:
            print(words, file=sys.stderr, flush=True)
    except BrokenPipeError:
        status = EXIT_BROKEN_PIPE
    if status == EXIT_BROKEN_PIPE:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(status) from None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")


def _one_line(message: Warning | str, *_: object, **__: object) -> str:
    """Format a warning without the place in the code, which is not its user's."""
    return f"warning: {message}\n"
