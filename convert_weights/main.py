"""Convert a PyTorch checkpoint, check it by a picture, and write it; a folder to a file and back.

`python -m convert_weights ffhq512-128.pkl weights/ffhq512-128` is `eg3d-jax convert` with the same.
`eg3d-jax convert weights/ffhq512-128 ffhq512-128.safetensors` makes one file of a folder. The two
paths may be named: `eg3d-jax convert --from ffhq512-128.pkl --to weights/ffhq512-128`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from convert_weights.array_pickle import CheckpointError
from convert_weights.convert import LICENSE, convert_checkpoint
from convert_weights.self_check import check
from eg3d_jax import checkpoint
from eg3d_jax.errors import InputError, run


@dataclass(frozen=True, kw_only=True)
class Args:
    """Convert a PyTorch EG3D checkpoint to Flax, without torch and without executing any of it.

    Attributes:
      source: the checkpoint, a .pkl or .pkl.gz file; or a folder or .safetensors file written by
        this command, to have it as the other; may be written as --from PATH
      output: folder to write, which must not exist, or be empty; or a file ending in .safetensors;
        may be written as --to PATH
      overwrite: replace the checkpoint in the output folder, or the file
      license: note on the licence of the weights, kept with them; NVIDIA's of a PyTorch checkpoint
        and the source's own else, if not given
      dtype: type of the stored numbers; float16 halves the size, loading gives float32. The
        source's if not given, and float32 of a PyTorch checkpoint
      focal: focal length over the image side, which no PyTorch checkpoint holds; guessed if not
        given
      seed: seeds the latent of the self-check of a PyTorch checkpoint
    """

    source: tyro.conf.Positional[Path]
    output: tyro.conf.Positional[Path]
    overwrite: bool = False
    license: str | None = None
    dtype: Literal["float32", "float16"] | None = None
    focal: float | None = None
    seed: int = 0


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    checkpoint.check_free(args.output, overwrite=args.overwrite)
    if args.source.is_dir() or checkpoint.is_file(args.source):
        copy(args, Console())
    else:
        convert(args, Console())


def copy(args: Args, console: Console) -> None:
    """Write a folder as a file or a file as a folder, to the last bit unless --dtype differs.

    Raises:
      InputError: if the source cannot be read, or the output not be written.
    """
    if args.focal is not None:
        raise InputError(
            f"--focal {args.focal} is for PyTorch checkpoints; {args.source} has its own already"
        )
    generator = checkpoint.load(args.source)
    metadata = generator.origin.metadata
    license = metadata.get("license") if args.license is None else args.license
    dtype = args.dtype or metadata["dtype"]
    written = checkpoint.save(
        args.output,
        generator,
        source=metadata.get("source"),
        license=license,
        dtype=dtype,
        overwrite=args.overwrite,
    )
    same = written["fingerprint"] == metadata["fingerprint"]
    change = "the same numbers" if same else f"rounded to {dtype}"
    console.print(
        f"wrote {args.output} ({change}, fingerprint {written['fingerprint'][:12]})", markup=False
    )


def convert(args: Args, console: Console) -> None:
    """Convert a checkpoint, check it by a picture, write it, and print what was done.

    Raises:
      CheckpointError: one sentence naming the file and what is wrong with it.
      InputError: if the output cannot be written.
    """
    conversion = convert_checkpoint(args.source, focal=args.focal)
    generator = conversion.generator
    try:
        statistics = check(generator, seed=args.seed)
    except CheckpointError as error:
        raise CheckpointError(f"cannot convert {args.source}: {error}") from None
    _show(console, conversion.described(), generator.config)
    if rest := conversion.described_rest():
        console.print(rest, markup=False)
    _show(console, "self-check: one picture from the front", statistics)
    metadata = checkpoint.save(
        args.output,
        generator,
        source=conversion.source,
        license=LICENSE if args.license is None else args.license,
        dtype=args.dtype or "float32",
        overwrite=args.overwrite,
    )
    console.print(f"wrote {args.output} (fingerprint {metadata['fingerprint'][:12]})", markup=False)


def _show(console: Console, title: str, values: object) -> None:
    table = Table(title=escape(title), title_justify="left", show_header=False)
    for field in dataclasses.fields(values):  # pyright: ignore[reportArgumentType] (a dataclass)
        value = getattr(values, field.name)
        table.add_row(
            field.name, f"{value:.4g}" if isinstance(value, float) else escape(str(value))
        )
    console.print(table)


def start(prog: str | None = None) -> NoReturn:
    """Run the command and end the process with its status; see `eg3d_jax.errors.run`.

    Args:
      prog: how the command was called, for its help; `python -m convert_weights` if not given.
    """
    words = in_order(sys.argv[1:])
    run(main, lambda: tyro.cli(Args, prog=prog or "python -m convert_weights", args=words))


def in_order(words: Sequence[str]) -> list[str]:
    """Put what follows --from before all other words, and what follows --to behind them."""
    named: dict[str, list[str]] = {"--from": [], "--to": []}
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in named:
            given = value if equals else next(rest, None)
            named[name] += [] if given is None else [given]
        else:
            others.append(word)
    return [*named["--from"], *others, *named["--to"]]
