"""Pictures of footage, one by one: videos of any length by PyAV, photos by Pillow.

Every picture comes as it is meant to be seen: turned by what its file says, in eight bits of sRGB,
with transparency laid on white. Only one is held in memory at a time.
"""

from __future__ import annotations

import glob
import hashlib
import json
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
      files: the video alone, or the photos in natural order of their names.
      video: which of both.
    """

    name: str
    files: tuple[Path, ...]
    video: bool

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


def find_people(sources: Sequence[Path | str]) -> list[Source]:
    """Find footage: each video is a person's, and so are all photos of a folder.

    Args:
      sources: videos, folders of photos or of videos, patterns such as 'people/*'. Photos named
        one by one are a person's as well.

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
            if path.is_dir():
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
            parent = parent if source.video else parent.parent
            ending = source.files[0].suffix if source.video else ""
            name = f"{parent.name}-{name}{ending}".replace(".", "-")
        named.append(replace(source, name=name))
    twice = {s.name for s in named if [t.name for t in named].count(s.name) > 1}
    if twice:
        raise InputError(
            f"several sources would be called {join_names(twice)}; name each file once, and rename "
            "one of them"
        )
    return named


# Photos.


def _photos(files: Sequence[Path], say: Callable[[str], None]) -> Iterator[Picture]:
    problems = []
    for path in files:
        try:
            pixels = read_photo(path)
        except InputError as error:
            problems.append(str(error))
            say(problems[-1])
            continue
        yield Picture(name=path.name, seconds=None, pixels=pixels)
    if len(problems) == len(files):
        more = f" (and {len(problems) - 1} more files)" if len(problems) > 1 else ""
        raise InputError(problems[0] + more)
