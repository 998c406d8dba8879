"""Film raw videos of synthetic heads, as a phone would: a head that moves in a textured room.

`python -m experiments.heads.filming --folder data/raw` films the six heads of the benchmark in
960 x 540 pixels; `--heads 7 8` heads of other seeds, and `--heads experiments/demo/demo_a` pastes
a folder of frames with their masks, which needs no extra. The head turns from ear to ear, nods,
leans, and wanders about the picture, nearer and further; the room moves as a hand shakes. Beside
NAME.mp4 lies NAME.json with the truth of each frame, so that what finds cameras can be measured:

| key | meaning |
|---|---|
| time | seconds |
| window | centre (x, y) and side in pixels of the square that EG3D's camera sees |
| cam2world | 4 x 4, that camera: it looks into the middle of the window from a distance of 2.7 |
| raw_cam2world | 4 x 4, the camera of the whole picture; its focal length is `focal` in pixels |
| yaw, pitch, roll | degrees, of the head to the camera of the window |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from eg3d_jax.cameras import FFHQ_FOCAL, yaw_pitch_camera
from eg3d_jax.errors import InputError
from eg3d_jax.folders import check_writable
from experiments import command
from experiments.command import check_limits
from experiments.heads.expressions import mild_speech
from experiments.heads.extras import EXTRAS
from experiments.heads.heads import HeadMaker
from experiments.heads.scene import render
from experiments.heads.sequences import SETS, Sequence, latents
from experiments.media.video import write_mp4
from inversion.array_files import read_arrays
from inversion.files import write_json
from inversion.frames.camera_files import read_labels

BENCHMARK = tuple(SETS["benchmark"])
SEQUENCES = SETS["demo"] | SETS["benchmark"]
RADIUS = 2.7
# The point of EG3D's world that lies in the middle of its crops.
MIDDLE = np.array([0.0, 0.0125, 0.158])
_BOX = 1.75  # sides of the window that the whole box of the head needs


@dataclass(frozen=True, kw_only=True)
class Args:
    """Film raw videos of synthetic heads with their true cameras.

    Attributes:
      folder: gets NAME.mp4 and NAME.json for each head
      heads: names of the demo's and the benchmark's heads, seeds of others, or folders of frames
        with mask.npz
      width: pixels
      height: pixels
      fps: pictures a second
      seconds: length
      max_yaw: degrees to both sides; folders of frames have their own
      window: side of the window of EG3D's camera, of the picture's height
      wander: how far the head wanders about the picture, of what is usual
      seed: of room, shaking and wandering
    """

    folder: Path
    heads: tuple[str, ...] = BENCHMARK
    width: int = 960
    height: int = 540
    fps: int = 30
    seconds: float = 8.0
    max_yaw: float = 90.0
    window: float = 0.5
    wander: float = 1.0
    seed: int = 0


_LIMITS = {
    "width": (64, 4096), "height": (64, 4096), "fps": (1, 240), "seconds": (0.1, 600),
    "max_yaw": (0, 180), "window": (0.05, 2), "wander": (0, 2), "seed": (0, command.MAX_SEED),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Take:
    """Where T pictures show a head.

    Attributes:
      width, height: of the picture, pixels.
      focal: of the picture, pixels.
      raw: [T, 4, 4] cam2world of the picture's camera.
      cam2world: [T, 4, 4] of EG3D's camera of the window.
      centers: [T, 2] of the windows, pixels.
      sides: [T] of the windows, pixels.
      shake: [T, 2] by which the room is shifted, pixels.
    """

    width: int
    height: int
    focal: float
    raw: np.ndarray
    cam2world: np.ndarray
    centers: np.ndarray
    sides: np.ndarray
    shake: np.ndarray


# From the number of a picture to [S, S, 4] float32 premultiplied colours and opacity in [0, 1], and
# the corner (x, y) of that square in the picture.
Draw = Callable[[int], tuple[np.ndarray, np.ndarray]]


def main(args: Args) -> None:
    """Run the command; errors that a user can act on are `InputError`s."""
    check_limits(args, _LIMITS)
    check_writable(args.folder, option="--folder")
    for head in args.heads:
        name, pictures, truth = film_raw(head, args)
        args.folder.mkdir(parents=True, exist_ok=True)
        write_mp4(args.folder / f"{name}.mp4", pictures, fps=args.fps, crf=23)
        write_json(args.folder / f"{name}.json", truth)
        print(f"{args.folder / name}.mp4: {len(truth['frames'])} frames")


def film_raw(head: str, args: Args) -> tuple[str, Iterator[np.ndarray], dict[str, Any]]:
    """Film one head.

    Args:
      head: a name, a seed, or a folder of frames.
      args: of the command, checked.

    Returns:
      A name for its files; uint8 [height, width, 3] pictures, drawn one by one; their truth.

    Raises:
      InputError: if there is no such head.
    """
    rng = np.random.default_rng(args.seed)
    if Path(head).is_dir():
        take, draw = pasted(Path(head), args, rng)
        name = Path(head).resolve().name
    else:
        if head not in SEQUENCES and not head.isdecimal():
            raise InputError(
                f"--heads {head} is no folder, no number and none of {', '.join(SEQUENCES)}"
            )
        take, name = moving_head(args, rng), head if head in SEQUENCES else f"seed{head}"
        sequence = SEQUENCES.get(head) or Sequence(seed=int(head), expression=mild_speech)
        draw = partial(_draw_head, HeadMaker.load(), sequence, take)
    return name, compose(take, draw, rng), {"head": head, **truth_of(take, args.fps)}


def moving_head(args: Args, rng: np.random.Generator) -> Take:
    """Plan the motion of head and camera over a whole video."""
    count = max(round(args.fps * args.seconds), 1)
    time = np.arange(count) / count
    wave = lambda turns, phase: np.sin(2 * np.pi * (turns * time + phase))  # noqa: E731
    phases = rng.uniform(size=6)
    yaw = np.radians(args.max_yaw) * wave(1, 0)
    pitch = np.radians(9) * wave(2, phases[0])
    roll = np.radians(6) * wave(1.5, phases[1])
    distance = RADIUS * (1 + 0.12 * args.wander * wave(1, phases[2]))
    middle = np.array([args.width, args.height]) / 2
    wander = np.stack([wave(1.3, phases[3]), 0.5 * wave(0.9, phases[4])], -1)
    at = middle + args.wander * 0.22 * min(args.width, args.height) * wander
    focal = args.window * args.height * FFHQ_FOCAL
    raw = np.empty((count, 4, 4))
    for i in range(count):
        facing = np.asarray(yaw_pitch_camera(yaw[i], pitch[i], radius=distance[i]).cam2world)
        aside = turn_to(np.array([*(at[i] - middle) / focal, 1.0]))
        raw[i] = facing.astype(np.float64)
        raw[i, :3, :3] = facing[:3, :3] @ rolled(roll[i]) @ aside.T
    shake = np.cumsum(rng.normal(scale=0.8, size=(count, 2)), 0) + 12 * wander
    windows = [window_of(pose, focal, middle) for pose in raw]
    return Take(
        width=args.width,
        height=args.height,
        focal=focal,
        raw=raw,
        cam2world=np.stack([pose for pose, _, _ in windows]),
        centers=np.stack([center for _, center, _ in windows]),
        sides=np.array([side for _, _, side in windows]),
        shake=shake,
    )


def window_of(raw: np.ndarray, focal: float, middle: np.ndarray):
    """EG3D's camera [4, 4] of a picture, and the centre [2] and side of its window in pixels.

    Args:
      raw: [4, 4] cam2world of the picture's camera.
      focal: of the picture, pixels.
      middle: [2] of the picture, pixels.
    """
    ray = raw[:3, :3].T @ (MIDDLE - raw[:3, 3])
    pose = raw.copy()
    pose[:3, :3] = raw[:3, :3] @ turn_to(ray)
    # Back from the middle along the axis, to where it is as far from the origin as it must be.
    along = pose[:3, 2] @ MIDDLE
    back = along + np.sqrt(along**2 - MIDDLE @ MIDDLE + RADIUS**2)
    pose[:3, 3] = MIDDLE - back * pose[:3, 2]
    side = focal * back / (FFHQ_FOCAL * np.linalg.norm(ray))
    return pose, middle + focal * ray[:2] / ray[2], side


def turn_to(direction: np.ndarray) -> np.ndarray:
    """Smallest rotation [3, 3] that turns the z axis to a direction [3] in front."""
    x, y, z = direction / np.linalg.norm(direction)
    return np.array(
        [[1 - x * x / (1 + z), -x * y / (1 + z), x], [-x * y / (1 + z), 1 - y * y / (1 + z), y],
         [-x, -y, z]]
    )  # fmt: skip


def rolled(angle: float) -> np.ndarray:
    """Rotation [3, 3] about the z axis, radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def _draw_head(maker: HeadMaker, sequence: Sequence, take: Take, index: int):
    """Draw a head of anny's, in the square that its box may fill; see `Draw`."""
    z = latents(sequence.seed, sequence.expression(np.linspace(0, 1, len(take.raw))))[index]
    scene = maker.scene(z, EXTRAS[sequence.extra] if sequence.extra else None)
    side = round(_BOX * take.sides[index])
    corner = np.round(take.centers[index] - side / 2).astype(int)
    focal, middle = take.focal / side, (np.array([take.width, take.height]) / 2 - corner) / side
    lens = np.array([[focal, 0, middle[0]], [0, focal, middle[1]], [0, 0, 1]])
    pictures = render(scene, take.raw[index][None], lens, side)
    colour, opacity = pictures.image[0] / 255.0, pictures.opacity[0, ..., None] / 255.0
    return np.concatenate([np.maximum(colour - (1 - opacity), 0), opacity], -1), corner


def pasted(folder: Path, args: Args, rng: np.random.Generator) -> tuple[Take, Draw]:
    """Plan a video of a folder of frames, each pasted as its camera says; see `Draw`.

    Raises:
      InputError: if the folder has no labels or no mask.
    """
    labels, path = read_labels(folder), folder / "mask.npz"
    if not path.exists():
        raise InputError(f"{folder} has no mask.npz, by which its head is cut out")
    masks = read_arrays(path)["mask"]
    moving, count = moving_head(args, rng), len(labels)
    chosen = np.linspace(0, len(moving.raw) - 1, count).round().astype(int)
    centers, sides = moving.centers[chosen], moving.sides[chosen].round()
    centers = np.round(centers - sides[:, None] / 2) + sides[:, None] / 2
    poses = np.stack([label[:16].reshape(4, 4) for label in labels.values()])
    names = list(labels)

    def draw(index: int):
        side = int(sides[index])
        mask = Image.fromarray(masks[index])
        with Image.open(folder / names[index]) as image:
            large = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        opacity = np.asarray(mask.resize((side, side), Image.Resampling.BICUBIC))[..., None] / 255.0
        colour = np.asarray(large) / 255.0
        square = np.concatenate([np.maximum(colour - (1 - opacity), 0), opacity], -1)
        return square, np.round(centers[index] - side / 2).astype(int)

    take = Take(
        width=args.width, height=args.height, focal=moving.focal, raw=poses, cam2world=poses,
        centers=centers, sides=sides, shake=moving.shake[chosen],
    )  # fmt: skip
    return take, draw


def compose(take: Take, draw: Draw, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Draw the pictures: room, clothes, head, and the camera's noise."""
    margin = 96 + int(np.abs(take.shake).max())
    room = textured(rng, take.height + 2 * margin, take.width + 2 * margin, blocks=90)
    cloth = textured(rng, 2 * take.height, 2 * take.width, blocks=400, spread=0.08)
    for i in range(len(take.raw)):
        x, y = np.round(margin + take.shake[i]).astype(int)
        picture = room[y : y + take.height, x : x + take.width].copy()
        _dress(picture, cloth, take.centers[i], take.sides[i])
        _lay(picture, *draw(i))
        picture += rng.normal(scale=0.012, size=picture.shape)
        yield (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def textured(
    rng: np.random.Generator, height: int, width: int, *, blocks: int, spread: float = 0.45
) -> np.ndarray:
    """A wall of blocks and lines, [height, width, 3] in [0, 1], of colours that far apart."""
    base = rng.uniform(0.3, 0.7, 3)
    picture = np.ones((height, width, 3)) * base
    for _ in range(blocks):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(4, max(width // 8, 6)), rng.integers(4, max(height // 6, 6))
        picture[y : y + h, x : x + w] = np.clip(base + rng.uniform(-spread, spread, 3), 0, 1)
    fine = rng.uniform(-0.03, 0.03, (height // 3 + 1, width // 3 + 1, 1))
    return picture + fine.repeat(3, 0).repeat(3, 1)[:height, :width]


def _dress(picture: np.ndarray, cloth: np.ndarray, center: np.ndarray, side: float) -> None:
    """Draw shoulders below the head, which move with it but do not turn."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width] + 0.5
    across, down = (x - center[0]) / side, (y - center[1]) / side
    body = (down > 0.42) & ((across / 0.95) ** 2 + ((down - 1.3) / 0.85) ** 2 < 1)
    rows, columns = np.nonzero(body)
    shift = np.array(cloth.shape[:2]) // 2 - center[::-1].astype(int)
    picture[rows, columns] = cloth[
        np.clip(rows + shift[0], 0, len(cloth) - 1),
        np.clip(columns + shift[1], 0, cloth.shape[1] - 1),
    ]


def _lay(picture: np.ndarray, square: np.ndarray, corner: np.ndarray) -> None:
    """Lay a square of premultiplied colours and opacity over the picture."""
    height, width = picture.shape[:2]
    x0, y0 = np.maximum(corner, 0)
    x1, y1 = min(corner[0] + len(square), width), min(corner[1] + len(square), height)
    if x0 >= x1 or y0 >= y1:
        return
    part = square[y0 - corner[1] : y1 - corner[1], x0 - corner[0] : x1 - corner[0]]
    below = picture[y0:y1, x0:x1]
    picture[y0:y1, x0:x1] = part[..., :3] + (1 - part[..., 3:]) * below


def truth_of(take: Take, fps: int) -> dict[str, Any]:
    """What NAME.json says."""
    frames = []
    for i, pose in enumerate(take.cam2world):
        x, y, z = pose[:3, 3] / np.linalg.norm(pose[:3, 3])
        frames.append({
            "time": i / fps,
            "window": {"center": take.centers[i].tolist(), "side": float(take.sides[i])},
            "cam2world": pose.tolist(),
            "raw_cam2world": take.raw[i].tolist(),
            "yaw": float(np.degrees(np.arctan2(x, z))),
            "pitch": float(np.degrees(np.arcsin(y))),
            "roll": float(np.degrees(np.arctan2(pose[1, 0], -pose[1, 1]))),
        })  # fmt: skip
    return {"width": take.width, "height": take.height, "focal": take.focal, "frames": frames}


def read_truth(path: Path) -> dict[str, Any]:
    """Read NAME.json, its matrices as float64 arrays [T, 4, 4]."""
    found = json.loads(path.read_text())
    for name in ("cam2world", "raw_cam2world"):
        found[name] = np.array([frame[name] for frame in found["frames"]], np.float64)
    return found


def start(prog: str | None = None) -> NoReturn:
    """Run the command; see `command.start`."""
    command.start(main, Args, name="experiments.heads.filming", prog=prog, cached=False)


if __name__ == "__main__":
    start()
