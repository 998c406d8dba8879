"""Tab completion of all commands and their options, by tyro; its script imports nothing of ours."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, NoReturn, Union

import tyro

from eg3d_jax.errors import InputError, report_user_errors

SHELLS = ("bash", "zsh", "fish")


def complete(
    commands: Mapping[str, tuple[str, str]], program: str, words: Sequence[str]
) -> NoReturn:
    """Write the script that completes the program's commands in a shell, and end the process.

    Args:
      commands: module and summary by name, of one word or two.
      program: what is typed in front of them.
      words: tyro's flag, the shell, and the file if the flag is to write one.
    """
    with report_user_errors():
        if len(words) != (3 if "write" in words[0] else 2) or words[1] not in SHELLS:
            shells = f"a shell ({', '.join(SHELLS)})"
            wanted = f"{shells} and a file" if "write" in words[0] else shells
            raise InputError(f"{words[0]} needs {wanted}, not '{' '.join(words[1:])}'")
        tyro.cli(subcommands(commands), prog=program, args=words)
    raise SystemExit


def subcommands(commands: Mapping[str, tuple[str, str]]) -> Any:
    """Union type from which tyro reads all names and options."""
    members = []
    for first in dict.fromkeys(name.split()[0] for name in commands):
        below = [
            _named(name.split()[1], _options(module), summary)
            for name, (module, summary) in commands.items()
            if name.startswith(f"{first} ")
        ]
        if first not in commands:
            members.append(_named(first, _one_of(below), first))
            continue
        module, summary = commands[first]
        options = _options(module)
        if below:  # a command of its own, and the first word of others
            further = [("further_command", tyro.conf.OmitArgPrefixes[_one_of(below)])]
            options = dataclasses.make_dataclass(
                "Args", further, bases=(options,), frozen=True, kw_only=True
            )
        members.append(_named(first, options, summary))
    return _one_of(members)


def _options(module: str) -> Any:
    return importlib.import_module(module).Args


def _named(name: str, options: Any, summary: str) -> Any:
    settings = tyro.conf.subcommand(name, description=summary, prefix_name=False)
    return Annotated[options, settings]


def _one_of(members: Iterable[Any]) -> Any:
    return Union[tuple(members)]  # noqa: UP007 (they are known only now)
