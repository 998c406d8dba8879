"""Compare with NVIDIA's own code, for users who have it and torch.

`python -m experiments.crosscheck --pickle ffhq512-128.pkl --eg3d eg3d/eg3d --execute-pickle`
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from convert_weights.convert import convert_pickle
from eg3d_jax.config import GeneratorConfig
from eg3d_jax.errors import InputError
from experiments import command
from experiments.command import check_seed
from experiments.crosscheck import checkout, jax_side
from experiments.crosscheck.comparison import Tolerances, compare, verdict
from experiments.crosscheck.inputs import make_inputs
from experiments.crosscheck.outputs import cost_table, difference_table, numbers, picture
from experiments.media.pictures import save_png
from experiments.progress import Progress
from experiments.runs.folder import RunFolder
from inversion.files import write_json

EXIT_DISAGREE = 1


@dataclass(frozen=True, kw_only=True)
class Args:
    """Run a checkpoint by NVIDIA's PyTorch code and by ours, and compare every stage.

    Ends with status 0 if all differences are within the tolerances, and with 1 if not.

    Attributes:
      pickle: the checkpoint
      eg3d: folder of NVIDIA's code that holds legacy.py
      execute_pickle: confirm that the pickle and the checkout are trusted: their loader executes
        the code stored in the pickle, with all your rights, and nothing checks it before
      run: output folder
      python: interpreter of an environment with torch
      device: of the PyTorch side; auto takes a GPU if there is one
      latents: number of random latents
      cameras: number of cameras, each with every latent
      neural_side: side of the volume rendering, pixels; the checkpoint's if not given
      rays_at_once: rays that our side renders together; must divide their number
      tolerances: largest differences allowed
      overwrite: remove an earlier run from the folder
      seed: of all draws
    """

    pickle: Path
    eg3d: Path
    execute_pickle: bool = False
    run: Path = Path("runs/crosscheck")
    python: Path = Path(sys.executable)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    latents: int = 2
    cameras: int = 2
    neural_side: int | None = None
    rays_at_once: int | None = None
    tolerances: Tolerances = Tolerances()
    overwrite: bool = False
    seed: int = 0


def main(args: Args) -> int:
    """Run both sides, write the comparison, and return the exit status."""
    check(args)
    progress = Progress()
    with RunFolder.lock(args.run, overwrite=args.overwrite) as run:
        with progress.task("converting the checkpoint"):
            conversion = convert_pickle(args.pickle)
        generator = conversion.generator
        side = choose_side(args, generator.config)
        settings = vars(args) | {"neural_side": side, "source": conversion.source}
        inputs = make_inputs(
            generator, latents=args.latents, cameras=args.cameras, side=side, seed=args.seed
        )
        with progress.task("PyTorch"):
            theirs = checkout.run(
                args.pickle, args.eg3d, inputs, python=args.python, device=args.device
            )
        with progress.task("JAX"):
            ours = jax_side.compute(generator, inputs, rays_at_once=args.rays_at_once)
        differences = compare(theirs, ours, args.tolerances)
        shown, figures = run.pictures / "crosscheck.png", run.path / "metrics.json"
        with run.staging(settings) as staging:
            (staging / run.pictures.name).mkdir()
            drawn = picture(theirs, ours, args.tolerances)
            save_png(staging / run.pictures.name / shown.name, drawn)
            write_json(staging / figures.name, numbers(differences, theirs, ours))
    progress.console.print(difference_table(differences), cost_table(theirs, ours))
    progress.say(verdict(differences))
    progress.say(f"{shown} and {figures}")
    return 0 if all(difference.agrees for difference in differences) else EXIT_DISAGREE


def check(args: Args) -> None:
    """Refuse options that cannot work, before anything is read or run."""
    if not args.execute_pickle:
        raise InputError(
            f"NVIDIA's loader executes code that is stored in {args.pickle}; if you trust the file "
            f"and the code in {args.eg3d}, say so with --execute-pickle"
        )
    if min(args.latents, args.cameras) < 1:
        raise InputError(
            f"--latents {args.latents} and --cameras {args.cameras} must be at least 1"
        )
    check_seed(args.seed)
    checkout.check(args.eg3d, args.python)


def choose_side(args: Args, config: GeneratorConfig) -> int:
    """Choose the side of the volume rendering, pixels; refuse it if this generator cannot."""
    side = config.neural_side if args.neural_side is None else args.neural_side
    network = config.superresolution
    if side < 2 or (side > network.input_side and not network.resize_larger):
        most = "" if network.resize_larger else f" and at most {network.input_side}"
        raise InputError(f"--neural-side {side} must be at least 2{most}")
    if args.rays_at_once is not None and (args.rays_at_once < 1 or side**2 % args.rays_at_once):
        raise InputError(f"--rays-at-once {args.rays_at_once} must divide the {side**2} rays")
    return side


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    # Memory that JAX reserves on a GPU would be missing in PyTorch's process.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    command.start(main, Args, name="experiments.crosscheck", prog=prog)
