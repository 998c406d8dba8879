"""The pages build without a warning and name what is there; examples in docstrings hold."""

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import inversion

ROOT = Path(__file__).parents[1]
# Those whose docstrings have examples.
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("eg3d_jax", "convert_weights", "inversion")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_hold(module):
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0
    assert found.failed == 0


def test_there_are_examples():
    assert len(MODULES) >= 4


def test_pages_are_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="of the extra docs")
    pytest.importorskip("mkdocstrings", reason="of the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "api" / "inversion.html").read_text()
    for name in inversion.__all__:  # each with its docstring
        assert f'id="inversion.{name}"' in page, name


def test_pages_name_only_options_that_exist():
    """As the README's; commands of the pages are not run, but for the notebook's."""
    text = "".join(path.read_text() for path in (ROOT / "docs" / "tasks").glob("*.md"))
    text += "".join((ROOT / "docs" / name).read_text() for name in ("latents.md", "meshes.md"))
    sources = "".join(
        path.read_text()
        for package in ("experiments", "convert_weights")
        for path in (ROOT / package).rglob("*.py")
    )
    for option in set(re.findall(r"--([a-z][a-z-]+)", text)):
        assert re.search(rf"^    {option.replace('-', '_')}: ", sources, re.MULTILINE), option
