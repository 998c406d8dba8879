"""From a raw video or photos of a person to square crops with EG3D's cameras.

footage = inversion.prepare_footage("head.mp4")
footage.save("video")
frames = inversion.load_frames("video", generator)

The footage is read twice: once for the landmarks, from which cameras and windows are solved for and
the frames chosen, and once to cut these out. So memory does not grow with the length of a video,
but for the pictures' numbers; points are tracked in a copy in grey that lies on disk meanwhile.
"""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np
from PIL import Image

from eg3d_jax.cameras import FFHQ_FOCAL, Cameras, simple_intrinsics
from eg3d_jax.errors import InputError
from inversion.files import save_arrays, write_json
from inversion.footage.following import (
    HIDDEN,
    Look,
    find_parts,
    follow,
    look_at_photo,
    turned,
    upright_turns,
)
from inversion.footage.lenses import in_other_world
from inversion.footage.masks import outside_picture, person_mask
from inversion.footage.nets import load_face_nets, load_person_net
from inversion.footage.pictures import (
    Picture,
    Source,
    about,
    find_people,
    read_pictures,
)
from inversion.footage.selection import SMALL, FootageFrame, is_spare, reasons
from inversion.footage.solve import Observation, Solved, solve
from inversion.footage.video import BELIEVED_YAW
from inversion.footage.windows import cut, part_outside
from inversion.frames.folder import HALF, make_new_folder, save_frame
from inversion.frames.labels import write_labels
from inversion.monitor import Monitor, counted
from inversion.units import World, into_world
from inversion.views import Views

FOOTAGE_FILE, LANDMARKS_FILE = "footage.json", "landmarks.npz"
# Pictures a second that are looked at, and how many at most.
_RATE, _MOST = 30.0, 3000
# Longer side of the copies in which points are tracked, pixels.
_GRAY_SIDE = 960
# To see how a video must be turned, so many of its pictures are tried, so many a second.
_TRIED, _TRIED_RATE = 12, 4.0


@dataclass(frozen=True, kw_only=True)
class FootageSettings:
    """What is taken of footage.

    Attributes:
      start: seconds of a video before which nothing is taken; its start if None.
      end: seconds after which nothing is; its end if None.
      fps: frames a second that are kept of a video; not together with `frames`.
      frames: how many are kept, evenly spread by yaw; 60 of a video and all photos if both are
        None.
      size: side of the crops, pixels, 16 to 4096.
      person: x and y of a pixel near the face that is meant where there are several, in the first
        picture that has one; the largest if None.
      max_yaw: degrees; frames that are turned further are left out.
      track: whether points are tracked in a video where landmarks do not reach.
      keep_all: whether every frame with a pose is kept.
      mask: whether each frame gets a mask of the person.
      world: in which the head lies where it does there; see `units.World`.
    """

    start: float | None = None
    end: float | None = None
    fps: float | None = None
    frames: int | None = None
    size: int = 512
    person: tuple[float, float] | None = None
    max_yaw: float = 100.0
    track: bool = True
    keep_all: bool = False
    mask: bool = False
    world: World = "eg3d"

    def __post_init__(self):
        if self.fps is not None and self.frames is not None:
            raise InputError(f"fps {self.fps:g} and frames {self.frames}: give one of them")
        if self.fps is not None and not 0 < self.fps <= _RATE:
            raise InputError(f"fps is {self.fps:g}; it must be more than 0 and at most {_RATE:g}")
        if self.frames is not None and self.frames < 1:
            raise InputError(f"frames is {self.frames}; it must be at least 1")
        if not 16 <= self.size <= 4096:
            raise InputError(f"size is {self.size}; it must be from 16 to 4096 pixels")
        if not 0 < self.max_yaw <= 180:
            raise InputError(f"max_yaw is {self.max_yaw:g}; it must be from 0 to 180 degrees")
        start = self.start or 0.0
        if start < 0 or not math.isfinite(start):
            raise InputError(f"start is {start:g}; it must be 0 or more seconds")
        if self.end is not None and not self.end > start:
            raise InputError(f"end is {self.end:g}; it must be more than the start, {start:g} s")


class NoFace(InputError):
    """Footage in which no head was found, or none that could be used."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Footage:
    """Footage of one person with its cameras; its pictures stay in their files.

    Attributes:
      source: the files.
      settings: that were asked for.
      frames: n pictures that were looked at, in order, kept or not.
      landmarks: float32 [n, 468, 3] pixels of the turned pictures; NaN where there are none.
      points: float32 [n, 468, 2] the person's face laid over them; NaN where there is no pose.
      shape: [468, 3] the person's face in the world.
      notes: sentences on what its user should know: several faces, cuts, damage.
      rate: pictures a second at which a video was read.
      seconds: of work, by step.
    """

    source: Source
    settings: FootageSettings
    frames: tuple[FootageFrame, ...]
    landmarks: np.ndarray
    points: np.ndarray
    shape: np.ndarray
    notes: tuple[str, ...]
    rate: float | None
    seconds: dict[str, float]

    @property
    def kept(self) -> tuple[FootageFrame, ...]:
        """The k frames that are kept, in order."""
        return tuple(frame for frame in self.frames if frame.kept)

    @property
    def cameras(self) -> Cameras:
        """Cameras [k] of the frames that are kept."""
        poses = np.stack([frame.cam2world for frame in self.kept])
        return Cameras(
            cam2world=jnp.asarray(poses, jnp.float32),
            intrinsics=simple_intrinsics(FFHQ_FOCAL, (len(poses),)),
        )

    @property
    def world(self) -> World:
        """For which generators' world the cameras are."""
        return self.settings.world

    def pictures(self, frames: Sequence[FootageFrame]) -> Iterator[tuple[FootageFrame, np.ndarray]]:
        """Read the pictures of some frames again, turned, one by one in order: uint8 [h, w, 3]."""
        wanted = {frame.index: frame for frame in frames}
        if not wanted:
            return
        start, end = self.settings.start, self.settings.end
        found = read_pictures(self.source, start=start, end=end, rate=self.rate)
        for index, picture in enumerate(found):
            if index in wanted:
                yield wanted[index], turned(picture.pixels, wanted[index].turns)
            if index >= max(wanted):
                return

    def crops(
        self, frames: Sequence[FootageFrame] | None = None, *, size: int | None = None
    ) -> Iterator[tuple[FootageFrame, np.ndarray]]:
        """Cut out the windows of frames, one by one: uint8 [size, size, 3].

        Args:
          frames: those with a window are taken; those that are kept if None.
          size: pixels a side; that of the settings if None.
        """
        frames = [f for f in (self.kept if frames is None else frames) if f.window is not None]
        for frame, pixels in self.pictures(frames):
            assert frame.window is not None
            yield frame, cut(pixels, frame.window, size or self.settings.size)

    def mask(self, frame: FootageFrame, pixels: np.ndarray) -> np.ndarray:
        """Mask of the person in the crop [S, S, 3] of a frame: uint8 [S, S], see `person_mask`."""
        window, size = frame.window, len(pixels)
        assert window is not None
        face = (self.points[frame.index] - window.center) / window.side * size + size / 2
        outside = outside_picture(window, frame.height, frame.width, size)
        return person_mask(load_person_net(), pixels, face, outside)

    def views(self, image_side: int) -> Views:
        """The frames that are kept, as `invert` takes them: images [k, S, S, 3] in memory.

        They have masks if the settings say so.
        """
        images, masks = [], []
        for frame, pixels in self.crops(size=image_side):
            images.append(pixels)
            if self.settings.mask:
                masks.append(self.mask(frame, pixels) >= HALF)
        scaled = np.stack(images).astype(np.float32) / np.float32(127.5) - 1
        return Views(
            images=jnp.asarray(scaled),
            cameras=self.cameras,
            mask=jnp.asarray(np.stack(masks)) if masks else None,
        )

    def save(self, folder: Path | str, *, monitor: Monitor | None = None) -> None:
        """Write a folder of frames as `load_frames` reads it.

        It gets frame00000.png ... in time order, EG3D's dataset.json, footage.json with what was
        found in every picture, and landmarks.npz. The labels are written last: a folder without
        them is not finished.

        Args:
          folder: new or empty.
          monitor: told of every frame; silent if None.

        Raises:
          InputError: if the folder holds files.
          Stopped: if the monitor asked for it.
        """
        folder, monitor = make_new_folder(Path(folder)), monitor or Monitor()
        with counted(monitor, "cutting out the frames", len(self.kept)) as advance:
            for frame, pixels in self.crops():
                mask = self.mask(frame, pixels) if self.settings.mask else None
                save_frame(folder, frame.file, pixels, mask)
                advance()
        save_arrays(folder / LANDMARKS_FILE, self._landmark_arrays())
        write_json(folder / FOOTAGE_FILE, self.describe())
        write_labels(folder, [frame.file for frame in self.kept], self.cameras)

    def describe(self) -> dict[str, Any]:
        """What footage.json says: settings, notes, and what was found in every picture."""
        return {
            "source": [str(path) for path in self.source.files],
            "fingerprint": self.source.fingerprint,
            "settings": self.settings,
            "world": self.world,
            "notes": self.notes,
            "rate": self.rate,
            "seconds": self.seconds,
            "frames": [_described(frame) for frame in self.frames],
        }

    def _landmark_arrays(self) -> dict[str, np.ndarray]:
        """Landmarks and the face laid over them in pixels of the crops, and the face's shape."""
        kept = [frame.index for frame in self.kept]
        windows = [frame.window for frame in self.kept]
        low = np.stack([w.center - w.side / 2 for w in windows if w is not None])
        scale = np.array([self.settings.size / w.side for w in windows if w is not None])
        landmarks, points = self.landmarks[kept].copy(), self.points[kept].copy()
        landmarks[..., :2] -= low[:, None]
        points -= low[:, None]
        return {
            "names": np.array([frame.file for frame in self.kept]),
            "landmarks": (landmarks * scale[:, None, None]).astype(np.float32),
            "face": (points * scale[:, None, None]).astype(np.float32),
            "shape": self.shape.astype(np.float32),
        }


def is_tracked(folder: Path) -> bool:
    """Whether a folder's frames are those of a video, as `Footage.save` writes them.

    Their cameras were brought together by points tracked through it.
    """
    try:
        made = json.loads((folder / FOOTAGE_FILE).read_text())
        return made["rate"] is not None and made["settings"]["track"]
    except (OSError, ValueError, LookupError, TypeError):
        return False


def prepare_footage(
    source: Path | str | Sequence[Path | str] | Source,
    settings: FootageSettings | None = None,
    *,
    monitor: Monitor | None = None,
) -> Footage:
    """Find a person's head in footage, with a camera for each picture, and choose frames to fit.

    Args:
      source: a video, photos of one person, or a folder of them.
      settings: what is taken; usual ones if None.
      monitor: told of every picture; silent if None.

    Returns:
      The footage; nothing is written. See `Footage.save` and `Footage.views`.

    Raises:
      InputError: if the footage cannot be read, or is of several people.
      NoFace: if no frame is left to keep; the message has the reasons.
      Stopped: if the monitor asked for it.
    """
    settings, monitor = settings or FootageSettings(), monitor or Monitor()
    source = _one_person(source)
    seconds: dict[str, float] = {}
    with tempfile.TemporaryFile(prefix="footage") as file:
        with _timed(seconds, "reading and landmarks"):
            looked = _look(source, settings, monitor, file)
        part, cuts = _longest_part(looked.looks) if source.video else (None, [])
        for note in cuts:
            monitor.say(note)
        indices = list(range(len(looked.looks)) if part is None else part)
        grays = _open_grays(file, looked)
        observations = [_observation(looked.looks[i], grays, i) for i in indices]
        with _timed(seconds, "cameras"), counted(monitor, "solving for the cameras", 100) as step:
            solved = solve(
                observations,
                video=source.video,
                track=settings.track and source.video,
                progress=lambda done: step(round(100 * done)),
            )
        del grays, observations
    solved = _in_world(solved, settings.world)
    frames = _frames(looked.looks, solved, indices)
    why = reasons(
        frames,
        video=source.video,
        max_yaw=settings.max_yaw,
        fps=settings.fps,
        count=settings.frames,
        keep_all=settings.keep_all,
    )
    frames = _numbered(frames, why)
    landmarks, points = _spread(looked.looks, solved, indices)
    remarks = _remarks(frames)
    for note in remarks:
        monitor.say(note)
    footage = Footage(
        source=source,
        settings=settings,
        frames=frames,
        landmarks=landmarks,
        points=points,
        shape=solved.shape,
        notes=(*looked.notes, *cuts, *remarks),
        rate=looked.rate,
        seconds=seconds,
    )
    if not footage.kept:
        raise NoFace(_nothing_left(footage))
    return footage


def _one_person(source: Path | str | Sequence[Path | str] | Source) -> Source:
    if isinstance(source, Source):
        return source
    sources = [source] if isinstance(source, Path | str) else source
    people = find_people(sources)
    if len(people) > 1:
        names = ", ".join(person.name for person in people[:4])
        raise InputError(f"the footage is of several people ({names}); prepare each by itself")
    return people[0]


# Reading and landmarks.


@dataclass(frozen=True, kw_only=True, eq=False)
class _Looked:
    """What was seen in all pictures.

    Attributes:
      looks: one a picture.
      notes: for the user.
      rate: pictures a second that were read; None for photos.
      gray_shape: height and width of the copies in grey; None if there are none.
    """

    looks: list[Look]
    notes: list[str]
    rate: float | None
    gray_shape: tuple[int, int] | None


def _look(source: Source, settings: FootageSettings, monitor: Monitor, file: BinaryIO) -> _Looked:
    """Find the face in every picture, and write the copies in grey."""
    known = about(source)
    notes = list(known.notes)
    for note in notes:
        monitor.say(note)

    def say(text: str) -> None:
        notes.append(text)
        monitor.say(text)

    nets = load_face_nets()
    rate, count, turns = None, known.count, 0
    if source.video:
        rate, count = _rate(source, settings, known.seconds, known.count, say)
        tried = read_pictures(source, start=settings.start, end=settings.end, rate=_TRIED_RATE)
        turns = upright_turns(nets, _first(tried, _TRIED))
        if turns:
            say(
                f"the head does not stand upright: pictures are turned left by {90 * turns} degrees"
            )
    pictures = read_pictures(source, start=settings.start, end=settings.end, rate=rate, say=say)
    looks: list[Look] = []
    shape: tuple[int, int] | None = None
    if source.video:
        seen = follow(nets, pictures, turns=turns, person=settings.person)
    else:
        seen = (look_at_photo(nets, picture, person=settings.person) for picture in pictures)
    with counted(monitor, "reading and landmarks", count or _MOST) as advance:
        for look, pixels in seen:
            looks.append(look)
            if source.video and settings.track:
                gray = _gray(pixels)
                shape = gray.shape
                file.write(gray.tobytes())
            advance()
            if source.video and len(looks) >= _MOST:
                say(
                    f"{source.files[0].name} is longer than {_MOST} pictures and does not tell how "
                    "long; choose another part by --start and --end"
                )
                break
    file.flush()
    several = [look.faces for look in looks if look.faces is not None and look.faces > 1]
    if several:
        looked = sum(look.faces is not None for look in looks)
        say(
            f"{len(several)} of {looked} pictures in which all faces were looked for show several; "
            "the largest is taken, and the nearest to it from then on: --person X Y chooses another"
        )
    return _Looked(looks=looks, notes=notes, rate=rate, gray_shape=shape)


def _rate(
    source: Source,
    settings: FootageSettings,
    length: float | None,
    count: int | None,
    say: Callable[[str], None],
) -> tuple[float, int | None]:
    """Pictures a second to look at, and how many these are, if that is known."""
    if not length:
        return _RATE, None
    taken = max(min(settings.end or length, length) - (settings.start or 0.0), 1e-3)
    own = count / length if count else _RATE
    rate = min(_RATE, _MOST / taken)
    if rate < min(_RATE, own):
        say(
            f"{source.files[0].name} is taken for {taken / 60:.0f} minutes: {rate:.2g} pictures a "
            "second are looked at, too few to track points between; choose a part by --start and "
            "--end"
        )
    return rate, max(round(min(rate, own) * taken), 1)


def _first(pictures: Iterator[Picture], count: int) -> Iterator[Picture]:
    for _, picture in zip(range(count), pictures, strict=False):
        yield picture


def _gray(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(pixels).convert("L")
    scale = _GRAY_SIDE / max(image.size)
    if scale < 1:
        width, height = (max(round(side * scale), 1) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    return np.asarray(image)


def _open_grays(file: BinaryIO, looked: _Looked) -> np.ndarray | None:
    if looked.gray_shape is None:
        return None
    shape = (len(looked.looks), *looked.gray_shape)
    return np.memmap(file, np.uint8, mode="r", shape=shape)


def _observation(look: Look, grays: np.ndarray | None, index: int) -> Observation:
    trusted = look.landmarks is not None and look.landmarks.mirror_gap <= HIDDEN
    return Observation(
        landmarks=look.landmarks if trusted else None,
        height=look.height,
        width=look.width,
        gray=None if grays is None else grays[index],
    )


def _longest_part(looks: Sequence[Look]) -> tuple[range | None, list[str]]:
    """The part of a video between cuts with most faces; None if there is no cut."""
    parts = find_parts(looks)
    if len(parts) == 1:
        return None, []
    seen = [sum(looks[i].landmarks is not None for i in part) for part in parts]
    best = parts[int(np.argmax(seen))]
    first, last = looks[best[0]].seconds or 0.0, looks[best[-1]].seconds or 0.0
    return best, [
        f"the video is cut into {len(parts)} parts, or the face jumps between them; the longest, "
        f"{first:.2f} s to {last:.2f} s, is kept: choose another by --start and --end"
    ]


# What was found.


def _frames(looks: Sequence[Look], solved: Solved, indices: Sequence[int]) -> list[FootageFrame]:
    """Describe all pictures; those outside the part that was solved for have a reason already."""
    sharp = np.array([look.sharpness for look in looks])
    # The best but for a few, of a lucky noise.
    best = max(np.nanpercentile(sharp, 90), 1e-6) if np.isfinite(sharp).any() else 1.0
    place = {index: i for i, index in enumerate(indices)}
    frames = []
    for index, look in enumerate(looks):
        i = place.get(index)
        window = None if i is None else solved.windows[i]
        gap = math.nan if look.landmarks is None else look.landmarks.mirror_gap
        frames.append(
            FootageFrame(
                index=index,
                source=look.name,
                seconds=look.seconds,
                turns=look.turns,
                height=look.height,
                width=look.width,
                window=window,
                cam2world=np.full((4, 4), np.nan) if i is None else solved.cam2world[i],
                reached="none" if i is None else solved.source[i],
                residual=math.nan if i is None else float(solved.residual[i]),
                sharpness=float(sharp[index] / best),
                mirror_gap=gap,
                presence=look.presence,
                hidden=gap > HIDDEN,
                outside=0.0 if window is None else part_outside(window, look.height, look.width),
                reason="in another part of the video, before or after a cut" if i is None else "",
            )
        )
    return frames


def _numbered(frames: Sequence[FootageFrame], why: Sequence[str]) -> tuple[FootageFrame, ...]:
    """Give frames their reasons, and those that are kept a name."""
    numbered, count = [], 0
    for frame, reason in zip(frames, why, strict=True):
        file = "" if reason else f"frame{count:05d}.png"
        count += not reason
        numbered.append(replace(frame, reason=reason, file=file))
    return tuple(numbered)


def _in_world(solved: Solved, world: World) -> Solved:
    """The same cameras for another world than that of EG3D's crops."""
    if world == "eg3d":
        return solved
    similarity = into_world(world)
    poses, windows = solved.cam2world.copy(), list(solved.windows)
    for i, window in enumerate(windows):
        if window is not None:
            poses[i], windows[i] = in_other_world(poses[i], window, similarity)
    shape = similarity.move_points(solved.shape)
    return replace(solved, cam2world=poses, windows=windows, shape=shape)


def _spread(
    looks: Sequence[Look], solved: Solved, indices: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks and the face laid over them for all pictures, NaN where there are none."""
    landmarks = np.full((len(looks), *solved.shape.shape), np.nan, np.float32)
    for i, look in enumerate(looks):
        if look.landmarks is not None:
            landmarks[i] = look.landmarks.points
    points = np.full((len(looks), len(solved.shape), 2), np.nan, np.float32)
    points[indices] = solved.points
    return landmarks, points


def _remarks(frames: Sequence[FootageFrame]) -> list[str]:
    remarks, kept = [], [frame for frame in frames if frame.kept and frame.window is not None]
    small = [f for f in kept if f.window is not None and f.window.side < SMALL]
    if small:
        least = min(f.window.side for f in small if f.window is not None)
        remarks.append(
            f"{len(small)} of {len(kept)} frames are cut from windows of fewer than {SMALL} "
            f"pixels, down to {least:.0f}: come nearer with the camera"
        )
    nearest = min((abs(f.yaw) for f in frames if f.window is not None), default=0.0)
    if nearest > BELIEVED_YAW:
        remarks.append(
            f"the head is never turned to the camera by less than {nearest:.0f} degrees, from "
            "where landmarks tell less: the cameras are less accurate; film it from the front, too"
        )
    return remarks


def _nothing_left(footage: Footage) -> str:
    """Say why no frame is kept, by the commonest reasons."""
    files = footage.source.files
    name = str(files[0]) if len(files) == 1 else str(files[0].parent)
    left_out = [frame.reason for frame in footage.frames if not is_spare(frame.reason)]
    # Reasons differ in their numbers.
    kinds = [reason.split(":")[0] for reason in left_out]
    counts = sorted({(kinds.count(kind), kind) for kind in kinds}, reverse=True)[:3]
    listed = "; ".join(f"{kind} ({count})" for count, kind in counts)
    return f"{name}: no frame of {len(footage.frames)} can be used: {listed}"


def _described(frame: FootageFrame) -> dict[str, Any]:
    fields = {f.name: getattr(frame, f.name) for f in dataclasses.fields(frame)}
    posed = frame.window is not None
    angles = {name: getattr(frame, name) if posed else None for name in ("yaw", "pitch", "roll")}
    return {**fields, **angles, "kept": frame.kept}


# Progress.


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - started
