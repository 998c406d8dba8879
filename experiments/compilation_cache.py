"""JAX's persistent compilation cache, so that the second start of a command is quick.

What lies in its folder is a trusted input: JAX loads compiled programs from it and runs them, and
checks no signature. Point JAX_COMPILATION_CACHE_DIR only at folders that nobody else can write.
"""

from __future__ import annotations

import os
from pathlib import Path

import jax

OFF_VARIABLE = "EG3D_JAX_NO_CACHE"
_MIN_COMPILE_SECONDS = 1.0


def enable() -> Path | None:
    """Keep compiled programs in the user's cache folder; every command calls this first.

    The folder is `eg3d_jax/xla` below XDG_CACHE_HOME or ~/.cache; JAX's own variable
    JAX_COMPILATION_CACHE_DIR goes before it. Programs that compile within a second are not kept.
    Programs in the folder are trusted.

    Returns:
      The folder, or None if EG3D_JAX_NO_CACHE is set (to anything but 0 and the empty string) or
      the folder cannot be written.
    """
    jax.config.update("jax_compilation_cache_dir", None)
    if os.environ.get(OFF_VARIABLE, "0") not in ("", "0"):
        return None
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    try:
        folder = Path(chosen) if chosen else _user_cache() / "eg3d_jax" / "xla"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # of a user without a home
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_COMPILE_SECONDS)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def _user_cache() -> Path:
    # The XDG standard: a relative path is to be ignored.
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return chosen if chosen.is_absolute() else Path.home() / ".cache"
