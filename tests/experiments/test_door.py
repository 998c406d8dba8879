"""`eg3d-jax`: every command has a name, and the door opens without importing what it leads to."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import __main__ as door

ROOT = Path(__file__).parents[2]


def path_of(module: str) -> Path:
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


def names_of(path: Path) -> dict[str, ast.AST]:
    """What a module defines or imports at its top level, without running it."""
    names: dict[str, ast.AST] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names[node.name] = node
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: node for alias in node.names}
        elif isinstance(node, ast.Assign):
            names |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
    return names


def enter(capsys, *words) -> tuple[int | str | None, str, str]:
    """Status and both streams of a call that needs no command."""
    with pytest.raises(SystemExit) as ended:
        door.main(words)
    return ended.value.code, *capsys.readouterr()


@pytest.mark.parametrize("name", door.COMMANDS)
def test_each_name_leads_to_a_command(name):
    names = names_of(path_of(door.COMMANDS[name].module))
    assert {"Args", "main", "start"} <= set(names)
    assert [argument.arg for argument in names["start"].args.args] == ["prog"]


def test_each_command_has_a_name():
    """Those of a folder are its `main`, which its `__main__` starts."""
    found = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in ("experiments", "convert_weights")
        for path in (ROOT / package).rglob("*.py")
        if isinstance(start := names_of(path).get("start"), ast.FunctionDef)
        and [argument.arg for argument in start.args.args] == ["prog"]
    }
    assert found == {command.module for command in door.COMMANDS.values()}


def test_the_tables_name_all_commands_and_no_line_is_long(capsys):
    shown = "".join(enter(capsys, *words)[1] for words in ((), ("heads",), ("heads", "--help")))
    for name, command in door.COMMANDS.items():
        assert re.search(rf"^  {name}  +{re.escape(command.summary)}$", shown, re.MULTILINE)
    assert max(map(len, shown.splitlines())) <= 80
    assert enter(capsys, "--help") == enter(capsys)
    assert enter(capsys, "--version")[1].startswith("eg3d-jax ")


@pytest.mark.parametrize(
    ("words", "named", "nearest"),
    [
        (["ivnert", "--help"], "ivnert", "'invert'"),
        (["heads", "films"], "heads films", "'heads film'"),
        (["zzz"], "zzz", None),
        (["--frames", "video"], "--frames", None),
    ],
)
def test_an_unknown_name_ends_with_one_sentence_and_status_2(capsys, words, named, nearest):
    status, out, err = enter(capsys, *words)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: there is no command '{named}'; ")
    assert err.endswith("`eg3d-jax --help` lists all\n")
    assert err.count("\n") == 1
    assert ("the nearest is" in err) == (nearest is not None)
    assert nearest is None or nearest in err


@pytest.mark.parametrize(
    ("words", "name", "rest"),
    [
        (["benchmark", "--repeats", "1"], "benchmark", ["--repeats", "1"]),
        (["benchmark", "bars", "--out", "x"], "benchmark bars", ["--out", "x"]),
        (["refine_cameras", "video"], "refine-cameras", ["video"]),
        (["heads", "contact_sheet"], "heads contact-sheet", []),
        (["heads", "--help"], "heads", ["--help"]),
        ([], "", []),
    ],
)
def test_first_words_are_the_name(words, name, rest):
    assert door.split(words) == (name, rest)


@pytest.mark.parametrize("words", [["disturb"], ["convert"], ["heads", "film"]])
def test_usage_tells_how_the_command_was_called(monkeypatch, capsys, words):
    monkeypatch.setattr(sys, "argv", ["eg3d-jax", *words, "--help"])
    with pytest.raises(SystemExit):
        door.main()
    assert capsys.readouterr().out.startswith(f"usage: eg3d-jax {' '.join(words)} ")


def test_help_comes_without_jax_or_any_command():
    program = (
        "import sys\n"
        "from experiments.__main__ import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'jax', 'numpy', 'tyro'}))\n"
        "print([name for name in sys.modules if name.startswith('experiments')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-2:] == ["[]", "['experiments', 'experiments.__main__']"]


def test_completion_knows_every_option(tmp_path, capsys):
    status, out, err = enter(capsys, "--tyro-write-completion", "bash", str(tmp_path / "script"))
    assert (status, out, err) == (None, "", "")
    script = (tmp_path / "script").read_text()
    assert "complete -F _tyro_eg3d_jax eg3d-jax" in script
    found = re.search(r"^COMPLETION_SPEC = (.*)$", script, re.MULTILINE)
    assert found is not None
    specification = ast.literal_eval(found[1])
    for name in door.COMMANDS:
        command = specification
        for word in name.split():
            command = command["subcommands"][word]
        assert len(command["options"]) > 1, name
        for option in command["options"]:  # each is a line of what the shell reads
            assert "\n" not in option["description"], (name, option)
    views = [
        o for o in specification["subcommands"]["invert"]["options"] if "--views" in o["flags"]
    ]
    assert len(views) == 1
    benchmarks = {"bars", "gpu-day", "gpu-plan", "scale", "workers"}
    assert set(specification["subcommands"]["benchmark"]["subcommands"]) == benchmarks


@pytest.mark.parametrize("words", [["bash"], ["tcsh", "file"], []])
def test_completion_of_no_shell_or_file_is_refused(capsys, words):
    status, out, err = enter(capsys, "--tyro-write-completion", *words)
    assert (status, out) == (2, "")
    assert err.startswith("error: --tyro-write-completion needs a shell (bash, zsh, fish) and a")
    assert err.count("\n") == 1
