"""The comparison with PyTorch code, on a stand-in for NVIDIA's checkout."""

import ast
import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convert_weights.convert import convert_pickle
from eg3d_jax.config import EG3D_AXES, tiny
from eg3d_jax.errors import InputError
from experiments.crosscheck import checkout, jax_side
from experiments.crosscheck.comparison import Tolerances, compare, verdict
from experiments.crosscheck.inputs import make_inputs
from experiments.crosscheck.main import Args, main
from experiments.crosscheck.torch_side import peak_memory

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "tests" / "crosscheck_stand_in"
CONFIG = dataclasses.replace(tiny(), plane_axes=EG3D_AXES)
PYTHON = Path(sys.executable)

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch comes with the extra `torch`"
)


@pytest.fixture(autouse=True)
def _find_our_reader(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the stand-in reads pickles with it


@pytest.fixture(scope="module")
def pickle(writer, tmp_path_factory):
    rng = np.random.default_rng(0)
    state = writer.state_dict(CONFIG)
    for name, array in state.items():
        if ".mapping.fc" in name:
            state[name] = 100 * array  # undoes the layers' gain
        elif name == "decoder.net.2.weight":
            state[name] = 4 * rng.standard_normal(array.shape, np.float32)
    path = tmp_path_factory.mktemp("pickle") / "tiny.pkl"
    path.write_bytes(writer.checkpoint_bytes(CONFIG, state))
    return path


@pytest.fixture
def arguments(pickle, tmp_path):
    return {
        "pickle": pickle,
        "eg3d": STAND_IN,
        "execute_pickle": True,
        "run": tmp_path / "run",
        "device": "cpu",
    }


@pytest.fixture
def spoiled(tmp_path):
    """Copy the stand-in, and let its loader do something more to the generator G."""

    def make(statement):
        folder = shutil.copytree(STAND_IN, tmp_path / "eg3d")
        with (folder / "legacy.py").open("a") as file:
            file.write(
                "\nload = load_network_pkl\n\n"
                "def load_network_pkl(file):\n"
                "    G = load(file)['G_ema']\n"
                f"    {statement}\n"
                "    return {'G_ema': G}\n"
            )
        return folder

    return make


@pytest.mark.slow
@needs_torch
def test_two_implementations_of_one_checkpoint_agree(arguments, capsys):
    """At the native side, where 2X adds to its input in place (spec eg3d 9)."""
    assert CONFIG.neural_side == CONFIG.superresolution.input_side
    assert main(Args(**arguments)) == 0
    assert "agree within the tolerances at every stage" in capsys.readouterr().out
    run = arguments["run"]
    figures = json.loads((run / "metrics.json").read_text())
    assert figures["agree"]
    assert list(figures["differences"]) == [f.name for f in dataclasses.fields(Tolerances)]
    for stage, difference in figures["differences"].items():
        assert 0 < difference["largest"] <= difference["tolerance"], stage
    for side in ("theirs", "ours"):
        assert [len(s) for s in figures[side]["seconds"].values()] == [4, 4]
        assert figures[side]["memory"]["host"] > 2**20
    with Image.open(run / "pictures" / "crosscheck.png") as picture:
        assert picture.width > 5 * 64


@needs_torch
def test_another_weight_on_one_side_ends_with_status_1_and_the_stage(arguments, spoiled, capsys):
    checkout = spoiled("G.decoder.net[2].bias.data[1] += 0.1")
    assert main(Args(**arguments | {"eg3d": checkout, "latents": 1})) == 1
    out = capsys.readouterr().out
    assert "the two disagree from raw on" in out
    assert not json.loads((arguments["run"] / "metrics.json").read_text())["agree"]


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("mapping/layers/1/bias", ["ws", "planes", "raw", "depth", "image", "gradient"]),
        ("backbone/blocks/2/to_rgb/bias", ["planes", "raw", "depth", "image", "gradient"]),
        ("superresolution/blocks/1/to_rgb/bias", ["image", "gradient"]),
    ],
)
def test_the_first_stage_behind_a_changed_weight_is_named(pickle, path, stages):
    generator = convert_pickle(pickle).generator
    inputs = make_inputs(generator, latents=1, cameras=2, side=CONFIG.neural_side, seed=1)
    first = jax_side.compute(generator, inputs)
    module = generator
    *parts, name = path.split("/")
    for part in parts:
        module = module[int(part)] if part.isdigit() else getattr(module, part)
    bias = getattr(module, name)
    bias[...] = bias[...] + 30 * (parts[0] == "mapping") + 1
    differences = compare(first, jax_side.compute(generator, inputs), Tolerances())
    assert [item.stage for item in differences if not item.agrees] == stages
    assert f"disagree from {stages[0]} on" in verdict(differences)


def test_peak_memory_is_of_this_process():
    assert 2**20 < peak_memory() < 2**40


def test_the_same_seed_gives_the_same_inputs(pickle):
    generator = convert_pickle(pickle).generator
    one, two, other = (
        make_inputs(generator, latents=2, cameras=3, side=4, seed=seed) for seed in (7, 7, 8)
    )
    shapes = {name: array.shape for name, array in one.items()}
    assert shapes == {
        "z": (2, 8),
        "condition": (25,),
        "labels": (3, 25),
        "jitter": (3, 16, 6),
        "u": (3, 16, 6),
    }
    assert all(array.dtype == np.float32 for array in one.values())
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not np.array_equal(one["z"], other["z"])


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (
            {"execute_pickle": False},
            "executes code that is stored in .*tiny.pkl; .*--execute-pickle",
        ),
        ({"eg3d": ROOT}, "has no legacy.py"),
        ({"latents": 0}, "at least 1"),
        ({"python": ROOT / "none"}, "cannot be run"),
        ({"neural_side": 1}, "--neural-side 1 must be at least 2"),
        ({"rays_at_once": 7}, "must divide the 64 rays"),
        ({"pickle": ROOT / "README.md"}, "README.md: it is a text file"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(arguments, change, cause, monkeypatch):
    monkeypatch.setattr(checkout, "_NEEDED", ())
    with pytest.raises(InputError, match=cause):
        main(Args(**arguments | change))
    assert not arguments["run"].exists()


def test_a_python_without_torch_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkout, "_NEEDED", ("no_such_package",))
    with pytest.raises(InputError, match="has no torch or no NumPy; name the Python"):
        checkout.check(STAND_IN, PYTHON)
    false = tmp_path / "false"
    false.write_text("#!/bin/sh\nexit 5\n")
    false.chmod(0o755)
    with pytest.raises(InputError, match="ended with status 5"):
        checkout.check(STAND_IN, false)


@needs_torch
def test_the_last_lines_of_a_failed_checkout_are_shown(arguments, spoiled):
    checkout = spoiled("raise RuntimeError('no kernel for this card')")
    with pytest.raises(InputError, match="status 1: .*RuntimeError: no kernel for this card"):
        main(Args(**arguments | {"eg3d": checkout}))


def test_the_torch_side_runs_where_nothing_of_ours_is_installed():
    """Their environment has an old Python, and of the packages only torch and NumPy are sure."""
    script = ROOT / "experiments" / "crosscheck" / "torch_side.py"
    ast.parse(script.read_text(), feature_version=(3, 8))
    done = subprocess.run(
        [PYTHON, "-I", "-S", script, "x", "x", "x", "cpu"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No module named 'numpy'" in done.stderr.splitlines()[-1]
