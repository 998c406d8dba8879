"""What is to be prepared: footage without cameras, and frames with cameras of other programs."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from pathlib import Path

from eg3d_jax.errors import InputError
from inversion.footage.pictures import film_of
from inversion.frames.scene_files import find_cameras, home_of


def expanded(path: Path) -> list[Path]:
    """What a pattern matches, or a list names; a path that is neither by itself.

    Raises:
      InputError: if a list cannot be read.
    """
    if is_list(path):
        return listed(path)
    if not glob.has_magic(str(path)) or path.exists():
        return [path]
    # Patterns of any depth, absolute or not, which Path.glob does not take.
    return [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207


def is_list(path: Path) -> bool:
    """Whether a path is a text file that names others, one a line."""
    return path.suffix.lower() == ".txt" and not path.is_dir()


def has_cameras(path: Path) -> bool:
    """Whether a path has cameras of another program that tell how a head is seen.

    One that stands still before a head that moves tells nothing: that is footage.
    """
    return find_cameras(path) is not None and film_of(path) is None


def listed(path: Path) -> list[Path]:
    """The paths that a text file names, one a line, relative to the file.

    Empty lines and lines from # on are left out.

    Raises:
      InputError: if the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); it must name a path a line") from None
    names = [line.split("#", 1)[0].strip() for line in lines]
    return [path.parent / name for name in names if name]


def split_sources(paths: Iterable[Path]) -> tuple[list[Path], dict[str, Path]]:
    """Tell paths of footage from those with cameras, which are given by name.

    A pattern that matches no cameras stays one; lists do not.

    Raises:
      InputError: if two of the latter have one name, or a list names nothing or cannot be read.
    """
    footage: list[Path] = []
    scenes: list[Path] = []
    for path in paths:
        matches = expanded(path)
        found = [one for one in matches if has_cameras(one)]
        if not matches and is_list(path):
            raise InputError(f"{path} names nothing; put footage there, a path a line")
        whole = not found and not is_list(path)
        footage += [path] if whole else [one for one in matches if one not in found]
        scenes += found
    return footage, named_scenes(scenes)


def named_scenes(scenes: Iterable[Path]) -> dict[str, Path]:
    """Call folders with cameras by their names, files and models by their folders'.

    Raises:
      InputError: if two have one name.
    """
    named: dict[str, Path] = {}
    for path in scenes:
        folder = home_of(path)
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
