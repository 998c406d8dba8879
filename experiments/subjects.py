"""Heads and generators that commands are given: loading, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from eg3d_jax import checkpoint
from eg3d_jax.errors import InputError
from eg3d_jax.generator import TriPlaneGenerator
from experiments.command import check_seed
from inversion.latents import Latents, repeat_latents
from inversion.result import load

# Name of the embedded generator, in place of a folder.
EMBEDDED = Path("embedded")


def load_generator(folder: Path) -> TriPlaneGenerator:
    """Load the generator of a checkpoint's folder or file, or the embedded one for `EMBEDDED`."""
    return checkpoint.load(checkpoint.EMBEDDED if folder == EMBEDDED else folder)


DEMO_RUN = Path("runs/demo")

_map_to_ws = jax.jit(TriPlaneGenerator.map_to_ws)


@dataclass(frozen=True, kw_only=True)
class HeadArgs:
    """Options by which a command is told its head.

    Attributes:
      run: run folder of an inversion; runs/demo if no generator is given
      generator: instead of a run: folder or .safetensors file made by `python -m convert_weights`,
        or 'embedded'
      seed: head of the generator
    """

    run: tyro.conf.Positional[Path | None] = None
    generator: Path | None = None
    seed: int | None = None

    def head(self, truncation: float) -> Subjects:
        """Load the one head; see `load_subjects`."""
        seeds = () if self.seed is None else (self.seed,)
        return load_subjects(self.run, self.generator, seeds, truncation)


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """One generator and heads of it.

    Attributes:
      generator: tuned or not.
      names: of the heads.
      latents: of the heads.
      metadata: of the generator's checkpoint: source, licence, fingerprint.
      home: folder below which output goes unless told otherwise.
      labels: [V, 25] EG3D labels of the views that a run fitted; none of a generator's heads.
    """

    generator: TriPlaneGenerator
    names: tuple[str, ...]
    latents: tuple[Latents, ...]
    metadata: dict[str, Any]
    home: Path
    labels: np.ndarray = field(default_factory=lambda: np.zeros((0, 25), np.float32))

    @property
    def provenance(self) -> dict[str, Any]:
        """Fingerprint, source and licence, which a file made of the generator must keep."""
        return {key: self.metadata.get(key) for key in ("fingerprint", "source", "license")}


def load_subjects(
    run: Path | None, generator: Path | None, seeds: Sequence[int], truncation: float
) -> Subjects:
    """Load a run's head, or heads of a generator.

    Args:
      run: an inversion's run folder; `DEMO_RUN` if neither it nor a generator is given.
      generator: checkpoint folder or file, or the word `embedded`.
      seeds: of the generator's heads; 0 if none is given.
      truncation: see `TriPlaneGenerator.map_to_ws`.

    Raises:
      InputError: if both or the wrong options are given, or something cannot be read.
    """
    if generator is None:
        if seeds:
            raise InputError("seeds choose heads of a generator; add --generator, or leave them")
        return _of_run(DEMO_RUN if run is None else run)
    if run is not None:
        raise InputError(f"{run} and --generator {generator}: give a run or a generator, not both")
    for seed in seeds:
        check_seed(seed)
    if not np.isfinite(truncation):
        raise InputError(f"--truncation {truncation} must be a number, usually from 0 to 1")
    return _of_generator(generator, seeds or (0,), truncation)


def _of_run(run: Path) -> Subjects:
    if not run.is_dir():
        raise InputError(
            f"{run} is no folder; name a run made by `python -m experiments.invert`, or a generator"
            " with --generator (the word 'embedded' for the one that comes along)"
        )
    result = load(run / "result")
    return Subjects(
        generator=result.generator,
        names=(run.resolve().name,),
        latents=(result.latents,),
        metadata=dict(result.metadata),
        home=run,
        labels=result.labels,
    )


def _of_generator(folder: Path, seeds: Sequence[int], truncation: float) -> Subjects:
    generator = load_generator(folder)
    # An argument, so that all values share a program; left out at 1, which is no arithmetic at all.
    truncated = {} if truncation == 1 else {"truncation": truncation}
    latents = []
    for seed in seeds:
        # NumPy's legacy draws: the same seed is the same head as in the usual PyTorch scripts.
        z = np.random.RandomState(seed).randn(generator.config.z_dim)
        ws = _map_to_ws(generator, jnp.asarray(z, jnp.float32), **truncated)
        latents.append(repeat_latents(ws, np.zeros(1)))
    return Subjects(
        generator=generator,
        names=tuple(f"seed {seed}" for seed in seeds),
        latents=tuple(latents),
        metadata=generator.origin.metadata,
        home=Path("runs") / _name_of(folder),
    )


def _name_of(folder: Path) -> str:
    """Name of a generator: of its folder, or of its file without the suffix."""
    resolved = folder.resolve()
    return resolved.stem if checkpoint.is_file(resolved) else resolved.name


DEMO = Path(__file__).parent / "demo" / "demo_a"
