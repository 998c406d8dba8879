"""What is to be prepared: footage without cameras, and frames with cameras of other programs."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from pathlib import Path

from eg3d_jax.errors import InputError
from inversion.frames.scene_files import find_cameras


def expanded(path: Path) -> list[Path]:
    """The files and folders that a pattern matches; a path that is none by itself."""
    if not glob.has_magic(str(path)) or path.exists():
        return [path]
    # Patterns of any depth, absolute or not, which Path.glob does not take.
    return [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207


def split_sources(paths: Iterable[Path]) -> tuple[list[Path], dict[str, Path]]:
    """Tell paths of footage from those with cameras, which are given by name.

    A pattern that matches no cameras stays one.

    Raises:
      InputError: if two of the latter have one name.
    """
    footage: list[Path] = []
    scenes: list[Path] = []
    for path in paths:
        matches = expanded(path)
        found = [one for one in matches if find_cameras(one) is not None]
        footage += [one for one in matches if one not in found] if found else [path]
        scenes += found
    return footage, named_scenes(scenes)


def named_scenes(scenes: Iterable[Path]) -> dict[str, Path]:
    """Call folders with cameras by their names, files and models by their folders'.

    Raises:
      InputError: if two have one name.
    """
    named: dict[str, Path] = {}
    for path in scenes:
        folder = path.resolve() if path.is_dir() else path.resolve().parent
        if folder.name in named:
            raise InputError(f"several sources would be called {folder.name}; rename one of them")
        named[folder.name] = path
    return named


def check_apart(folders: Mapping[str, Path], names: Iterable[str]) -> None:
    """Refuse scenes that are called as footage is.

    Raises:
      InputError: naming one.
    """
    both = sorted(set(folders) & set(names))
    if both:
        raise InputError(f"several sources would be called {both[0]}; rename one of them")
