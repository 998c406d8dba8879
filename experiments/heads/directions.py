"""Directions of W for the known parameters of the synthetic heads, by least squares.

`python -m experiments.heads.directions` writes directions.npz, from which
`python -m experiments.edit --generator embedded --directions directions.npz --which smile jaw age`
edits by name. A generator of these heads maps z to w, and the entries of z are the heads'
parameters: no picture is looked at, and neither meshes nor anny are needed.

Strength 1 is one standard deviation of the parameter, which is 1, the draws having mean square one.
The direction of a parameter is how the mean of w depends on it (`parameter_directions`). The other
candidate, the normal of the best linear predictor, changes other parameters more. With an earlier
embedded generator, seen through a nonlinear predictor of z from w fitted to other samples, the
effect on the other 36 parameters together, mean over 2,000 held-out heads, was 0.15 of that on the
parameter itself, against 0.81 of normals; in pictures of 24 held-out heads, explained by the
changes that each parameter makes there, 0.6 against 1.2. In a single head the leak is larger, as W
is curved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import jax
import numpy as np

from eg3d_jax.errors import InputError
from eg3d_jax.folders import check_file_writable
from eg3d_jax.generator import TriPlaneGenerator
from experiments import command
from experiments.command import check_limits, check_seed
from experiments.heads.anatomy import (
    APPEARANCE,
    EXPRESSION,
    IDENTITY,
    PARAMETERS,
    PHENOTYPE,
    Z_DIM,
    sample_latents,
)
from experiments.heads.network import check_heads, load_head_generator
from experiments.subjects import EMBEDDED
from inversion.direction_files import save_directions
from inversion.editing import Directions, parameter_directions
from inversion.latents import frontal_mapping

_BATCH = 10_000
# Expression first: the viewer has controls for the first few.
ORDER = np.concatenate(
    [np.arange(Z_DIM)[part] for part in (EXPRESSION, PHENOTYPE, APPEARANCE, IDENTITY)]
)


@dataclass(frozen=True, kw_only=True)
class Args:
    """Fit a direction of W to each parameter of the synthetic heads.

    Attributes:
      output: npz to write
      generator: folder of a generator of these heads, as `python -m experiments.heads.pretrain`
        makes; the embedded one if not given
      samples: heads drawn
      seed: of the draws
      overwrite: replace an earlier file
    """

    output: Path = Path("directions.npz")
    generator: Path = EMBEDDED
    samples: int = 200_000
    seed: int = 0
    overwrite: bool = False


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    check_file_writable(args.output, option="--output")
    if args.output.exists() and not args.overwrite:
        raise InputError(f"{args.output} exists; choose another --output, or add --overwrite")
    check_limits(args, {"samples": (Z_DIM + 1, 1_000_000_000)})
    check_seed(args.seed)
    generator = load_head_generator(args.generator)
    directions = head_directions(generator, num_samples=args.samples, seed=args.seed)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    save_directions(args.output, directions, generator.origin.metadata)
    print(f"{args.output}: {', '.join(directions.names)}")


def head_directions(
    generator: TriPlaneGenerator, *, num_samples: int = 200_000, seed: int = 0
) -> Directions:
    """Fit directions of the 37 parameters in `ORDER`, named, under the frontal camera.

    Raises:
      InputError: if the generator is none of the synthetic heads.
    """
    check_heads(generator)
    names = [PARAMETERS[i] for i in ORDER]
    return parameter_directions(_samples(generator, num_samples, seed), names)


def _samples(
    generator: TriPlaneGenerator, count: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Parameters [n, 37] in `ORDER` and the latents [n, D] of the same heads, in batches."""
    rng, mapped = np.random.default_rng(seed), jax.jit(frontal_mapping(generator))
    for start in range(0, count, _BATCH):
        z = sample_latents(rng, min(_BATCH, count - start))
        yield z[:, ORDER], np.asarray(mapped(z))


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.heads.directions", prog=prog)


if __name__ == "__main__":
    start()
