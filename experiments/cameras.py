"""Write the cameras of frames for other programs: NeRF's and splatting's tools, COLMAP, EG3D.

`python -m experiments.cameras runs/video --to transforms.json` takes the frames that a run was made
of, with their refined cameras if it refined them; a folder of frames will do, too. The world stays
EG3D's: y up, the head at the origin looking towards +z, 2.7 units away.
"""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import tyro

from eg3d_jax.errors import InputError
from experiments import command
from experiments.progress import Progress
from experiments.runs.folder import frames_folder
from experiments.runs.output_folder import OutputFolder
from experiments.subjects import DEMO_RUN
from inversion.files import write_json
from inversion.foreign_cameras.export import WRITTEN, CameraForm, scene_of_frames, write_cameras
from inversion.frames.folder import read_frames
from inversion.frames.labels import LABELS_FILE

_MARK = "exported.json"


@dataclass(frozen=True, kw_only=True)
class Args:
    """Write the cameras of frames for other programs.

    Attributes:
      run: run folder of an inversion, for the cameras of its frames; or a folder of frames
      to: form: transforms.json of NeRF, nerfstudio and instant-ngp; colmap, a model as 3D Gaussian
        splatting takes it, or colmap-text; EG3D's dataset.json
      crop: frames are not square: their labels are of the central square
      output: new folder for the cameras, with copies of the pictures; RUN/cameras/TO if not given
      overwrite: replace an earlier call's folder
    """

    run: tyro.conf.Positional[Path] = DEMO_RUN
    to: CameraForm = "transforms.json"
    crop: bool = False
    output: Path | None = None
    overwrite: bool = False


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    progress = Progress()
    is_frames = (args.run / LABELS_FILE).is_file()
    folder = args.run if is_frames else frames_folder(args.run)
    if args.output is None and is_frames:
        raise InputError(f"{args.run} is a folder of frames; say where its cameras go: --output")
    target = args.run / "cameras" / args.to if args.output is None else args.output
    with progress.task("reading frames"):
        frames = read_frames(folder, image_side=64, crop=args.crop, decode_all=False)
        scene = scene_of_frames(frames)
    if target.exists() and target.samefile(folder):
        raise InputError(f"{target} is the folder of the frames; choose another --output")
    written = (*WRITTEN, *map(glob.escape, frames.names))
    output = OutputFolder(target, _MARK, written, overwrite=args.overwrite)
    with progress.task("cameras and pictures"), output.writing() as staging:
        write_cameras(staging, scene, args.to)
        content = {"source": folder, "to": args.to, "frames": frames.names}
        write_json(staging / _MARK, content)
    progress.say(f"{target}: {len(frames)} cameras of {folder} as {args.to}, with their pictures")


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.cameras", prog=prog)


if __name__ == "__main__":
    start()
