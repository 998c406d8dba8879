"""Folders of frames with refined camera labels: their settings, checks and files.

Beside the folder lies a picture of its name with `.png`, which inside would be a frame. What a
folder was made with is noted in its `refinement.json`.
"""

from __future__ import annotations

import dataclasses
import glob
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from eg3d_jax.cameras import Cameras
from eg3d_jax.errors import InputError
from eg3d_jax.folders import check_file_writable
from eg3d_jax.generator import TriPlaneGenerator
from experiments.command import check_limits, check_seed
from experiments.media.pictures import grid, save_png, to_uint8
from experiments.report.camera_moves import CameraMoves
from experiments.runs.output_folder import OutputFolder
from experiments.subjects import DEMO, EMBEDDED
from inversion.camera_refinement.joint import RefinementConfig
from inversion.camera_refinement.motion import CameraPrior, pose_errors
from inversion.camera_refinement.refine import Refined, refine_cameras, usual_config
from inversion.files import write_json
from inversion.frames.folder import MASKS, SUFFIXES, Frames, mask_name, read_image
from inversion.frames.labels import LABELS_FILE, plain_name, write_labels
from inversion.latents import repeat_latents
from inversion.monitor import Monitor
from inversion.objectives import FeatureNetworks
from inversion.result import render_views

MARK = "refinement.json"
# Files beside the frames that hold for a copy, too.
_BESIDE = ("depth.npz", "mask.npz", "parameters.npz")
_ROWS = 5  # of the picture


@dataclass(frozen=True, kw_only=True)
class RefinementSettings:
    """Refine the camera labels of frames.

    Attributes:
      frames: folder of square frames with EG3D's dataset.json; the demo head if not given
      output: new folder, for the frames with their refined labels; OUTPUT.png shows some
      generator: folder or .safetensors file made by `python -m convert_weights`, or 'embedded':
        small heads
      views: number of frames whose cameras are found together with the head, evenly spaced in yaw
      joint_steps: steps for these
      latent_steps: steps for the head that all frames then show
      coarse_steps: Gauss-Newton steps for the camera of each frame by itself, before these
      fine_steps: the same after them, in pictures twice as large
      steady: frames are a video's, in order: smooth the jitter of their cameras from one to the
        next; photographs, whose cameras jitter by more than is expected, stay as found in any case
      mask_background: look at the person alone: frames need masks, which `prepare --mask` finds;
        if not given, done where `prepare` made the frames of a video and they have masks
      degrees: deviation expected of a camera's turn about the head; if not given 2, and 0.3 for
        frames that `prepare` made of a video
      percent: of its shift, of its distance; if not given 2, and 0.5 of such frames
      focal_percent: of the focal length that all share
      truth: folder of the same frames with true labels, to measure against
      crop: take the central square of frames that are not square
      seed: of all draws
      overwrite: replace an earlier call's folder, and OUTPUT.png
    """

    frames: tyro.conf.Positional[Path] = DEMO
    output: Path = Path("runs/refined")
    generator: Path = EMBEDDED
    views: int = RefinementConfig().num_views
    joint_steps: int = RefinementConfig().joint.num_steps
    latent_steps: int = RefinementConfig().latent.num_steps
    coarse_steps: int = RefinementConfig().coarse_steps
    fine_steps: int = RefinementConfig().fine_steps
    steady: bool = RefinementConfig().steady
    mask_background: bool | None = None
    degrees: float | None = None
    percent: float | None = None
    focal_percent: float = 2.0
    truth: Path | None = None
    crop: bool = False
    seed: int = 0
    overwrite: bool = False

    def config(self, frames: Frames) -> RefinementConfig:
        """Schedule of the refinement of frames, and the expected deviations."""
        usual = usual_config(frames)
        prior, mask = usual.prior, self.mask_background
        return dataclasses.replace(
            usual,
            num_views=self.views,
            joint=dataclasses.replace(usual.joint, num_steps=self.joint_steps),
            latent=dataclasses.replace(usual.latent, num_steps=self.latent_steps),
            coarse_steps=self.coarse_steps,
            fine_steps=self.fine_steps,
            steady=self.steady,
            mask_background=usual.mask_background if mask is None else mask,
            prior=dataclasses.replace(
                prior,
                rotation=prior.rotation if self.degrees is None else math.radians(self.degrees),
                translation=prior.translation if self.percent is None else self.percent / 100,
                focal=self.focal_percent / 100,
            ),
        )

    def settled(self, frames: Frames) -> RefinementSettings:
        """The same settings with what they mean for frames where nothing is given."""
        config = self.config(frames)
        return dataclasses.replace(
            self,
            mask_background=config.mask_background,
            degrees=round(math.degrees(config.prior.rotation), 9),
            percent=round(100 * config.prior.translation, 9),
        )

    @property
    def picture(self) -> Path:
        """Path of the picture beside the folder."""
        return Path(f"{self.output}.png")


def check_settings(settings: RefinementSettings) -> None:
    """Refuse numbers out of range.

    Raises:
      InputError: naming the option.
    """
    for name in ("degrees", "percent", "focal_percent"):
        value = getattr(settings, name)
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"--{name.replace('_', '-')} {value} must be positive")
    counts = ("views", "joint_steps", "latent_steps", "coarse_steps", "fine_steps")
    check_limits(settings, dict.fromkeys(counts, (1, 1_000_000)))
    check_seed(settings.seed)


def check_output(frames: Frames, settings: RefinementSettings) -> OutputFolder:
    """Refuse a folder or picture that must not be written; nothing is changed.

    Args:
      frames: to be copied.
      settings: say where, and whether an earlier copy may be replaced.

    Returns:
      The folder, for `write_refined`.

    Raises:
      InputError: if there is something that may not be replaced, or nothing can be written.
    """
    path = settings.picture
    check_file_writable(path, option="--output")
    if path.exists() and not settings.overwrite:
        raise InputError(f"{path} exists; replace it with --overwrite, or choose another --output")
    return check_copy(frames, settings.output, MARK, overwrite=settings.overwrite)


def check_copy(frames: Frames, folder: Path, mark: str, *, overwrite: bool) -> OutputFolder:
    """Refuse a folder into which frames must not be copied; nothing is changed.

    Args:
      frames: to be copied.
      folder: new, empty, or with an earlier copy of the same frames.
      mark: the command's, see `OutputFolder`.
      overwrite: whether an earlier copy may be replaced.

    Raises:
      InputError: if the folder is the frames' own, or holds other pictures or what may not be
        replaced.
    """
    if folder.exists() and folder.samefile(frames.folder):
        raise InputError(f"{folder} is the folder of the frames; choose another --output")
    found = (path.relative_to(folder) for path in folder.rglob("*")
             if path.suffix.lower() in SUFFIXES and path.is_file())  # fmt: skip
    ours = {*frames.names, *map(mask_name, frames.names)}
    strange = [path for path in found if plain_name(path.as_posix()) not in ours
               and not any(part.startswith(".") for part in path.parts)]  # fmt: skip
    if strange:
        raise InputError(
            f"{folder / strange[0]} is none of the frames copied; choose another --output"
        )
    written = (LABELS_FILE, MASKS, *_BESIDE, *map(glob.escape, frames.names))
    return OutputFolder(folder, mark, written, overwrite=overwrite)


def copy_frames(frames: Frames, folder: Path, cameras: Cameras) -> None:
    """Copy the images of a folder of frames, and the files beside them, with other labels.

    Args:
      frames: to be copied; each copy lies where its label says.
      folder: empty.
      cameras: [T], of the labels there.
    """
    files = dict(zip(frames.names, frames.paths, strict=True))
    beside = (*_BESIDE, *map(mask_name, frames.names))
    files |= {name: path for name in beside if (path := frames.folder / name).exists()}
    for name, source in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    write_labels(folder, frames.names, cameras)


def write_refined(
    generator: TriPlaneGenerator,
    frames: Frames,
    settings: RefinementSettings,
    output: OutputFolder,
    *,
    networks: FeatureNetworks,
    monitor: Monitor,
    truth: Cameras | None = None,
    source: Mapping[str, Any] | None = None,
) -> None:
    """Refine the labels of frames, and write their folder with its picture: all, or nothing.

    Args:
      generator: that `settings` name, as loaded.
      frames: T, that they name, with their cameras as given.
      settings: of the refinement; noted in the folder.
      output: of `check_output` for the same settings.
      networks: of the losses.
      monitor: told of every step, and what was found.
      truth: [T] true cameras, to measure against; None if they are not known.
      source: fingerprints of what the labels were made from, also noted; None for none.

    Raises:
      InputError: if a loss is not finite, or another process writes into the folder.
      Stopped: if the monitor asked for it; nothing is written.
    """
    key, settings = jax.random.key(settings.seed), settings.settled(frames)
    config = settings.config(frames)
    refined = refine_cameras(generator, frames, config, key=key, networks=networks, monitor=monitor)
    with monitor.task("labels and picture"), output.writing() as staging:
        copy_frames(frames, staging, refined.cameras)
        numbers = motion_numbers(refined, config.prior)
        if truth is not None:
            numbers["errors"] = {
                "before": error_numbers(frames.cameras, truth),
                "after": error_numbers(refined.cameras, truth),
            }
        noted = {} if source is None else {"source": source}
        content = {**numbers, "frames": frames.names, "settings": settings, **noted}
        write_json(staging / MARK, content)
        save_png(settings.picture, picture(generator, frames, refined))
    for sentence in sentences(numbers):
        monitor.say(sentence)
    monitor.say(
        f"{settings.output}: the frames with refined labels, {MARK}; {settings.picture} shows some"
    )


def motion_numbers(refined: Refined, prior: CameraPrior) -> dict[str, Any]:
    """Movement of T cameras, degrees and percent [T], and the focal length's factor."""
    rigid = np.asarray(refined.motion.rigid)
    length = np.linalg.norm(rigid.reshape(-1, 2, 3), axis=-1)
    return {
        "shift_percent": 100 * prior.translation * length[:, 0],
        "turn_degrees": np.degrees(prior.rotation) * length[:, 1],
        "focal_factor": float(np.exp(prior.focal * float(refined.motion.focal))),
    }


def read_moves(frames: Frames) -> CameraMoves | None:
    """Read how far the refinement moved the cameras of a folder; None of one it did not write."""
    try:
        made = json.loads((frames.folder / MARK).read_text())
        place = {name: i for i, name in enumerate(made["frames"])}
        chosen = np.array([place[name] for name in frames.names])
        return CameraMoves(
            names=frames.names,
            yaw_degrees=frames.yaw_degrees,
            turn_degrees=np.asarray(made["turn_degrees"], float)[chosen],
            shift_percent=np.asarray(made["shift_percent"], float)[chosen],
            focal_factor=float(made["focal_factor"]),
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None


def error_numbers(cameras: Cameras, truth: Cameras) -> dict[str, np.ndarray]:
    """Errors of T cameras, in degrees and percent of the distance, [T]."""
    degrees, shift = pose_errors(cameras, truth)
    return {"turn_degrees": np.asarray(degrees), "shift_percent": 100 * np.asarray(shift)}


def sentences(numbers: Mapping[str, Any]) -> list[str]:
    """Describe how far cameras moved and, if measured, their errors."""
    said = [
        f"cameras moved by {np.median(numbers['turn_degrees']):.2f} degrees and "
        f"{np.median(numbers['shift_percent']):.2f} % of their distance (medians); focal length "
        f"times {numbers['focal_factor']:.3f}"
    ]
    for when, errors in numbers.get("errors", {}).items():
        said.append(
            f"error {when}: {np.median(errors['turn_degrees']):.2f} degrees, "
            f"{np.median(errors['shift_percent']):.2f} % (medians)"
        )
    return said


def picture(generator: TriPlaneGenerator, frames: Frames, refined: Refined) -> np.ndarray:
    """Draw some frames beside the head from the given camera and from the refined one, uint8."""
    rows = np.unique(np.linspace(0, len(frames) - 1, _ROWS).round().astype(int))
    latents = repeat_latents(refined.ws, jnp.zeros(1))
    columns: list[np.ndarray] = [np.stack([read_image(frames, int(i)) for i in rows])]
    for cameras in (frames.cameras, refined.cameras):
        columns.append(np.asarray(render_views(generator, latents, cameras[rows]).image))
    return grid(
        [[to_uint8(column[i]) for column in columns] for i in range(len(rows))],
        columns=["frame", "label given", "refined"],
        labels=[frames.names[i] for i in rows],
    )
