"""What the machine lacks is told in one sentence, or does no harm."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax import nnx
from toy_inversion import SAVE_STEPS, STAGES, STEPS, invert

from eg3d_jax import checkpoint
from eg3d_jax.config import tiny
from eg3d_jax.errors import DiskFullError, SetupError
from eg3d_jax.generator import TriPlaneGenerator
from inversion.fitting import states

from .conftest import COMMANDS
from .test_refusals import contents

ROOT = Path(__file__).parents[3]
load = checkpoint.load  # without what `read_once` puts in its place


def call(module, *options, **environment) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", module, *map(str, options)]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def call_here(start):
    """Call a command in this process; its status and stderr."""

    def call(module, *options):
        whole = SimpleNamespace(module=module, work=())
        return start(whole, list(options))

    return call


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_no_command_starts_without_its_device(command, start, at, tmp_path, monkeypatch):
    def none():
        raise AssertionError  # as JAX answers to cuda without its plugin

    command.earlier(tmp_path / "out")
    before = contents(tmp_path)
    monkeypatch.setattr(jax, "devices", none)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    more = ["--overwrite"] * command.overwrite
    status, said = start(command, command.call(at, tmp_path / "out") + more)
    assert status == 2
    assert said.startswith("error: JAX_PLATFORMS=cuda: there is no such device here")
    assert said.count("\n") == 1
    assert contents(tmp_path) == before


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_a_device_that_is_not_there_damages_no_file(at, tmp_path, platform):
    if platform == "cuda" and jax.default_backend() == "gpu":
        pytest.skip("it is there")
    done = call("convert_weights", at / "tiny.pkl", tmp_path / "out", JAX_PLATFORMS=platform)
    assert done.returncode == 2
    assert f"JAX_PLATFORMS={platform}" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_program_hears_of_a_missing_device_not_of_damage(at, monkeypatch):
    def none():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", none)
    with pytest.raises(SetupError, match="no such device"):
        load(at / "generator")


@pytest.mark.slow
def test_64_bits_change_no_number_of_a_command(at, tmp_path):
    options = [at / "run", "--num-frames", 2, "--png", "--output"]
    # Not in this process, where fewer views are rendered at a time, which may round differently.
    assert call("experiments.render", *options, tmp_path / "0").returncode == 0
    done = call("experiments.render", *options, tmp_path / "1", JAX_ENABLE_X64="1")
    assert done.returncode == 0, done.stderr
    assert "JAX_ENABLE_X64 has no effect" in done.stderr
    assert done.stderr.count("\n") == 1
    pictures = [
        [p.read_bytes() for p in sorted((tmp_path / bits / "frames").iterdir())] for bits in "01"
    ]
    assert len(pictures[0]) == 2
    assert pictures[0] == pictures[1]


def test_a_program_hears_that_64_bits_are_on(at):
    jax.config.update("jax_enable_x64", True)
    try:
        with pytest.raises(SetupError, match="JAX_ENABLE_X64"):
            load(at / "generator")
        with pytest.raises(SetupError, match="JAX_ENABLE_X64"):
            TriPlaneGenerator(tiny(), rngs=nnx.Rngs(0))
    finally:
        jax.config.update("jax_enable_x64", False)


@pytest.mark.parametrize("options", [("bars.json",), ("--help",)])
def test_nobody_need_read_to_the_end(at, options):
    command = [sys.executable, "-m", "experiments.benchmark.scale"]
    command += [str(at / o) if o.endswith("json") else o for o in options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        run.stdout.close()
        assert run.wait(60) == 141
        assert run.stderr.read() == b""


def test_a_poor_environment_does_no_harm(at, tmp_path):
    below = str(at / "text.txt" / "home")
    poor = {"PYTHONIOENCODING": "ascii", "COLUMNS": "5", "TERM": "", "HOME": below,
            "XDG_CACHE_HOME": below, "TMPDIR": below, "MPLCONFIGDIR": ""}  # fmt: skip
    for output in (">&1", ">&-"):  # the second is closed
        done = subprocess.run(
            ["bash", "-c", f'exec "$0" -m convert_weights "$1" "$2" --overwrite {output}',
             sys.executable, at / "tiny.pkl", tmp_path / "out"],
            cwd=ROOT, env=os.environ | poor, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own, of so many kilobytes."""
    disk = tmp_path / "disk"

    def make(kilobytes) -> Path:
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", disk]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("only root can mount a small disk")
        return disk

    yield make
    subprocess.run(["umount", disk], capture_output=True, check=False)


@pytest.mark.parametrize(
    ("module", "options", "kilobytes"),
    [
        ("experiments.render", ("run", "--num-frames", 4, "--output"), 4),
        ("experiments.edit", ("run", "--directions", "directions.npy", "--which", 0, "--output"),
         12),
        ("convert_weights.main", ("tiny.pkl",), 64),
    ],
)  # fmt: skip
def test_a_full_disk_is_told_in_one_sentence(at, small_disk, call_here, module, options, kilobytes):
    disk = small_disk(kilobytes)
    options = [at / o if isinstance(o, str) and (at / o).exists() else o for o in options]
    status, said = call_here(module, *options, disk / "out")
    assert status == 2, said
    assert said.startswith("error: the disk is full while writing ")
    assert said.count("\n") == 1
    assert not list(disk.iterdir())


def test_a_full_disk_at_the_last_save_ends_the_run_and_leaves_what_was_saved(tmp_path, monkeypatch):
    saves = []

    def room(folder, arrays):
        saves.append(folder)
        if len(saves) == STAGES * STEPS // SAVE_STEPS:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(states, "check_room", room)
    with pytest.raises(DiskFullError, match=rf"step {STEPS - SAVE_STEPS} is there"):
        invert(tmp_path, "1")
    monkeypatch.undo()
    assert np.isfinite(float(invert(tmp_path, "1")["1"].latents.w_plus.sum()))
