"""The walls between the packages; each test lists every offence that it finds.

Dependencies point one way: eg3d_jax <- convert_weights <- inversion <- experiments.
"""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each may import itself and those before it.
PACKAGES = ("eg3d_jax", "convert_weights", "inversion", "experiments")
MODULES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))

# Packages of others that a package must do without.
FORBIDDEN = {
    "eg3d_jax": ("optax", "tyro", "rich", "torch", "matplotlib", "tensorboardX", "imageio_ffmpeg"),
    "inversion": ("tyro", "rich", "torch", "matplotlib", "tensorboardX", "imageio_ffmpeg"),
    "convert_weights": ("optax", "torch", "pickle", "matplotlib"),
    "experiments": (),
}


def _bindings(tree: ast.AST, package: str) -> list[tuple[str, str]]:
    """What a module imports: its name there, and the dotted one; for `from a import b` a.b."""
    found: list[tuple[str, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.asname or alias.name, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative: count up from the module's own package
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [node.module])])
            found += [(alias.asname or alias.name, f"{base}.{alias.name}") for alias in node.names]
    return found


def _imports(source: str, package: str) -> set[str]:
    """Dotted names a module imports; of `from a import b` a.b, as b may be a module."""
    return {dotted for _, dotted in _bindings(ast.parse(source), package)}


def _module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def _package_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parent.parts)


def _trespasses(source: str, package: str) -> list[str]:
    top = package.split(".")[0]
    found = []
    for name in sorted(_imports(source, package)):
        owner = name.split(".")[0]
        if owner in FORBIDDEN[top]:
            found.append(name)
        elif owner in PACKAGES and owner != top:
            if PACKAGES.index(owner) > PACKAGES.index(top):
                found.append(name)
    return found


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_modules_stay_behind_their_walls():
    found = {_relative(path): _trespasses(path.read_text(), _package_of(path)) for path in MODULES}
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("package", "source", "found"),
    [
        ("eg3d_jax", "from inversion import views", ["inversion.views"]),
        ("eg3d_jax", "def f():\n    import optax", ["optax"]),
        ("eg3d_jax", "from . import cameras\nfrom .rays import cast_rays", []),
        ("inversion", "from eg3d_jax.cameras import Cameras", []),
        ("inversion", "from convert_weights.state_dict import read_state_dict", []),
        ("inversion", "import rich.progress", ["rich.progress"]),
        ("inversion.features", "from .. import views\nfrom ..losses import total", []),
        ("inversion", "import experiments.runs as r", ["experiments.runs"]),
        ("convert_weights", "from eg3d_jax import checkpoint", []),
        ("convert_weights", "import inversion.views", ["inversion.views"]),
        ("convert_weights", "import pickle", ["pickle"]),
        ("experiments.heads", "import inversion, convert_weights.pickle_reader", []),
    ],
)
def test_the_walls_themselves_hold(package, source, found):
    assert _trespasses(source, package) == found


def test_nothing_imports_what_only_starts():
    found = {
        _relative(path): sorted(
            name
            for name in _imports(path.read_text(), _package_of(path))
            if "__main__" in name.split(".")
        )
        for path in MODULES
    }
    assert {name: names for name, names in found.items() if names} == {}


# What a command is to its users; other commands take what they need from modules below both.
_ITS_OWN = ("Args", "main", "start")


def _homes() -> dict[str, str]:
    """By module of each command what may import it: its folder if it is `main` there, or itself."""
    homes = {}
    for path in MODULES:
        if any(
            isinstance(node, ast.FunctionDef)
            and node.name == "start"
            and [argument.arg for argument in node.args.args] == ["prog"]
            for node in ast.parse(path.read_text()).body
        ):
            homes[_module_of(path)] = _module_of(path).removesuffix(".main")
    return homes


def _commands_used(source: str, module: str, homes: dict[str, str]) -> set[str]:
    """Other commands that a module imports, or of which it takes what is their own."""
    tree = ast.parse(source)
    taken = {
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in _ITS_OWN
    }
    found = set()
    for name, dotted in _bindings(tree, module.rpartition(".")[0]):
        where, _, last = dotted.rpartition(".")
        for command, home in homes.items():
            if f"{module}.".startswith(f"{home}."):
                continue
            if (
                (command != home and f"{dotted}.".startswith(f"{command}."))
                or (last in _ITS_OWN and f"{where}.".startswith(f"{home}."))
                or (dotted == command and taken & {f"{name}.{own}" for own in _ITS_OWN})
            ):
                found.add(command)
    return found


def test_no_command_is_taken_by_another():
    homes = _homes()
    assert len(homes) > 20
    found = {
        _relative(path): _commands_used(path.read_text(), _module_of(path), homes)
        for path in MODULES
        if path.stem != "__main__"
    }
    assert {name: commands for name, commands in found.items() if commands} == {}


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("experiments.jobs", "from experiments.a import main as a", {"experiments.a.main"}),
        ("experiments.jobs", "from experiments.a.args import Args", {"experiments.a.main"}),
        ("experiments.jobs", "from experiments.a.main import f", {"experiments.a.main"}),
        ("experiments.jobs", "from experiments.a.files import f", set()),
        ("experiments.a.plan", "from experiments.a.args import Args", set()),
        ("experiments.a.plan", "from ..b import Args", {"experiments.b"}),
        ("experiments.a.plan", "from experiments.b import f", set()),
        ("experiments.a.plan", "from experiments import b as c\nc.main(c.f())", {"experiments.b"}),
        ("experiments.a.plan", "from experiments import b\nb.f()", set()),
        ("inversion.files", "import experiments.b\nexperiments.b.Args()", {"experiments.b"}),
    ],
)
def test_commands_that_others_take_are_recognised(module, source, found):
    homes = {"experiments.a.main": "experiments.a", "experiments.b": "experiments.b"}
    assert _commands_used(source, module, homes) == found


def test_names_of_files_tell_their_topic():
    vague = ("utils", "util", "helpers", "common", "misc")
    assert [_relative(path) for path in MODULES if path.stem in vague] == []


# Written in pieces, so that this file does not name what it looks for.
_MACHINE_PATHS = re.compile(
    r"(?<![\w.~-])/(?:wo" + r"rk|ro" + r"ot|t" + r"mp)(?:/|\b)|\.\./sh" + r"ared"
)


def test_no_file_names_a_path_of_one_machine():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    found = []
    for name in filter(None, listing.stdout.decode().split("\0")):
        path = ROOT / name
        data = path.read_bytes() if path.is_file() else b""
        if b"\0" in data:  # binary
            continue
        for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
            if match := _MACHINE_PATHS.search(line):
                found.append(f"{name}:{number}: {match.group()}")
    assert found == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("see /wo" + "rk/main", True),
        ("'/t" + "mp/x'", True),
        ("cd ../sh" + "ared/spec", True),
        ("home is /ro" + "ot", True),
        ("https://example.org/wo" + "rk", False),
        ("tests/t" + "mp/x", False),
        ("/wo" + "rks", False),
    ],
)
def test_paths_of_a_machine_are_recognised(text, named):
    assert bool(_MACHINE_PATHS.search(text)) == named
