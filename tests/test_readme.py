"""What the README tells a user to type does what it says, on files small enough for a test."""

import dataclasses
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tyro
from drawn_weights import VISIBLE, drawn_generator
from PIL import Image

import eg3d_jax
import inversion
from eg3d_jax.cameras import to_label, yaw_pitch_camera
from experiments import __main__ as door
from experiments.heads import filming
from experiments.view import main as viewer
from inversion.config import changed, quick
from inversion.frames.folder import read_frames

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"^```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.startswith("eg3d-jax ")
]
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
# Appended, so that a test takes seconds: the fewest steps, frames and samples; of an inversion,
# those of `short_runs`, whose programs are compiled by then.
SHORT = {
    "convert": [],
    "invert": [
        *("--preset", "quick", "--views", "3", "--views-per-step", "2", "--latent-steps", "3"),
        *("--tuning-steps", "0", "--refine-cameras", "False"),
    ],
    "prepare": ["--start", "0.65", "--end", "1.2", "--size", "64"],
    "render": ["--num-frames", "2"],
    "mesh": ["--resolution", "16", "--level", "0"],
    "splat": ["--steps", "2", "--views", "4", "--count", "200"],
    "page": ["--overwrite"],
    "evaluate": [],
    "edit": ["--samples", "1000", "--yaws", "0", "--strengths", "1"],
}


@pytest.fixture(scope="module")
def folder(writer, tmp_path_factory):
    """A working folder with the files that the commands name."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "ffhq512-128.pkl").write_bytes(writer.checkpoint_bytes(VISIBLE))
    (folder / "video").mkdir()
    labels = np.asarray(to_label(yaw_pitch_camera(np.linspace(-0.5, 0.5, 8), 0.0))).tolist()
    rng = np.random.default_rng(0)
    pairs = []
    for i, label in enumerate(labels):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "video" / f"frame{i:04d}.png")
        pairs.append([f"frame{i:04d}.png", label])
    (folder / "video" / "dataset.json").write_text(json.dumps({"labels": pairs}))
    return folder


def run(command, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def run_here(words, folder, monkeypatch, capsys) -> str:
    """Run `eg3d-jax` in this process: what one command compiles serves the next."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["eg3d-jax", *words])
    with pytest.raises(SystemExit) as ended:
        door.main()
    said = capsys.readouterr()
    assert not ended.value.code, f"{words}: {ended.value.code}\n{said.err}"
    return said.out


def prepare_here(options, folder, monkeypatch, capsys):
    """Prepare a film of the demo head, while the frames for the other commands lie elsewhere."""
    pytest.importorskip("av", reason="videos are read by PyAV, of the extra footage")
    head = Path(filming.__file__).parents[1] / "demo" / "demo_a"
    size = {"width": 480, "height": 320, "window": 0.75, "wander": 0.3}
    filming.main(filming.Args(folder=folder, heads=(str(head),), **size))
    (folder / "demo_a.mp4").rename(folder / "head.mp4")
    (folder / "video").rename(folder / "given")
    run_here(["prepare", *options, *SHORT["prepare"]], folder, monkeypatch, capsys)
    assert len(read_frames(folder / "video", image_side=64)) == 17
    shutil.rmtree(folder / "video")
    (folder / "given").rename(folder / "video")


def view_here(options, folder, monkeypatch):
    """Open the viewer, and close it at once."""
    pytest.importorskip("viser", reason="heads are shown by viser, of the extra view")
    monkeypatch.chdir(folder)
    args = tyro.cli(viewer.Args, args=options)
    with socket.socket() as free:
        free.bind((args.host, 0))
        port = free.getsockname()[1]
    viewer.open_viewer(dataclasses.replace(args, port=port)).stop()


@pytest.mark.slow
def test_its_commands_run_one_after_another(folder, monkeypatch, capsys):
    assert [command[1] for command in COMMANDS] == [
        "convert",
        "invert",
        "invert",
        "prepare",
        "invert",
        "view",
        "render",
        "render",
        "mesh",
        "splat",
        "page",
        "evaluate",
        "edit",
        "edit",
    ]
    for _, name, *options in COMMANDS:
        if name == "prepare":
            prepare_here(options, folder, monkeypatch, capsys)
        elif name == "view":
            view_here(options, folder, monkeypatch)
        else:
            run_here([name, *options, *SHORT[name]], folder, monkeypatch, capsys)
    assert (folder / "weights" / "ffhq512-128" / "checkpoint.json").is_file()
    for name in ("report.html", "turntable.mp4", "metrics.json", "log.csv"):
        assert (folder / "runs" / "video" / name).stat().st_size > 0
    for name in (
        "render/orbit/video.mp4",
        "render/frames/video.mp4",
        "mesh/mesh.glb",
        "splat/splat.ply",
        "splat/splat.spz",
        "head.html",
        "evaluation/table.md",
        "edit/edit.json",
    ):
        assert (folder / "runs" / "video" / name).stat().st_size > 0


@pytest.mark.slow
def test_its_python_example_renders_three_views(folder):
    example = PYTHON[0] + "print(renders.image.shape, renders.depth.shape, renders.opacity.shape)\n"
    finished = run([sys.executable, "-c", example], folder)
    assert finished.returncode == 0, finished.stderr
    shapes = finished.stdout.strip().splitlines()[-1]
    assert shapes == "(3, 128, 128, 3) (3, 64, 64) (3, 64, 64)"
    promised = re.search(r"# image (\[.*?\]), depth (\[.*?\]), opacity (\[.*?\])", example)
    assert promised is not None
    assert " ".join(promised.groups()).replace("[", "(").replace("]", ")") == shapes


@pytest.mark.slow
def test_its_inversion_in_python_is_saved_and_measured(folder, tmp_path, monkeypatch):
    shutil.copytree(folder / "video", tmp_path / "video")
    short = {"latent.num_steps": 2, "tuning.num_steps": 0}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(inversion, "quick", lambda: changed(quick(), short))
    small = drawn_generator(VISIBLE)
    monkeypatch.setattr(eg3d_jax, "load_embedded", lambda: small)
    names = {}
    exec(PYTHON[1], names)
    head = inversion.load(tmp_path / "runs" / "video" / "result")
    assert head.names == names["head"].names == names["frames"].evenly(7).names
    *_, last = PYTHON[1].strip().splitlines()
    assert last == 'inversion.evaluate(head, frames).mean("psnr", "not fitted")'
    assert list(names["frames"].names) != list(head.names)
    assert head.render(head.cameras).image.shape == (7, 32, 32, 3)


def test_its_options_and_folders_exist(monkeypatch, capsys):
    named = re.findall(r"eg3d-jax\s([a-z][a-z-]*)(?: ([a-z][a-z-]*))?", README)
    names = sorted({door.split(words)[0] for words in named})
    assert len(names) == 21
    assert "" not in names
    helps = [run_here([*name.split(), "--help"], ROOT, monkeypatch, capsys) for name in names]
    for name, text in zip(names, helps, strict=True):
        assert text.startswith(f"usage: eg3d-jax {name} ")
    for option in sorted(set(re.findall(r"`(--[a-z-]+)", README)) - {"--help"}):
        assert any(option in text for text in helps), option


def test_its_tree_is_that_of_the_repository():
    tree = README.split("## Layout\n\n```\n")[1].split("```")[0]
    folder, found = ROOT, set()
    for line in tree.splitlines():
        names = re.split(r"  +", line.strip())
        files = [name for name in names if re.fullmatch(r"\w+(\.py|/)", name)]
        assert files, line
        folder = ROOT / files[0] if not line.startswith(" ") else folder
        for name in files if line.startswith(" ") else []:
            assert (folder / name).is_dir() if name.endswith("/") else (folder / name).is_file()
            found.add(folder / name)
        assert folder.is_dir(), line
    for package in ("eg3d_jax", "inversion", "experiments"):
        there = {path for path in (ROOT / package).glob("[!_]*") if path.name[0] != "."}
        assert there == {path for path in found if path.parent == ROOT / package}
