"""Refine the camera labels of a head's frames before it is inverted.

`python -m experiments.refine_cameras video --output video_refined --generator weights/ffhq512-128`
fits one latent and the cameras of some views together, aligns each frame to the head found, fits
that to all frames, aligns each once more, and writes the frames anew with their refined labels.
Labels of real footage are estimates; a head fitted to wrong ones is blurred. Each camera turns
about the head and shifts, all share a factor on the focal length, and a prior keeps them near the
labels given; the cameras of a video are smoothed.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np

from eg3d_jax.cameras import Cameras, from_label
from eg3d_jax.errors import InputError
from experiments import command
from experiments.progress import CommandMonitor, Progress
from experiments.refined_folder import (
    RefinementSettings,
    check_output,
    check_settings,
    write_refined,
)
from experiments.subjects import load_generator
from inversion.features.networks import load_networks
from inversion.frames.camera_checks import check_cameras
from inversion.frames.camera_files import read_labels
from inversion.frames.folder import Frames, load_frames
from inversion.frames.labels import LABELS_FILE

# The command's options are the settings noted in the folder that it writes.
Args = RefinementSettings


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    progress = Progress()
    with progress.task("reading generator and frames"):
        check_settings(args)
        generator = load_generator(args.generator)
        networks = load_networks(generator.config.image_side)
        frames = load_frames(args.frames, generator, crop=args.crop, min_frames=args.views)
        truth = None if args.truth is None else true_cameras(args.truth, frames)
        output = check_output(frames, args)
    monitor = CommandMonitor(progress)
    write_refined(generator, frames, args, output, networks=networks, monitor=monitor, truth=truth)


def true_cameras(folder: Path, frames: Frames) -> Cameras:
    """Read cameras [T] of another folder's labels for the same frames.

    Raises:
      InputError: if a frame has no label there, or a label is no camera.
    """
    labels = read_labels(folder)
    missing = [name for name in frames.names if name not in labels]
    if missing:
        raise InputError(f"{folder} has no label for {missing[0]}; give labels of the same frames")
    labels = check_cameras(folder / LABELS_FILE, {name: labels[name] for name in frames.names})
    return from_label(np.stack(list(labels.values())))


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.refine_cameras", prog=prog)


if __name__ == "__main__":
    start()
