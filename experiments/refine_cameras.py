"""Refine the camera labels of a head's frames before it is inverted.

`python -m experiments.refine_cameras video --output video_refined --generator weights/ffhq512-128`
fits one latent and the cameras of some views together, aligns each frame to the head found, fits
that to all frames, aligns each once more, and writes the frames anew with their refined labels.
Labels of real footage are estimates; a head fitted to wrong ones is blurred. Each camera turns
about the head and shifts, all share a factor on the focal length, and a prior keeps them near the
labels given; of a video, what shakes from frame to frame is taken out.
"""

from __future__ import annotations

import dataclasses
import glob
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import jax.numpy as jnp
import numpy as np
import tyro

from eg3d_jax.cameras import Cameras, from_label
from eg3d_jax.errors import InputError
from eg3d_jax.folders import check_file_writable
from eg3d_jax.generator import TriPlaneGenerator
from experiments import command
from experiments.camera_refinement import LEAST_SIDE, Refined, refine
from experiments.command import check_limits, check_seed
from experiments.media.pictures import grid, save_png, to_uint8
from experiments.progress import Progress
from experiments.runs.output_folder import OutputFolder
from experiments.subjects import DEMO, EMBEDDED, load_generator
from inversion.camera_refinement.joint import PoseConfig
from inversion.camera_refinement.motion import CameraSpread, pose_errors
from inversion.features.networks import load_networks
from inversion.files import write_json
from inversion.frames.camera_checks import check_cameras
from inversion.frames.camera_files import read_labels
from inversion.frames.folder import SUFFIXES, Frames, load_frames, read_image
from inversion.frames.labels import LABELS_FILE, plain_name, write_labels
from inversion.latents import mean_latent, repeat_latents
from inversion.result import render_views
from inversion.views import select_evenly

# What may lie beside the frames and stays true of them.
_BESIDE = ("depth.npz", "mask.npz", "parameters.npz")


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
    strange = [path for path in found if plain_name(path.as_posix()) not in frames.names
               and not any(part.startswith(".") for part in path.parts)]  # fmt: skip
    if strange:
        raise InputError(
            f"{folder / strange[0]} is none of the frames copied; choose another --output"
        )
    written = (LABELS_FILE, *_BESIDE, *map(glob.escape, frames.names))
    return OutputFolder(folder, mark, written, overwrite=overwrite)


def copy_frames(frames: Frames, folder: Path, cameras: Cameras) -> None:
    """Copy the images of a folder of frames, and what is known of them, with labels of these.

    Args:
      frames: to be copied; each copy lies where its label says.
      folder: empty.
      cameras: [T], of their labels there.
    """
    files = dict(zip(frames.names, frames.paths, strict=True))
    files |= {name: path for name in _BESIDE if (path := frames.folder / name).exists()}
    for name, source in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    write_labels(folder, frames.names, cameras)


MARK = "refinement.json"
_ROWS = 5


@dataclass(frozen=True, kw_only=True)
class Args:
    """Refine the camera labels of frames.

    Attributes:
      frames: folder of square frames with EG3D's dataset.json; the demo head if not given
      output: new folder, for the frames with their refined labels; OUTPUT.png shows some
      generator: folder made by `python -m convert_weights`, or 'embedded': small heads
      views: number of frames whose cameras are found together with the head, evenly spaced in yaw
      joint_steps: steps for these
      latent_steps: steps for the head that all frames then show
      coarse_steps: Gauss-Newton steps for the camera of each frame by itself, before these
      fine_steps: the same after them, in pictures twice as large
      steady: frames are a video's, in order: take out of their cameras what shakes from one to the
        next; photographs, whose cameras shake by more than is expected, stay as found in any case
      degrees: deviation expected of a camera's turn about the head
      percent: of its shift, of its distance
      focal_percent: of the focal length that all share
      truth: folder of the same frames with true labels, to measure against
      crop: take the central square of frames that are not square
      seed: of all draws
      overwrite: replace an earlier call's folder, and OUTPUT.png
    """

    frames: tyro.conf.Positional[Path] = DEMO
    output: Path = Path("runs/refined")
    generator: Path = EMBEDDED
    views: int = 9
    joint_steps: int = PoseConfig().joint.num_steps
    latent_steps: int = PoseConfig().latent.num_steps
    coarse_steps: int = PoseConfig().coarse_steps
    fine_steps: int = PoseConfig().fine_steps
    steady: bool = PoseConfig().steady
    degrees: float = 2.0
    percent: float = 2.0
    focal_percent: float = 2.0
    truth: Path | None = None
    crop: bool = False
    seed: int = 0
    overwrite: bool = False


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    progress = Progress()
    with progress.task("reading generator and frames"):
        check(args)
        generator, _ = load_generator(args.generator)
        config = pose_config(args, generator.config.neural_side)
        networks = load_networks(generator.config.image_side)
        frames = load_frames(args.frames, generator, crop=args.crop, min_frames=args.views)
        truth = None if args.truth is None else true_cameras(args.truth, frames)
        chosen = select_evenly(np.radians(90 - frames.yaw_degrees), args.views)
        shown = picture_path(args)
        output = check_copy(frames, args.output, MARK, overwrite=args.overwrite)
    with progress.task("statistics of the latent space"):
        statistics = mean_latent(generator)
    refined = refine(
        generator, networks.lpips, statistics, frames, chosen, config, progress, seed=args.seed
    )
    with progress.task("labels and picture"), output.writing() as staging:
        copy_frames(frames, staging, refined.cameras)
        numbers = motion_numbers(refined, config.spread)
        if truth is not None:
            numbers["errors"] = {
                "before": error_numbers(frames.cameras, truth),
                "after": error_numbers(refined.cameras, truth),
            }
        write_json(staging / MARK, {**numbers, "frames": frames.names, "settings": args})
        save_png(shown, picture(generator, frames, refined))
    for sentence in sentences(numbers):
        progress.say(sentence)
    progress.say(f"{args.output}: the frames with refined labels, {MARK}; {shown} shows some")


def check(args: Args) -> None:
    """Refuse numbers that cannot be.

    Raises:
      InputError: naming the option.
    """
    for name in ("degrees", "percent", "focal_percent"):
        if not 0 < getattr(args, name) < math.inf:
            raise InputError(f"--{name.replace('_', '-')} {getattr(args, name)} must be positive")
    counts = ("views", "joint_steps", "latent_steps", "coarse_steps", "fine_steps")
    check_limits(args, dict.fromkeys(counts, (1, 1_000_000)))
    check_seed(args.seed)


def picture_path(args: Args) -> Path:
    """Where the picture goes: beside the folder, in which it would be a frame.

    Raises:
      InputError: if there is something that may not be replaced.
    """
    path = Path(f"{args.output}.png")
    check_file_writable(path, option="--output")
    if path.exists() and not args.overwrite:
        raise InputError(f"{path} exists; replace it with --overwrite, or choose another --output")
    return path


def pose_config(args: Args, neural_side: int) -> PoseConfig:
    """The schedule and the deviations asked for, in pictures as they are rendered."""
    usual = PoseConfig()
    return PoseConfig(
        joint=dataclasses.replace(usual.joint, num_steps=args.joint_steps),
        latent=dataclasses.replace(usual.latent, num_steps=args.latent_steps),
        coarse_steps=args.coarse_steps,
        fine_steps=args.fine_steps,
        steady=args.steady,
        spread=CameraSpread(
            rotation=math.radians(args.degrees),
            translation=args.percent / 100,
            focal=args.focal_percent / 100,
        ),
        side=max(neural_side, LEAST_SIDE),
        views_per_step=1,
    )


def true_cameras(folder: Path, frames: Frames) -> Cameras:
    """Cameras of another folder's labels for the same frames.

    Raises:
      InputError: if a frame has no label there, or a label is no camera.
    """
    labels = read_labels(folder)
    missing = [name for name in frames.names if name not in labels]
    if missing:
        raise InputError(f"{folder} has no label for {missing[0]}; give labels of the same frames")
    labels = check_cameras(folder / LABELS_FILE, {name: labels[name] for name in frames.names})
    return from_label(np.stack(list(labels.values())))


def motion_numbers(refined: Refined, spread: CameraSpread) -> dict:
    """How far each camera moved, in degrees and percent, and the factor on the focal length."""
    rigid = np.asarray(refined.motion.rigid)
    length = np.linalg.norm(rigid.reshape(-1, 2, 3), axis=-1)
    return {
        "shift_percent": 100 * spread.translation * length[:, 0],
        "turn_degrees": np.degrees(spread.rotation) * length[:, 1],
        "focal_factor": float(np.exp(spread.focal * float(refined.motion.focal))),
    }


def error_numbers(cameras: Cameras, truth: Cameras) -> dict[str, np.ndarray]:
    """Each camera's error, in degrees and percent of the distance."""
    degrees, shift = pose_errors(cameras, truth)
    return {"turn_degrees": np.asarray(degrees), "shift_percent": 100 * np.asarray(shift)}


def sentences(numbers: dict) -> list[str]:
    """What was found, for the screen."""
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
    """Some frames beside the head from the camera given, and from the refined one."""
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


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.refine_cameras", prog=prog)


if __name__ == "__main__":
    start()
