"""Every command with a call that is right, for tests to spoil, and an earlier result of it."""

import contextlib
import functools
import importlib
import io
import json
import pkgutil
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tyro

from eg3d_jax import checkpoint, errors
from eg3d_jax.cameras import to_label, yaw_pitch_camera
from eg3d_jax.config import tiny
from experiments.heads.anatomy import Z_DIM
from experiments.runs.folder import RunFolder
from inversion.features import networks


class Ready(Exception):
    """The command got as far as its work."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command.

    Attributes:
      module: by which it is started.
      call: of the folder of inputs and an output: options that are right.
      work: what takes long or writes: names in the module, or with their own.
      outputs: options that name what it writes.
      earlier: makes an earlier result of it, at the output.
      overwrite: whether it must be told to replace that.
      ignored: options that this call does not look at.
    """

    module: str
    call: Callable[[Path, Path], list]
    work: tuple[str, ...]
    outputs: tuple[str, ...] = ("output",)
    earlier: Callable[[Path], None] = lambda output: None
    overwrite: bool = True
    ignored: tuple[str, ...] = ()

    @property
    def writes_a_file(self) -> bool:
        return self.earlier in (one_file, one_picture, one_page)

    @property
    def takes_any_folder(self) -> bool:
        """What is not its own in a folder, it leaves alone."""
        return self.earlier not in (run_folder, checkpoint_folder)

    @property
    def args(self) -> type:
        return importlib.import_module(self.module).Args

    @property
    def name(self) -> str:
        return self.module.removesuffix(".main").removeprefix("experiments.")


def files(mark: str, *names: str) -> Callable[[Path], None]:
    """An earlier result of a command that writes into a folder."""

    def make(output: Path) -> None:
        for name in (mark, *names, "of another name.txt"):
            path = output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('{"earlier": 1}')

    return make


def run_folder(output: Path) -> None:
    with RunFolder.create(output, {"earlier": 1}) as run:
        (run.result / "latents.npz").write_text("earlier")


def one_file(output: Path) -> None:
    output.write_text("earlier")


def one_picture(output: Path) -> None:
    one_file(output.with_suffix(".png"))


def one_page(output: Path) -> None:
    one_file(output.with_suffix(".html"))


def checkpoint_folder(output: Path) -> None:
    output.mkdir()
    (output / "checkpoint.json").write_text("earlier")


def benchmark_of(at: Path) -> list:
    return ["--config", "tiny", "--repeats", 1]


COMMANDS = [
    Command(module="experiments.render", work=("measure_flicker",),
            call=lambda at, out: [at / "run", "--output", out, "--path", "frames",
                                  "--frames", at / "frames"],
            earlier=files("render.json", "video.mp4", "frames/0000.png")),
    Command(module="experiments.mesh", work=("density_grid",),
            call=lambda at, out: [at / "run", "--output", out],
            earlier=files("mesh.json", "mesh.ply", "density.mrc")),
    Command(module="experiments.splat", work=("fit_head",),
            call=lambda at, out: [at / "run", "--output", out],
            earlier=files("splat.json", "splat.ply", "splat.spz")),
    Command(module="experiments.page.main", work=("fit_head",),
            call=lambda at, out: [at / "run", "--output", out.with_suffix(".html")],
            earlier=one_page),
    Command(module="experiments.edit", work=("generator_directions", "strip"),
            call=lambda at, out: [at / "run", "--output", out, "--directions",
                                  at / "directions.npy", "--which", 0],
            earlier=files("edit.json", "direction_000.png", "result/generator/checkpoint.json")),
    Command(module="experiments.cameras", work=("write_cameras",),
            call=lambda at, out: [at / "frames", "--output", out],
            earlier=files("exported.json", "transforms.json", "images/0.png")),
    Command(module="experiments.evaluate.main", work=("Evaluated.of_run",), outputs=(),
            ignored=("output",),
            call=lambda at, out: [at / "run", "--frames", at / "frames"],
            earlier=files("metrics.json", "table.md")),
    Command(module="experiments.view.main", work=("Head",), overwrite=False,
            call=lambda at, out: [at / "run", "--output", out, "--frames", at / "frames",
                                  "--directions", at / "directions.npy", "--port", 47111],
            earlier=files("view.json", "picture_001.png")),
    Command(module="experiments.compare.main", overwrite=False,
            work=("experiments.compare.jobs.run_job", "experiments.compare.jobs.begin_from"),
            call=lambda at, out: ["--frames", at / "frames", "--output", out, "--generator",
                                  at / "generator", "--views", 3, "--latents", 2,
                                  "--methods", "+ all"],
            earlier=files("comparison.json", "table.md")),
    Command(module="experiments.refine_cameras", work=("write_refined",),
            call=lambda at, out: [at / "frames", "--output", out, "--generator", at / "generator",
                                  "--views", 3, "--truth", at / "frames"],
            earlier=files("refinement.json", "0.png", "dataset.json")),
    Command(module="experiments.disturb", work=("copy_frames",),
            call=lambda at, out: [at / "frames", "--output", out],
            earlier=files("disturbance.json", "0.png", "dataset.json")),
    Command(module="experiments.import_result", work=("Inversion",), outputs=("run",),
            call=lambda at, out: ["--pickle", at / "tiny.pkl", "--latents", at / "latents.npz",
                                  "--run", out],
            earlier=run_folder),
    Command(module="experiments.invert.main", outputs=("run",),
            work=("experiments.invert.execute.prepare_fitter",),
            call=lambda at, out: ["--frames", at / "frames", "--generator", at / "generator",
                                  "--views", 3, "--preset", "quick", "--run", out],
            earlier=run_folder),
    Command(module="experiments.prepare.main", work=("prepare_footage",),
            call=lambda at, out: [at / "photos", "--output", out],
            earlier=files("footage.json", "frame00000.png", "dataset.json", "report.html")),
    Command(module="experiments.crosscheck.main", work=("make_inputs",), outputs=("run",),
            call=lambda at, out: ["--pickle", at / "tiny.pkl", "--eg3d", at / "eg3d",
                                  "--execute-pickle", "--python", at / "python", "--run", out],
            earlier=run_folder),
    Command(module="experiments.benchmark.main", work=("measure_ceilings",), outputs=("out",),
            call=lambda at, out: ["--config", "tiny", "--out", out], earlier=one_file,
            overwrite=False),
    Command(module="experiments.benchmark.bars", work=("measure_ceilings",), outputs=("out",),
            call=lambda at, out: ["--config", "tiny", "--out", out], earlier=one_file,
            overwrite=False),
    Command(module="experiments.benchmark.scale", work=("views_table",), outputs=(),
            call=lambda at, out: [at / "bars.json"], overwrite=False),
    Command(module="experiments.benchmark.workers", work=("workers_table",), outputs=(),
            call=lambda at, out: [at / "several"], overwrite=False),
    Command(module="experiments.benchmark.gpu_plan", work=("missing",),
            outputs=("out", "write_bounds"),
            call=lambda at, out: ["--out", out], earlier=one_file, overwrite=False),
    Command(module="experiments.benchmark.gpu_day", work=("parity", "on_device"),
            outputs=("out",),
            call=lambda at, out: ["--config", "tiny", "--out", out], earlier=one_file,
            overwrite=False),
    Command(module="experiments.heads.dataset", work=("_maker",), outputs=("folder",),
            call=lambda at, out: ["--folder", out], earlier=files("train_0000.npz"),
            overwrite=False),
    Command(module="experiments.heads.score", work=("render_head",), outputs=("out",),
            call=lambda at, out: ["--data", at / "held_out.npz", "--out", out],
            earlier=files("scores.json"), overwrite=False),
    Command(module="experiments.heads.contact_sheet", work=("HeadMaker.load",), outputs=("path",),
            call=lambda at, out: [out.with_suffix(".png")],
            earlier=one_picture, overwrite=False),
    Command(module="experiments.heads.pretrain", work=("make_step",), outputs=("run",),
            call=lambda at, out: ["--data", at / "heads", "--run", out],
            earlier=files("settings.json"), overwrite=False),
    Command(module="experiments.heads.held_out_frames", work=("save",), outputs=("folder",),
            call=lambda at, out: ["--data", at / "held_out.npz", "--folder", out, "--heads", 2],
            earlier=files("head000/frame0000.png"), overwrite=False),
    Command(module="experiments.heads.deepen", work=("deepen",),
            call=lambda at, out: ["--start", "embedded", "--output", out],
            earlier=checkpoint_folder, overwrite=False),
    Command(module="experiments.heads.directions", work=("head_directions",),
            call=lambda at, out: ["--output", out], earlier=one_file),
    Command(module="experiments.heads.sequences", work=("HeadMaker.load",), outputs=("folder",),
            call=lambda at, out: ["--folder", out], earlier=files("demo_a/frame0000.png"),
            overwrite=False),
    Command(module="experiments.heads.filming", work=("film_raw",), outputs=("folder",),
            call=lambda at, out: ["--folder", out, "--heads", 7], earlier=files("seed7.mp4"),
            overwrite=False),
    Command(module="convert_weights.main", work=("check",),
            call=lambda at, out: [at / "tiny.pkl", out], earlier=checkpoint_folder,
            ignored=("seed",)),
]  # fmt: skip


@pytest.fixture(scope="module")
def at(visible_inputs, writer):
    """A folder with one input of each kind, all of them right."""
    folder = visible_inputs
    generator = checkpoint.load(folder / "generator")
    width = generator.config.w_dim
    np.save(folder / "directions.npy", np.ones((1, width), np.float32))
    (folder / "tiny.pkl").write_bytes(writer.checkpoint_bytes(tiny()))
    np.savez(folder / "latents.npz", w=np.ones((1, tiny().num_ws, tiny().w_dim), np.float32))
    (folder / "eg3d").mkdir()
    (folder / "eg3d" / "legacy.py").touch()
    (folder / "python").write_text("#!/bin/sh\n")
    (folder / "python").chmod(0o755)
    (folder / "photos").mkdir()
    shutil.copy(folder / "frames" / "0.png", folder / "photos")
    case = {"seconds": [1.0], "compile_seconds": 1.0}
    kinds = [f"{stage} step, {views}" for stage in ("latent", "tuning")
             for views in ("1 view", "9 views")]  # fmt: skip
    (folder / "bars.json").write_text(json.dumps({"cases": dict.fromkeys(kinds, case)}))
    labels = np.asarray(to_label(yaw_pitch_camera(np.zeros((2, 9)), np.zeros((2, 9)))))
    heads = {
        "z": np.zeros((2, Z_DIM), np.float32), "yaw": np.zeros((2, 9)), "label": labels,
        "image64": np.zeros((2, 9, 64, 64, 3), np.uint8), "depth64": np.ones((2, 9, 64, 64)),
        "opacity64": np.zeros((2, 9, 64, 64), np.uint8),
        "image128": np.zeros((2, 9, 128, 128, 3), np.uint8), "depth128": np.ones((2, 9, 128, 128)),
        "opacity128": np.zeros((2, 9, 128, 128), np.uint8),
    }  # fmt: skip
    (folder / "several").mkdir()
    several = {"videos": [{"status": "done", "seconds": 60.0}]}
    (folder / "several" / "summary.json").write_text(json.dumps(several))
    (folder / "heads").mkdir()
    for path in (folder / "held_out.npz", folder / "heads" / "train_0000.npz"):
        np.savez(path, **heads)
    (folder / "text.txt").write_text("no file of any command\n")
    (folder / "empty").touch()
    (folder / "empty folder").mkdir()
    return folder


@pytest.fixture(scope="module")
def read_once():
    """What is right in the inputs is read once, so that hundreds of calls take a minute."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((checkpoint, "load"), (networks, "load_lpips")):
            patch.setattr(module, name, functools.cache(getattr(module, name)))
        yield


@pytest.fixture
def start(monkeypatch, capfd, read_once):
    """Start a command with options; its status ('ready' if it got to its work) and stderr."""

    def run(command: Command, options: list) -> tuple[int | str | None, str]:
        module = importlib.import_module(command.module)

        def ready(*_, **__):
            raise Ready

        with monkeypatch.context() as patch:
            for name in command.work:
                own = name if name.startswith("experiments.") else f"{command.module}.{name}"
                # Not by the whole name: a test that runs a command anew leaves its package another
                # module than the one imported here.
                owner, _, attribute = own.rpartition(".")
                patch.setattr(pkgutil.resolve_name(owner), attribute, ready)
            patch.setattr("warnings.formatwarning", warnings.formatwarning)  # put back afterwards
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    errors.run(module.main, lambda: tyro.cli(module.Args, args=_text(options)))
            except Ready:
                status = "ready"
            except SystemExit as end:
                status = end.code
        return status, capfd.readouterr().err

    return run


def _text(options: list) -> list[str]:
    return [str(option) for option in options]
