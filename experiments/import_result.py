"""Take over results of the authors' PyTorch code as a run folder, to render, edit and measure here.

`python -m experiments.import_result --pickle fintuned_generator.pkl --latents
9_projected_w_mult.npz --run runs/old`. Neither file is executed, and torch is not needed.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import tyro

from convert_weights.pickle_reader import sha256
from eg3d_jax.cameras import azimuth, from_label
from eg3d_jax.config import GeneratorConfig
from experiments import compilation_cache, errors
from experiments.camera_checks import check_camera
from experiments.errors import InputError
from experiments.generators import convert_pickle
from experiments.results import save_result
from experiments.runs import RunFolder
from inversion.latents import Latents
from inversion.views import continuous_azimuths

_FRONTAL = np.pi / 2


@dataclass(frozen=True, kw_only=True)
class Args:
    """Write the tuned generator and latents of the authors' code as a run folder.

    Attributes:
      pickle: the tuned generator, their fintuned_generator.pkl
      latents: several latents and their cameras (keys ws [N, 1, 14, 512] and cs [N, 1, 25], their
        *_projected_w_mult.npz), or one latent for all views (key w [1, 14, 512])
      run: output folder
      overwrite: remove an earlier run from the folder
    """

    pickle: Path
    latents: Path
    run: Path
    overwrite: bool = False


def main(args: Args) -> None:
    """Read both files, check that they fit, and write the run's result."""
    with RunFolder.take(args.run, overwrite=args.overwrite) as run:
        w_plus, labels = read_latents(args.latents)
        generator, metadata = convert_pickle(args.pickle)
        check(args.latents, w_plus, labels, generator.config)
        latents, labels = sort_latents(w_plus, labels)
        settings = {
            "imported_generator": metadata["source"],
            "imported_latents": {"file": args.latents.name, "sha256": sha256(args.latents)},
        }
        with run.beginning(settings) as staging:
            (staging / run.result.name).mkdir()
            save_result(staging / run.result.name, generator, latents, labels, metadata)
    print(f"{run.result}: a generator and {len(latents)} latent{'s' if len(latents) > 1 else ''}")


def read_latents(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The latents in a file of the authors' code (spec inversion 3 and 5).

    Returns:
      w_plus [K, L, D] and labels [K, 25]; [0, 25] beside a single latent, whose file has none.

    Raises:
      InputError: if the file cannot be read or holds something else.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("w", "ws", "cs") if name in file}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as an .npz file ({error})") from None
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    if not all(x.dtype.kind == "f" and np.isfinite(x).all() for x in arrays.values()):
        raise InputError(f"{path} holds something other than finite numbers")
    match shapes:
        case {"w": [1, _, _], **others} if not others:
            w_plus, labels = arrays["w"], np.zeros((0, 25))
        case {"ws": [count, 1, _, _], "cs": [same, 1, 25], **others} if not others:
            if not count or count != same:
                raise InputError(f"{path} has {count} latents and {same} cameras; it needs pairs")
            w_plus, labels = arrays["ws"][:, 0], arrays["cs"][:, 0]
        case _:
            raise InputError(
                f"{path} must hold ws [N, 1, L, D] and cs [N, 1, 25], or w [1, L, D], but of these "
                f"it has {shapes or 'none'}"
            )
    return w_plus.astype(np.float32), labels.astype(np.float32)


def check(path: Path, w_plus: np.ndarray, labels: np.ndarray, config: GeneratorConfig) -> None:
    """Refuse latents of another generator, and cameras that see no head.

    Raises:
      InputError: naming the file.
    """
    if w_plus.shape[1:] != (config.num_ws, config.w_dim):
        raise InputError(
            f"{path}: latents [{w_plus.shape[1]}, {w_plus.shape[2]}] do not fit the generator, "
            f"which takes [{config.num_ws}, {config.w_dim}]; import the two of one run"
        )
    for index, label in enumerate(labels):
        check_camera(f"{path}: cs[{index}]", label, box_side=config.render.box_warp)


def sort_latents(w_plus: np.ndarray, labels: np.ndarray) -> tuple[Latents, np.ndarray]:
    """Latents and labels by ascending azimuth; a latent without a label is taken as frontal."""
    angles = np.array([_FRONTAL])
    if len(labels):
        angles = continuous_azimuths(np.asarray(azimuth(from_label(labels))))
    order = np.argsort(angles, kind="stable")
    latents = Latents(
        w_plus=jnp.asarray(w_plus[order]), azimuth=jnp.asarray(angles[order], jnp.float32)
    )
    return latents, labels[order] if len(labels) else labels


if __name__ == "__main__":
    compilation_cache.enable()
    errors.run(main, lambda: tyro.cli(Args))
