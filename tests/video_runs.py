"""Runs of several small videos in processes of their own, and what they leave."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
STEPS = ("--latent-steps", "3", "--tuning-steps", "0", "--views-per-step", "2")


def make_videos(inputs: Path, folder: Path, names: Iterable[str]) -> list[Path]:
    """Copies of a folder of frames, each with other pictures."""
    videos = []
    for number, name in enumerate(names):
        videos.append(folder / name)
        shutil.copytree(inputs / "frames", videos[-1])
        rng = np.random.default_rng(number)
        for path in sorted(videos[-1].glob("*.png")):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    return videos


def command(inputs: Path, videos: list[Path], run: Path, *more: str) -> list[str]:
    """To invert them."""
    return [
        *(sys.executable, "-m", "experiments.invert", "--frames", *map(str, videos)),
        *("--generator", str(inputs / "generator"), "--run", str(run), "--preset", "quick"),
        *("--views", "3", "--baseline", "False", *more),
    ]


def start(line: list[str], *, devices: int = 1, seen: object = subprocess.PIPE):
    """Start a command that sees so many devices."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    if devices > 1:  # else what other tests compiled serves here, too
        flags = os.environ.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        line, env=environment, stdout=seen, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip


def finish(process: subprocess.Popen, status: int = 0) -> str:
    """Wait for a command to end with that status; what it said."""
    said, _ = process.communicate(timeout=300)
    assert process.returncode == status, said
    return said


def arrays(run: Path) -> dict[str, np.ndarray]:
    """All numbers of a run's result: latents and tuned generator."""
    from eg3d_jax import checkpoint
    from inversion.files import entries

    generator = checkpoint.load(run / "result" / "generator")
    with np.load(run / "result" / "latents.npz") as file:
        found = {"w_plus": file["w_plus"]}
    return found | {name: array for name, _, array in entries(generator)}


def statuses(run: Path) -> dict[str, str]:
    """How each video of a run ended."""
    found = json.loads((run / "summary.json").read_text())["videos"]
    return {outcome["video"]: outcome["status"] for outcome in found}
