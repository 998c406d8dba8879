"""Pictures of footage, one by one: videos of any length by PyAV, photos by Pillow.

Every picture comes as it is meant to be seen: turned by what its file says, in eight bits of sRGB,
with transparency laid on white. Only one is held in memory at a time.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from eg3d_jax.errors import InputError
from eg3d_jax.folders import sha256
from inversion.footage.photos import HEIC, PHOTOS, read_photo
from inversion.footage.video_files import VIDEOS, describe, video_frames
from inversion.frames.labels import join_names, natural_key
from inversion.frames.scene_files import find_cameras, home_of, read_scene

# Pictures a second of a video that comes as pictures, of which nothing tells how fast they are.
_FILM_RATE = 25.0
# What VHAP writes before it is exported.
_TRACKED = ("tracked_flame_params*.npz", "*/tracked_flame_params*.npz")


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture of the footage, turned upright as its file says.

    Attributes:
      name: file name of the photo or video.
      seconds: time in the video, from its start; None for a photo.
      pixels: uint8 [height, width, 3], sRGB.
    """

    name: str
    seconds: float | None
    pixels: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Source:
    """The footage of one person: a video, or photos.

    Attributes:
      name: of the video without its ending, or of the photos' folder.
      files: the video alone or its pictures in order, or the photos in natural order of their
        names.
      video: whether it is one.
      rate: pictures a second of a video that comes as pictures, one a file; None of others.
    """

    name: str
    files: tuple[Path, ...]
    video: bool
    rate: float | None = None

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 of the files, as they are when first asked for, and their names."""
        named = [[path.name, sha256(path)] for path in self.files]
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known of footage before it is read.

    Attributes:
      count: of pictures, perhaps not exact; None if the video does not tell.
      seconds: length of a video; None for photos and if it does not tell.
      notes: what its user should know, a sentence each: light tone-mapped, transparency lost.
    """

    count: int | None
    seconds: float | None
    notes: tuple[str, ...] = ()


def is_footage(path: Path) -> bool:
    """Whether a path is a file of a video or photo, by its name."""
    return path.suffix.lower() in (*VIDEOS, *PHOTOS, *HEIC) and not path.is_dir()


def film_of(path: Path) -> Source | None:
    """Pictures with the cameras of another program, which is one that stands still, as a video.

    So trackers of heads export a single camera (VHAP): what moves is the head, and the camera tells
    nothing of it.

    Args:
      path: see `scene_files.find_cameras`.

    Returns:
      The video; None where cameras differ, or there are none that can be read.
    """
    if find_cameras(path) is None:
        return None
    try:
        scene = read_scene(path)
    except InputError:  # which who wants its cameras will see
        return None
    if not scene.still:
        return None
    files = tuple(picture for picture in scene.pictures if picture is not None)
    return Source(name=home_of(path).name, files=files, video=True, rate=_FILM_RATE)


def find_people(sources: Sequence[Path | str]) -> list[Source]:
    """Find footage: each video is a person's, and so are all photos of a folder.

    Args:
      sources: videos, folders of photos or of videos, patterns such as 'people/*'. Photos named
        one by one are a person's as well. A folder of pictures with one still camera of another
        program is a video; see `film_of`.

    Returns:
      The people's footage, in the order named; names differ.

    Raises:
      InputError: if something is not there, is no footage, or mixes photos and videos.
    """
    if not sources:
        raise InputError("no footage is named; give a video, or a folder of photos")
    files: list[Path] = []
    found: list[Source] = []
    for source in map(Path, sources):
        for path in _matching(source):
            film = film_of(path)
            if film is not None:
                found.append(film)
            elif path.is_dir():
                found += _of_folder(path)
            else:
                files.append(path)
    photos = [path for path in files if _kind(path) == "photo"]
    found = [_video(path) for path in files if path not in photos] + found
    if photos:
        name = photos[0].stem if len(photos) == 1 else photos[0].resolve().parent.name
        found.insert(0, Source(name=name or "photos", files=tuple(photos), video=False))
    return _distinct(found)


def about(source: Source) -> About:
    """Look at the headers of footage.

    Raises:
      InputError: if a video cannot be read, or has no pictures; or PyAV is missing for one.
    """
    if source.rate is not None:
        count = len(source.files)
        note = (
            f"{source.name}: its {count} pictures have one camera, which stands still; they are "
            f"taken as a video of {source.rate:g} a second, in which the head's motion is found"
        )
        return About(count=count, seconds=count / source.rate, notes=(note,))
    if not source.video:
        return About(count=len(source.files), seconds=None)
    count, seconds, notes = describe(source.files[0])
    return About(count=count, seconds=seconds, notes=notes)


def read_pictures(
    source: Source,
    *,
    start: float | None = None,
    end: float | None = None,
    rate: float | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Picture]:
    """Read footage picture by picture; the same arguments give the same pictures again.

    Args:
      source: the footage.
      start: seconds of a video before which no picture is read.
      end: seconds after which none is.
      rate: most pictures a second of a video, chosen by their times; all if None.
      say: told of damage that was passed over: the sentence names the file.

    Raises:
      InputError: if there is no picture at all, or PyAV is missing for a video.
    """
    if source.rate is not None:
        return _film(source.files, source.rate, start, end, rate, say)
    if source.video:
        path = source.files[0]
        frames = video_frames(path, start=start, end=end, rate=rate, say=say)
        return (Picture(name=path.name, seconds=s, pixels=pixels) for s, pixels in frames)
    return _photos(source.files, say)


# Finding files.


def _matching(source: Path) -> list[Path]:
    if glob.has_magic(str(source)) and not source.exists():
        # Patterns of any depth, absolute or not, which Path.glob does not take.
        names = sorted(glob.glob(str(source), recursive=True), key=natural_key)  # noqa: PTH207
        found = [Path(name) for name in names if Path(name).is_dir() or is_footage(Path(name))]
        if not found:
            raise InputError(f"{source} matches no video, photo or folder; name some")
        return found
    if not source.exists():
        raise InputError(f"{source} does not exist; name a video, photos or a folder of them")
    return [source]


def _of_folder(folder: Path) -> list[Source]:
    files = sorted(
        (p for p in folder.iterdir() if is_footage(p) and not p.name.startswith(".")),
        key=lambda path: natural_key(path.name),
    )
    videos = [path for path in files if _kind(path) == "video"]
    if videos and len(videos) < len(files):
        photo = next(path for path in files if path not in videos)
        raise InputError(
            f"{folder} holds videos and photos, such as {videos[0].name} and {photo.name}; put "
            "those of each person into a folder of their own, or name the files"
        )
    if not files:
        if any(path for pattern in _TRACKED for path in folder.glob(pattern)):
            raise InputError(
                f"{folder} holds what VHAP tracked, without the pictures; export it with its "
                "export_as_nerf_dataset, and name the folder with the transforms.json"
            )
        raise InputError(
            f"{folder} holds no video or photo; put some there ({' '.join((*VIDEOS, *PHOTOS))})"
        )
    if videos:
        return [_video(path) for path in videos]
    return [Source(name=folder.resolve().name, files=tuple(files), video=False)]


def _kind(path: Path) -> str:
    return "photo" if path.suffix.lower() in (*PHOTOS, *HEIC) else "video"


def _video(path: Path) -> Source:
    return Source(name=path.stem, files=(path,), video=True)


def _distinct(found: list[Source]) -> list[Source]:
    """Name sources by their folder, too, where two would be called alike."""
    names = [source.name for source in found]
    named = []
    for source in found:
        name = source.name
        if names.count(name) > 1:
            parent = source.files[0].resolve().parent
            one_file = source.video and source.rate is None
            parent = parent if one_file else parent.parent
            ending = source.files[0].suffix if one_file else ""
            name = f"{parent.name}-{name}{ending}".replace(".", "-")
        named.append(replace(source, name=name))
    twice = {s.name for s in named if [t.name for t in named].count(s.name) > 1}
    if twice:
        raise InputError(
            f"several sources would be called {join_names(twice)}; name each file once, and rename "
            "one of them"
        )
    return named


# Photos, and videos that come as pictures.


def _photos(files: Sequence[Path], say: Callable[[str], None]) -> Iterator[Picture]:
    for path, pixels in _readable(files, say):
        yield Picture(name=path.name, seconds=None, pixels=pixels)


def _film(
    files: Sequence[Path],
    own: float,
    start: float | None,
    end: float | None,
    rate: float | None,
    say: Callable[[str], None],
) -> Iterator[Picture]:
    """Pictures of a video by their times: the first of each slot of 1 / rate seconds."""
    taken: dict[Path, float] = {}
    last = -1
    for index, path in enumerate(files):
        seconds = index / own
        slot = index if rate is None or rate >= own else math.floor(seconds * rate + 1e-6)
        if start is not None and seconds < start - 1e-6:
            continue
        if slot > last and (end is None or seconds <= end):
            taken[path], last = seconds, slot
    if not taken:
        raise InputError(
            f"{files[0]}: no picture of the {len(files) / own:.2f} seconds lies in what is taken; "
            "choose another part by --start and --end"
        )
    for path, pixels in _readable(list(taken), say):
        yield Picture(name=path.name, seconds=taken[path], pixels=pixels)


def _readable(
    files: Sequence[Path], say: Callable[[str], None]
) -> Iterator[tuple[Path, np.ndarray]]:
    problems = []
    for path in files:
        try:
            pixels = read_photo(path)
        except InputError as error:
            problems.append(str(error))
            say(problems[-1])
            continue
        yield path, pixels
    if len(problems) == len(files):
        more = f" (and {len(problems) - 1} more files)" if len(problems) > 1 else ""
        raise InputError(problems[0] + more)
