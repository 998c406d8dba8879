"""Render a head from any cameras: colour, depth and normals, side by side, as a video.

`python -m experiments.render` swings round what `python -m experiments.invert` found in runs/demo.
`python -m experiments.render runs/video --path frames --frames video` shows it beside its target;
`--path FILE` follows the cameras of a file (of which form: `inversion/frames/camera_files.py`);
`python -m experiments.render --generator embedded --seeds 0 1 2 --path walk` needs no run.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import jax.numpy as jnp
import numpy as np
import tyro
from jax.typing import ArrayLike

from eg3d_jax.cameras import Cameras, yaw_pitch_camera
from eg3d_jax.errors import InputError
from eg3d_jax.generator import Renders, TriPlaneGenerator, ray_range, with_finer_rays
from experiments import command
from experiments.media.camera_paths import closed_walk
from experiments.media.films import Show, pictures
from experiments.media.pictures import save_png, to_uint8
from experiments.media.video import turntable, write_mp4
from experiments.progress import Progress
from experiments.runs.output_folder import OutputFolder
from experiments.runs.settings import versions
from experiments.subjects import Subjects, load_subjects
from inversion.files import write_json
from inversion.frames.camera_files import read_camera_path
from inversion.frames.folder import Frames, load_frames
from inversion.latents import Latents
from inversion.result import BATCH, joined, render_batches, render_each_in_batches, render_views

STEP_DEGREES = 0.2


def flicker(frames: ArrayLike) -> float:
    """Mean absolute second difference of consecutive frames over their mean absolute difference.

    With frames a, b, c in a row: mean |a - 2 b + c| / mean |b - a|, divided by sqrt(3), its value
    for independent normal noise. So 0 is a picture in which every pixel changes evenly, 1 one in
    which all that changes is new noise, and 2 / sqrt(3) one that jumps back and forth. It tells of
    flicker if the path is slow, at most about a pixel a frame.

    Args:
      frames: [T, ...] at least 3, any unit.

    Returns:
      The ratio; 0 if nothing changes, or nothing is there.
    """
    frames = np.asarray(frames, np.float64)
    if len(frames) < 3:
        raise ValueError(f"flicker needs 3 frames or more, not {len(frames)}")
    if not frames.size:  # depth, where nothing is solid in all frames
        return 0.0
    bend = np.abs(frames[:-2] - 2 * frames[1:-1] + frames[2:]).mean()
    motion = np.abs(np.diff(frames, axis=0)).mean()
    return float(bend / (math.sqrt(3) * motion)) if motion else 0.0


def slow_swing(radius: float, focal: float) -> Cameras:
    """Batch of level cameras `STEP_DEGREES` apart, the middle of them frontal."""
    yaw = np.radians(STEP_DEGREES) * (np.arange(BATCH) - (BATCH - 1) / 2)
    return yaw_pitch_camera(yaw.astype(np.float32), 0.0, radius=radius, focal=focal)


def measure_flicker(generator: TriPlaneGenerator, latents: Latents) -> dict[str, float]:
    """Flicker of a head on `slow_swing`, the same whatever path is rendered; deterministic.

    Returns:
      `image`; `raw`, before super-resolution; `depth` of what is solid in all frames; and
      `image_motion`, the mean absolute change of the image from one frame to the next in grey
      levels of 255.
    """
    config = generator.config
    out = render_views(generator, latents, slow_swing(config.camera_radius, config.focal))
    motion = float(np.abs(np.diff(out.image, axis=0)).mean() * 127.5)
    # Elsewhere depth is not shown, and is a quotient of two numbers near zero.
    solid = np.all(out.opacity > 0.5, axis=0)
    seen = {"image": out.image, "raw": out.raw, "depth": out.depth[:, solid]}
    return {**{name: flicker(frames) for name, frames in seen.items()}, "image_motion": motion}


_MARK, _FILES = "render.json", ("video.mp4", "frames/*.png")
_MAX_PITCH = 85.0
_MOST_FRAMES = 100_000  # an hour; they are kept in memory


@dataclass(frozen=True, kw_only=True)
class Args:
    """Render a run's head, or heads of a generator, along a path of cameras.

    Attributes:
      run: run folder of an inversion; runs/demo if no generator is given
      generator: instead of a run: folder or .safetensors file made by `python -m convert_weights`,
        or 'embedded'
      seeds: heads of the generator, one row each; of a walk, where it goes
      truncation: of the generator's heads; 1 as sampled, 0 the mean head
      path: 'orbit' swings from side to side; 'frames' takes the cameras of --frames and shows the
        target; 'walk' goes from seed to seed and back; else a file of cameras: EG3D's dataset.json,
        a transforms.json, npy or npz
      frames: folder of frames with EG3D's dataset.json, for --path frames
      crop: take the central square of frames that are not square
      show: what stands side by side; raw is the colour before super-resolution
      num_frames: length of an orbit or a walk
      max_yaw: how far an orbit or a walk swings, degrees; 70 and 0 if not given
      pitch: of an orbit or a walk, degrees above the horizon
      finer: times as many samples along each ray as the generator's own; steadier, and slower
      fps: frames a second of the video
      png: also write every frame as frames/0000.png
      output: folder for video.mp4 and render.json; RUN/render/PATH if not given
      overwrite: replace an earlier rendering there
    """

    run: tyro.conf.Positional[Path | None] = None
    generator: Path | None = None
    seeds: tuple[int, ...] = ()
    truncation: float = 0.7
    path: str = "orbit"
    frames: Path | None = None
    crop: bool = False
    show: tuple[Show, ...] = ("colour", "depth", "normals")
    num_frames: int = 96
    max_yaw: float | None = None
    pitch: float = 0.0
    finer: int = 1
    fps: int = 30
    png: bool = False
    output: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class Shot:
    """Cameras, targets and latents of a rendering, for every head.

    Attributes:
      cameras: [T].
      frames: targets of the T cameras, or None.
      w_plus: [T, L, D] latents of a walk, which then is the only head; or None.
    """

    cameras: Cameras
    frames: Frames | None = None
    w_plus: np.ndarray | None = None


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    check(args)
    progress = Progress()
    with progress.task("reading"):
        subjects = load_subjects(args.run, args.generator, args.seeds, args.truncation)
        finer = with_finer_rays(subjects.generator, args.finer)
        subjects = dataclasses.replace(subjects, generator=finer)
        shot = plan(args, subjects)
    folder = subjects.home / "render" / Path(args.path).stem if args.output is None else args.output
    output = OutputFolder(folder, _MARK, _FILES, overwrite=args.overwrite)
    with progress.task("flicker on a slow path"):
        wobble = measure_flicker(subjects.generator, subjects.latents[0])
    films, rate = shoot(subjects, shot, progress)
    names = subjects.names if len(films) > 1 else ()
    with progress.task("video"), output.writing() as staging:
        drawn = pictures(films, shot.cameras, args.show, names=names, frames=shot.frames)
        write_mp4(
            staging / "video.mp4",
            with_png(drawn, staging / "frames") if args.png else drawn,
            fps=args.fps,
        )
        write_numbers(staging / _MARK, args, subjects, shot, flicker=wobble, rate=rate)
    progress.say(
        f"{folder / 'video.mp4'}: {len(shot.cameras)} frames, {rate:.2f} rendered a second, "
        f"flicker {wobble['image']:.3f}"
    )


def check(args: Args) -> None:
    """Refuse settings that contradict each other or cannot be rendered."""
    swings = args.path in ("orbit", "walk")
    problems: list[tuple[bool, str]] = [
        (args.path == "frames" and args.frames is None,
         "--path frames needs the folder of the frames; add --frames FOLDER"),
        (args.path != "frames" and args.frames is not None,
         f"--frames {args.frames} is for --path frames only; add that, or leave --frames out"),
        (not swings and args.path != "frames" and not Path(args.path).is_file(),
         f"--path {args.path} is no file; name a file of cameras, or orbit, frames or walk"),
        (args.path == "walk" and (args.generator is None or len(args.seeds) < 2),
         "--path walk goes between two or more seeds of a generator; add --generator FOLDER (or "
         "embedded) and --seeds 0 1"),
        (not 2 <= args.num_frames <= _MOST_FRAMES,
         f"--num-frames {args.num_frames} is no video; it must be from 2 to {_MOST_FRAMES}"),
        (not 0 <= max_yaw(args) <= 180,
         f"--max-yaw {args.max_yaw} must be from 0 to 180 degrees"),
        (not abs(args.pitch) <= _MAX_PITCH,
         f"--pitch {args.pitch} must be from -{_MAX_PITCH:.0f} to {_MAX_PITCH:.0f} degrees"),
        (not 1 <= args.finer <= 16, f"--finer {args.finer} must be from 1 to 16"),
        (not 1 <= args.fps <= 240, f"--fps {args.fps} must be from 1 to 240"),
        (not args.show, "--show is empty; name colour, raw, depth or normals"),
    ]  # fmt: skip
    for wrong, message in problems:
        if wrong:
            raise InputError(message)


def max_yaw(args: Args) -> float:
    """Largest yaw of the swing to either side, degrees."""
    if args.max_yaw is not None:
        return args.max_yaw
    return 0.0 if args.path == "walk" else 70.0


def plan(args: Args, subjects: Subjects) -> Shot:
    """Choose the cameras, the targets if any, and the latents of a walk."""
    config = subjects.generator.config
    if args.path == "frames":
        assert args.frames is not None  # see `check`
        frames = load_frames(args.frames, subjects.generator, crop=args.crop)
        return Shot(cameras=frames.cameras, frames=frames)
    if args.path not in ("orbit", "walk"):
        seen = {"box_side": config.render.box_warp, "ray_range": ray_range(subjects.generator)}
        return Shot(cameras=read_camera_path(Path(args.path), **seen))
    cameras = turntable(
        np.radians(max_yaw(args)),
        args.num_frames,
        pitch=np.radians(args.pitch),
        radius=config.camera_radius,
        focal=config.focal,
    )
    if args.path == "orbit":
        return Shot(cameras=cameras)
    knots = np.stack([np.asarray(latents.w_plus[0]) for latents in subjects.latents])
    return Shot(cameras=cameras, w_plus=closed_walk(knots, args.num_frames))


def shoot(subjects: Subjects, shot: Shot, progress: Progress) -> tuple[list[Renders], float]:
    """Render every head: `Renders` [T] with pictures of 8 bits; and the frames a second.

    The rate leaves out the first batch, which is compiled, unless it is the only one.
    """
    generator, cameras = subjects.generator, shot.cameras
    if shot.w_plus is not None:
        heads = [render_each_in_batches(generator, jnp.asarray(shot.w_plus), cameras)]
    else:
        heads = [render_batches(generator, latents, cameras) for latents in subjects.latents]
    films, done, rate, first = [], 0, 0.0, 0
    started = time.monotonic()
    with progress.stage("rendering", len(cameras) * len(heads)) as stage:
        for head in heads:
            batches = []
            for batch in head:
                image, raw = to_uint8(batch.image), to_uint8(batch.raw)
                batches.append(dataclasses.replace(batch, image=image, raw=raw))
                done += len(image)
                rate = (done - first) / (time.monotonic() - started)
                if not first:
                    first, started = done, time.monotonic()
                stage.update(done, {"frames/s": rate})
            films.append(joined(batches))
    return films, rate


def with_png(pictures: Iterator[np.ndarray], folder: Path) -> Iterator[np.ndarray]:
    """Pass pictures on, and write each as a file."""
    folder.mkdir(exist_ok=True)
    for number, picture in enumerate(pictures):
        save_png(folder / f"{number:04d}.png", picture)
        yield picture


def write_numbers(
    path: Path,
    args: Args,
    subjects: Subjects,
    shot: Shot,
    *,
    flicker: dict[str, float],
    rate: float,
) -> None:
    """Write render.json: settings, source and licence of the generator, and what was measured."""
    content: dict[str, Any] = {
        "settings": args,
        "generator": subjects.provenance,
        "heads": subjects.names,
        "frames": len(shot.cameras),
        "frames_per_second": rate,
        "flicker": {"head": subjects.names[0], "step_degrees": STEP_DEGREES, **flicker},
        "versions": versions(),
    }
    write_json(path, content)


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.render", prog=prog)


if __name__ == "__main__":
    start()
