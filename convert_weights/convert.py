"""Convert a checkpoint's file to the generator in Flax, and describe what was read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convert_weights.array_pickle import CheckpointError
from convert_weights.generator import count_parameters, left_out, load_torch_state, read_generator
from convert_weights.pickle_reader import read_pickle
from eg3d_jax.errors import InputError
from eg3d_jax.folders import sha256
from eg3d_jax.generator import TriPlaneGenerator

LICENSE = (
    "Weights keep the licence of their source. NVIDIA's released EG3D checkpoints: NVIDIA Source "
    "Code License, non-commercial."
)


@dataclass(frozen=True)
class Conversion:
    """A converted checkpoint.

    Attributes:
      generator: the generator G_ema
      source: name and SHA-256 of the file
      left_out: names and shapes of tensors that take no part in pictures and were left out
      num_tensors: tensors of the generator, its buffers included
    """

    generator: TriPlaneGenerator
    source: dict[str, str]
    left_out: list[str]
    num_tensors: int

    def described(self) -> str:
        """Describe what was read, in a line."""
        trained, numbers = count_parameters(self.generator.config)
        return (
            f"{self.source['file']}: {numbers:,} parameters in {trained} tensors, and "
            f"{self.num_tensors - trained} buffers"
        )

    def described_rest(self) -> str:
        """Describe what was left out, in a line; empty if nothing was."""
        if not self.left_out:
            return ""
        return (
            f"left out, as no picture depends on {'it' if len(self.left_out) == 1 else 'them'}: "
            + ", ".join(self.left_out)
        )


def convert_checkpoint(path: Path, *, focal: float | None = None) -> Conversion:
    """Read a PyTorch checkpoint and build its generator; nothing in the file is executed.

    Args:
      path: the checkpoint, a .pkl or .pkl.gz file.
      focal: focal length over the image side, which no checkpoint holds; guessed if not given.

    Raises:
      CheckpointError: one sentence naming the file and what is wrong with it.
    """
    tree = read_pickle(path)
    try:
        config, state = read_generator(tree, focal=focal)
        generator = load_torch_state(config, state)
    except CheckpointError as error:
        raise CheckpointError(f"cannot convert {path}: {error}") from None
    source = {"file": path.name, "sha256": sha256(path)}
    return Conversion(generator, source, left_out(tree), len(state))


def convert_pickle(path: Path) -> Conversion:
    """Convert a PyTorch checkpoint; a file that cannot be used is an `InputError`."""
    try:
        return convert_checkpoint(path)
    except CheckpointError as error:
        raise InputError(str(error)) from None
