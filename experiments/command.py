"""Start and end of every command: compilation cache, limits of its numbers, Ctrl-C."""

from __future__ import annotations

import logging
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import jax
import tyro

from eg3d_jax import errors
from eg3d_jax.errors import InputError

Options = TypeVar("Options")


def start(
    main: Callable[[Options], int | None],
    options: type[Options],
    *,
    name: str,
    prog: str | None = None,
    interrupted: str = "",
    cached: bool = True,
) -> NoReturn:
    """Run a command and end the process with its status; see `eg3d_jax.errors.run`.

    Args:
      main: the command; returns its exit status, None for 0.
      options: the dataclass of its options; its docstring is their help.
      name: of the command's module, as `python -m` takes it.
      prog: how the command was called, for its help; `python -m NAME` if not given.
      interrupted: what to do after Ctrl-C.
      cached: whether compiled programs are kept for the next start.
    """
    quiet_cache_loader()
    if cached:
        enable_compilation_cache()
    prog = prog or f"python -m {name}"
    errors.run(main, lambda: tyro.cli(options, prog=prog), interrupted=interrupted)


def quiet_cache_loader() -> None:
    """Silence the log of XLA's own code; what really fails there is raised as well.

    Its loader of cached programs warns of each, by mistake: it takes compiler flags for features of
    the machine. JAX's warnings from Python are shown as ever, and a level that the user chose by
    TF_CPP_MIN_LOG_LEVEL or JAX_LOGGING_LEVEL holds.
    """
    # JAX itself sets the first to 1. XLA reads it when it is imported, before any command starts.
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") != "1" or "JAX_LOGGING_LEVEL" in os.environ:
        return
    loggers = [logging.getLogger(name) for name in ("jax", "jaxlib")]
    before = [(logger.level, logger.handlers[:]) for logger in loggers]
    jax.config.update("jax_logging_level", "CRITICAL")
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers


OFF_VARIABLE = "EG3D_JAX_NO_CACHE"
_MIN_COMPILE_SECONDS = 1.0


def enable_compilation_cache() -> Path | None:
    """Keep compiled programs in the user's cache folder, so that a second start is quick.

    What lies in the folder is a trusted input: JAX loads compiled programs from it and runs them,
    and checks no signature. The folder is `eg3d_jax/xla` below XDG_CACHE_HOME or ~/.cache, made so
    that nobody else can open it, and not used if others could have written to it. JAX's own
    variable JAX_COMPILATION_CACHE_DIR goes before it; point that only at folders that nobody else
    can write. Programs that compile within a second are not kept.

    Returns:
      The folder, or None if EG3D_JAX_NO_CACHE is set (to anything but 0 and the empty string) or
      the folder cannot be written, or others can write to it.
    """
    jax.config.update("jax_compilation_cache_dir", None)
    if os.environ.get(OFF_VARIABLE, "0") not in ("", "0"):
        return None
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    try:
        folder = Path(chosen) if chosen else _user_cache() / "eg3d_jax" / "xla"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK) or not (chosen or _is_private(folder)):
            return None
    except (OSError, RuntimeError):  # of a user without a home
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_COMPILE_SECONDS)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def _is_private(folder: Path) -> bool:
    found = folder.stat()
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _user_cache() -> Path:
    # The XDG standard: a relative path is to be ignored.
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return chosen if chosen.is_absolute() else Path.home() / ".cache"


MAX_SEED = 2**32 - 1


def check_seed(seed: int) -> None:
    """Refuse a seed out of range.

    Raises:
      InputError: naming it.
    """
    if not 0 <= seed <= MAX_SEED:
        raise InputError(f"seed {seed} is outside 0 to {MAX_SEED}; choose another")


@dataclass
class Interrupt:
    """Whether the user asked to stop."""

    asked: bool = False


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Turn the first Ctrl-C (or SIGTERM) into a request; a second interrupts at once.

    Only the main thread can do so; elsewhere nothing changes.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}

    def note(number: int, _frame) -> None:
        interrupt.asked = True
        signal.signal(number, signal.default_int_handler)

    for number in signals:
        signal.signal(number, note)
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_limits(args: Any, limits: Mapping[str, tuple[float, float]]) -> None:
    """Refuse numbers outside their limits; None, an option that is not given, passes.

    Args:
      args: a command's.
      limits: least and largest value by name of the option.

    Raises:
      InputError: naming the option.
    """
    for name, (least, largest) in limits.items():
        value = getattr(args, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not least <= number <= largest:
                shown = f"--{name.replace('_', '-')} {number}"
                raise InputError(f"{shown} must be from {least:.10g} to {largest:.10g}")
