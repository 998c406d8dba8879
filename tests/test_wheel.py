"""`pip install .` works without the checkout: nothing that the packages need stays behind."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("eg3d_jax", "convert_weights", "inversion", "experiments")
DATA = (
    "eg3d_jax/pretrained",
    "inversion/footage/data",
    "experiments/demo",
    "experiments/page/viewer",
)
_PIP = ("-m", "pip", "--disable-pip-version-check")
_LOAD = """
from pathlib import Path
import eg3d_jax.pretrained
from eg3d_jax import checkpoint
from experiments.subjects import DEMO
folder = Path(eg3d_jax.pretrained.__file__).parent / "heads128"
generator = checkpoint.load(folder)
print(folder, generator.config.neural_side, DEMO, len(list(DEMO.glob("*.png"))), sep="\\n")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of the checkout, built elsewhere, as an earlier build would be taken along."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source)
    for name in PACKAGES:
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=without)
    offline = ("wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    run([sys.executable, *_PIP, *offline, "--wheel-dir", source / "dist", source], source)
    (made,) = (source / "dist").iterdir()
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    target = tmp_path_factory.mktemp("installed")
    options = ("--quiet", "--no-index", "--no-deps", "--no-compile", "--target", target)
    run([sys.executable, *_PIP, "install", *options, wheel], target)
    return target


@pytest.fixture
def elsewhere(tmp_path):
    """A working folder with an `experiments` of its user's own."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").write_text("raise AssertionError('not ours')\n")
    return tmp_path


def run(command, folder, **environment) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_holds_every_module_and_all_data(wheel):
    modules = (path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
    folders = [path for name in DATA for path in (ROOT / name).rglob("*") if path.is_file()]
    data = (*folders, ROOT / "experiments" / "benchmark" / "gpu_bounds.json")
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in (*modules, *data)
        if "__pycache__" not in path.parts
    }
    assert {"experiments/demo/demo_a/dataset.json", "experiments/runs/folder.py"} <= ours
    assert "eg3d_jax/pretrained/heads128/checkpoint.json" in ours
    packed = zipfile.ZipFile(wheel).namelist()
    assert ours == {name for name in packed if ".dist-info/" not in name}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in packed)


def test_it_loads_the_embedded_generator_and_demo(installed, elsewhere):
    # The console script does not have the working folder on its path; -P is the same.
    command = [sys.executable, "-P", "-c", _LOAD]
    folder, side, demo, frames = run(command, elsewhere, PYTHONPATH=str(installed)).splitlines()
    assert Path(folder) == installed / "eg3d_jax" / "pretrained" / "heads128"
    assert (int(side), int(frames)) == (64, 60)
    assert Path(demo) == installed / "experiments" / "demo" / "demo_a"


def test_its_command_runs_beside_a_folder_of_the_same_name(installed, elsewhere):
    script = installed / "bin" / "eg3d-jax"
    # Without site-packages (-S): the help needs none, and the checkout may be installed there.
    command = [sys.executable, "-S", script]
    said = run([*command, "--help"], elsewhere, PYTHONPATH=str(installed))
    assert said.startswith("usage: eg3d-jax COMMAND [OPTIONS]\n")
    assert run([*command, "--version"], elsewhere, PYTHONPATH=str(installed)) == "eg3d-jax 0.1.0\n"
