"""The folder that a command writes its pictures or files into, beside or apart from the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.disk import check_writable, write_json
from experiments.errors import InputError


def check(folder: Path, mark: str, others: Sequence[str], *, overwrite: bool) -> list[Path]:
    """The files of an earlier call that `claim` would remove; nothing is changed.

    Args:
      folder: that will be claimed, with the same further arguments.
      mark: see `claim`.
      others: see `claim`.
      overwrite: see `claim`.

    Raises:
      InputError: if there are such files that may not be removed.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; choose a folder as --output")
    earlier = sorted(path for pattern in (mark, *others) for path in folder.glob(pattern))
    if earlier:
        found = f"{folder} holds {earlier[0].relative_to(folder)} already"
        if not (folder / mark).is_file():
            raise InputError(f"{found}, not made by this command; choose another --output")
        if not overwrite:
            raise InputError(f"{found}; replace it with --overwrite, or choose another --output")
    return earlier


def claim(folder: Path, mark: str, others: Sequence[str], *, overwrite: bool) -> Path:
    """Make a folder ready for a command's files.

    Args:
      folder: made if missing; files of other names in it are left alone.
      mark: the command's json file, by which its folders are known; an empty one is written.
      others: patterns of the other files that it writes.
      overwrite: remove such files of an earlier call; only from a folder with the mark.

    Raises:
      InputError: if there are such files that may not be removed, or nothing can be written.
    """
    earlier = check(folder, mark, others, overwrite=overwrite)
    check_writable(folder, option="--output")
    for path in earlier:
        path.unlink()
    write_json(folder / mark, {})
    return folder
