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


def _imports(source: str, package: str) -> set[str]:
    """Dotted names a module imports; for `from a import b` both a and a.b, as b may be a module."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # relative: count up from the module's own package
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [node.module])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


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
