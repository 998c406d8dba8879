"""Import results of the authors' PyTorch code as a run folder, to render, edit and measure here.

`python -m experiments.import_result --pickle fintuned_generator.pkl --latents
9_projected_w_mult.npz --run runs/old`. Neither file is executed, and torch is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import jax.numpy as jnp
import numpy as np

from convert_weights.convert import LICENSE, convert_pickle
from eg3d_jax.cameras import FRONTAL, azimuth, from_label
from eg3d_jax.config import GeneratorConfig
from eg3d_jax.folders import sha256
from experiments import command
from experiments.runs.folder import RunFolder
from inversion.array_files import read_latents
from inversion.frames.camera_checks import nearest_cameras
from inversion.latents import Latents
from inversion.result import Inversion
from inversion.views import continuous_azimuths


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
        w_plus = file.w_plus(generator.config)
        labels = cameras_of(args.latents, file.labels, generator.config)
        latents, labels = sort_latents(w_plus, labels)
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
    repeated = " of W, repeated for all layers" * (file.values.size < w_plus.size)
    counted = f"{len(latents)} latent{'s' * (len(latents) > 1)}{repeated}"
    print(f"{run.result}: a generator and {counted}")


def cameras_of(path: Path, labels: np.ndarray, config: GeneratorConfig) -> np.ndarray:
    """Convert labels [K, 25] to cameras; the authors' code may have optimised all 25 numbers.

    Raises:
      InputError: naming the file and the label, if one is no camera by far or sees no head.
    """
    named = {f"cs[{i}]": label.astype(np.float64) for i, label in enumerate(labels)}
    found = nearest_cameras(path, named, box_side=config.render.box_warp)
    return np.array([*found.values()], np.float32).reshape(-1, 25)


def sort_latents(w_plus: np.ndarray, labels: np.ndarray) -> tuple[Latents, np.ndarray]:
    """Sort latents and labels by azimuth; a latent of no or several labels is frontal."""
    angles = np.array([FRONTAL])
    if len(labels) == len(w_plus):
        angles = continuous_azimuths(np.asarray(azimuth(from_label(labels))))
    order = np.argsort(angles, kind="stable")
    latents = Latents(
        w_plus=jnp.asarray(w_plus[order]), azimuth=jnp.asarray(angles[order], jnp.float32)
    )
    return latents, labels[order] if len(labels) == len(w_plus) else labels


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.import_result", prog=prog)


if __name__ == "__main__":
    start()
