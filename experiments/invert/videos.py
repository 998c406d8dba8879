"""Find videos from what `--frames` names: folders, patterns of folders, lists in text files."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from eg3d_jax.errors import InputError
from experiments.prepare.sources import is_list, listed


def is_one_folder(sources: Sequence[Path]) -> bool:
    """Whether a single folder is named directly, and so no list is meant."""
    return len(sources) == 1 and not _is_pattern(sources[0]) and not is_list(sources[0])


def find_videos(sources: Sequence[Path]) -> dict[str, Path]:
    """Find folders of frames by name: the folder's, or PARENT-FOLDER where two agree.

    Args:
      sources: folders; patterns such as 'videos/*', of which folders count; and text files with
        one folder a line, relative to the file, in which empty lines and lines from # on are left
        out.

    Raises:
      InputError: if no source is given, a pattern or a file names nothing, a file cannot be read,
        or a folder is named twice.
    """
    if not sources:
        raise InputError("--frames names nothing; name folders of frames")
    folders: list[Path] = []
    for source in sources:
        if _is_pattern(source):
            # Patterns of any depth, absolute or not, which Path.glob does not take.
            names = sorted(glob.glob(str(source), recursive=True))  # noqa: PTH207
            found = [Path(name) for name in names if Path(name).is_dir()]
            problem = "matches no folder"
        elif is_list(source):
            found, problem = listed(source), "lists no folder"
        else:
            found, problem = [source], ""
        if not found:
            raise InputError(f"--frames {source} {problem}; name folders of frames")
        folders += found
    return _named(folders)


def _is_pattern(source: Path) -> bool:
    return glob.has_magic(str(source)) and not source.exists()


def _named(folders: Sequence[Path]) -> dict[str, Path]:
    resolved = [folder.resolve() for folder in folders]
    twice = sorted({str(folder) for folder in resolved if resolved.count(folder) > 1})
    if twice:
        raise InputError(f"--frames names {twice[0]} twice; name each folder once")
    short = [folder.name for folder in resolved]
    names = [
        f"{folder.parent.name}-{folder.name}" if short.count(folder.name) > 1 else folder.name
        for folder in resolved
    ]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"--frames has several folders that would be called {name}; rename one of them"
            )
    return dict(zip(names, folders, strict=True))
