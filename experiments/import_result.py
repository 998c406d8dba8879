"""Import results of the authors' PyTorch code as a run folder, to render, edit and measure here.

`python -m experiments.import_result --pickle fintuned_generator.pkl --latents
9_projected_w_mult.npz --run runs/old`. Neither file is executed, and torch is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from convert_weights.convert import LICENSE, convert_pickle
from eg3d_jax.cameras import from_label
from eg3d_jax.folders import sha256
from experiments import command
from experiments.runs.folder import RunFolder
from inversion.latent_files import read_latents
from inversion.result import Inversion


@dataclass(frozen=True, kw_only=True)
class Args:
    """Write the tuned generator and latents of the authors' code as a run folder.

    Attributes:
      pickle: the tuned generator, their fintuned_generator.pkl
      latents: several latents and their cameras (keys ws [N, 1, 14, 512] and cs [N, 1, 25]), which
        is their *_projected_w_mult.npz, or one latent for all views (key w [1, 14, 512]); [1, 512]
        instead is a latent of W, for all layers; npz, npy, .pt or .pth
      run: output folder
      overwrite: remove an earlier run from the folder
    """

    pickle: Path
    latents: Path
    run: Path
    overwrite: bool = False


def main(args: Args) -> None:
    """Read both files, check that they fit, and write the run's result."""
    with RunFolder.lock(args.run, overwrite=args.overwrite) as run:
        file = read_latents(args.latents)
        conversion = convert_pickle(args.pickle)
        generator = conversion.generator
        latents, labels = file.latents(generator.config)
        settings = {
            "imported_generator": conversion.source,
            "imported_latents": {"file": args.latents.name, "sha256": sha256(args.latents)},
        }
        metadata = {"source": conversion.source, "license": LICENSE}
        with run.staging(settings) as staging:
            (staging / run.result.name).mkdir()
            head = Inversion(
                generator=generator, latents=latents, cameras=from_label(labels), metadata=metadata
            )
            head.save(staging / run.result.name)
    print(conversion.described())
    if rest := conversion.described_rest():
        print(rest)
    repeated = " of W, repeated for all layers" * (file.values.size < latents.w_plus.size)
    counted = f"{len(latents)} latent{'s' * (len(latents) > 1)}{repeated}"
    print(f"{run.result}: a generator and {counted}")


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.import_result", prog=prog)


if __name__ == "__main__":
    start()
