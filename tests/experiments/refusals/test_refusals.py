"""Whatever a command refuses, it leaves its folder as it was, and says why in one sentence."""

import dataclasses
import shutil
import typing
from pathlib import Path

import pytest
import tyro

from experiments import __main__ as door

from .conftest import COMMANDS

# None of any option, and never let through.
NO_NUMBERS = ("nan", "inf", "-inf", "1e30", "1" + 12 * "0")
each = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)


def options_of(args, kind, prefix="--"):
    """Names of options whose type is, or may be, or holds several of that kind."""
    hints = typing.get_type_hints(args, include_extras=True)
    for field in dataclasses.fields(args):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            yield from options_of(hint, kind, f"{prefix}{field.name}.")
        elif kind in flat(hint):
            positional = tyro.conf.Positional in flat(hint)
            yield field.name, "" if positional else f"{prefix}{field.name}".replace("_", "-")


def flat(hint) -> set:
    """All types that a type is made of."""
    found = {hint, *getattr(hint, "__metadata__", ())}
    for part in typing.get_args(hint):
        found |= flat(part)
    return found


def replaced(options, option, position, values):
    """The options with another value of one of them."""
    options = list(options)
    if not option:  # positional
        options[position : position + 1] = values
    elif option in options:
        at = options.index(option)
        options[at : at + 2] = [option, *values]
    else:
        options += [option, *values]
    return options


def bad_paths(at, out):
    """Neither a file nor a folder of any command; and a missing one."""
    return [
        at / "missing", at / "text.txt", at / "empty", at / "empty folder", at / "frames" / "0.png",
        at / "text.txt" / "below a file", at / ("long" * 100), at,
    ]  # fmt: skip


def contents(folder):
    """All that a folder holds, and when the files were written."""
    return {
        path.relative_to(folder): path.is_file() and (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() or path.is_dir()
    }


@pytest.fixture
def refused(start, at, tmp_path):
    """Call a command with bad options, on an earlier result and on none; complaints about it.

    The inputs, which are many, are looked at after all calls.
    """
    inputs = contents(at)

    def call(command, options_for):
        complaints = []
        for earlier in (True, False):
            home = tmp_path / f"{command.name} {earlier}"
            out = home / "out"
            if not home.exists():
                home.mkdir()
                if earlier:
                    command.earlier(out)
            before = contents(home)
            more = ["--overwrite"] * (earlier and command.overwrite)
            options = options_for(out) + more
            status, said = start(command, options)
            shown = " ".join(map(str, options)).replace(str(tmp_path), ".").replace(str(at), ".")
            if contents(home) != before:
                complaints.append(f"{shown}: changed its folder ({said})")
                shutil.rmtree(home)
            if status != 2:
                complaints.append(f"{shown}: status {status} ({said})")
                continue
            lines = [line for line in said.splitlines() if not line.startswith("warning: ")]
            ours = len(lines) == 1 and lines[0].startswith("error: ")
            if "Traceback" in said or not (ours or "full helptext" in said):  # tyro's
                complaints.append(f"{shown}: not one sentence: {said}")
        return complaints

    yield call
    assert contents(at) == inputs


@each
def test_an_end_in_the_midst_of_work_leaves_the_folder(command, start, at, tmp_path):
    for earlier in (True, False):
        out = tmp_path / str(earlier)
        if earlier:
            command.earlier(out)
        before = contents(tmp_path)
        more = ["--overwrite"] * (earlier and command.overwrite)
        status, said = start(command, command.call(at, out) + more)
        assert status == "ready", said
        assert contents(tmp_path) == before


@each
def test_an_earlier_result_is_replaced_only_if_told_to(command, start, at, tmp_path):
    if not command.overwrite:
        pytest.skip("it goes on, or writes one more")
    if command.outputs:
        command.earlier(tmp_path / "out")
        before = contents(tmp_path)
        status, said = start(command, command.call(at, tmp_path / "out"))
        assert (status, contents(tmp_path)) == (2, before)
        assert "--" in said or "overwrite" in said


@each
def test_no_path_that_cannot_be_is_taken(command, refused, at):
    complaints = []
    positions = iter(range(9))
    for name, option in options_of(command.args, Path):
        position = 0 if option else next(positions)
        if name in command.ignored:
            continue
        for bad in bad_paths(at, None):

            def call(out, bad=bad, option=option, position=position):
                return replaced(command.call(at, out), option, position, [bad])

            if not is_right(command, name, bad, at):
                complaints += refused(command, call)
    assert not complaints, "\n".join(complaints)


def is_right(command, name, path, at):
    """Whether a path can be what the option wants: one that is to be written."""
    if (command.name, name) == ("prepare", "footage"):
        return path.name == "0.png"
    if (command.name, name) == ("benchmark.gpu_plan", "texts"):  # a folder beside a file
        return path.name in ("missing", "empty folder") or path == at
    if name not in command.outputs:  # but a list of folders, of which each fails alone
        return (command.name, name, path.suffix) == ("invert", "frames", ".txt")
    if len(path.name) > 255:
        return False
    if path.name == "missing":
        return name != "path"  # which wants a suffix
    if command.writes_a_file:
        return path.is_file() and (path.suffix == ".png" or name != "path")
    return path.name == "empty folder" or path == at and command.takes_any_folder


@each
def test_no_number_that_cannot_be_is_taken(command, refused, at):
    complaints = []
    for kind, numbers in ((int, ("-1", *NO_NUMBERS)), (float, NO_NUMBERS)):
        for name, option in options_of(command.args, kind):
            if name in command.ignored:
                continue
            for number in numbers:

                def call(out, number=number, option=option):
                    return replaced(command.call(at, out), option, 0, [number])

                complaints += refused(command, call)
    assert not complaints, "\n".join(complaints)


def test_all_commands_are_here():
    assert {command.module for command in COMMANDS} == {c.module for c in door.COMMANDS.values()}
