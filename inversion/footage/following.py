"""Follow one face through the pictures of footage, and see where a video is cut."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from inversion.footage.landmarks import (
    Face,
    Landmarks,
    best_turn,
    find_faces,
    find_landmarks,
    steady_landmarks,
)
from inversion.footage.nets import FaceNets
from inversion.footage.pictures import Picture
from inversion.footage.selection import PRESENT

# Gap between a face's landmarks and those of its mirror image, as a part of the window, beyond
# which half of the face is hidden or turned away. It is .005 to .007 in a clear picture.
HIDDEN = 0.02
# In a video all faces are looked for every so many pictures.
_LOOK_AROUND = 15
# Pictures after which a face that was lost may come back anywhere.
_FORGET = 15
# From one picture to the next a face moves by less than this part of its window, and changes its
# size by less than this factor.
_FAR, _OTHER_SIZE = 0.6, 1.5
# Difference between two pictures in units of their contrast. Unlike ones differ by about 1.1, those
# that follow each other in fast motion by up to .3.
_OTHER_PICTURE = 0.6
_SMALL = (32, 18)
# Pictures from before a dissolve, by which one scene turns into another, to its middle: up to 1.6
# seconds at 30 a second. In between, pictures are mixtures of both ends to within this part of
# their difference; with a camera or a head that moves they are not.
_HALF_DISSOLVES = (3, 6, 12, 24)
_MIXED = 0.25
_SHARP_SIDE = 128


@dataclass(frozen=True, eq=False)
class Look:
    """What was seen in a picture.

    Attributes:
      name: file name.
      seconds: in a video.
      height: pixels, of the picture once turned.
      width: pixels.
      turns: counterclockwise quarter turns that bring the head upright.
      landmarks: None where no face is present.
      presence: of a face, 0 to 1.
      sharpness: of the face, of no unit: to be compared within footage; NaN without a face.
      faces: how many are there; None where only the one followed was looked at.
      jumped: whether the face is not where and as large as it was just before.
      small: uint8 [18, 32], the picture in grey.
    """

    name: str
    seconds: float | None
    height: int
    width: int
    turns: int
    landmarks: Landmarks | None
    presence: float
    sharpness: float
    faces: int | None
    jumped: bool
    small: np.ndarray


def upright_turns(nets: FaceNets, pictures: Iterable[Picture], *, enough: int = 3) -> int:
    """Find how a video must be turned, from its first pictures with a face.

    Args:
      nets: of faces.
      pictures: some of them, in time order.
      enough: pictures with a face, of which the majority decides.

    Returns:
      Counterclockwise quarter turns, 0 to 3; 0 where there is no face.
    """
    faces = (best_turn(nets, picture.pixels) for picture in pictures)
    found = [turns_of(face) for face in itertools.islice(filter(None, faces), enough)]
    return max(range(4), key=lambda turns: (found.count(turns), -turns))


def turns_of(face: Face) -> int:
    """Counterclockwise quarter turns, 0 to 3, that bring a face nearest to upright."""
    return round(face.roll / (math.pi / 2)) % 4


def turned(pixels: np.ndarray, turns: int) -> np.ndarray:
    """Turn a picture counterclockwise by quarter turns."""
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns % 4 else pixels


def turned_point(point: Sequence[float], turns: int, height: int, width: int) -> np.ndarray:
    """Move a point [2] of a picture of that size along with its turn."""
    x, y = point
    for _ in range(turns % 4):
        x, y, height, width = y, width - x, width, height
    return np.array([x, y], np.float64)


def look_at_photo(
    nets: FaceNets, picture: Picture, *, person: Sequence[float] | None = None
) -> tuple[Look, np.ndarray]:
    """Look for a face in a photo, whichever way it is turned.

    Args:
      nets: of faces.
      picture: the photo.
      person: pixel near the face that is meant; the largest if None.

    Returns:
      What was seen, and the pixels turned upright.
    """
    face = best_turn(nets, picture.pixels)
    turns = 0 if face is None else turns_of(face)
    pixels = turned(picture.pixels, turns)
    faces = find_faces(nets, pixels)
    point = None if person is None else turned_point(person, turns, *picture.pixels.shape[:2])
    found = None
    if faces:
        found = steady_landmarks(nets, pixels, _choose(faces, point, None))
    small = _small(pixels)
    look = _look(picture, pixels, turns, found, len(faces), small=small, jumped=False)
    return look, pixels


def follow(
    nets: FaceNets,
    pictures: Iterable[Picture],
    *,
    turns: int = 0,
    person: Sequence[float] | None = None,
) -> Iterator[tuple[Look, np.ndarray]]:
    """Follow a face through a video.

    The largest face of the first picture that has one is followed; where it is lost, the nearest to
    where it was.

    Args:
      nets: of faces.
      pictures: of the video in time order.
      turns: counterclockwise quarter turns by which all are turned first.
      person: pixel near the face that is meant, in the first picture that has one.

    Returns:
      What was seen in each picture, and its pixels, turned.
    """
    last: Landmarks | None = None
    since = 0  # pictures since the face was seen last
    before: np.ndarray | None = None
    for number, picture in enumerate(pictures):
        pixels = turned(picture.pixels, turns)
        small = _small(pixels)
        new_scene = before is not None and difference(before, small) > _OTHER_PICTURE
        before = small
        found, faces = None, None
        if last is not None and not since and not new_scene:
            found = _present(find_landmarks(nets, pixels, last.face))
            if found is not None and _has_jumped(last, found, 1):
                found = None  # the mesh slid off
        if found is None or number % _LOOK_AROUND == 0:
            faces = find_faces(nets, pixels)
        if found is None and faces:
            point = None
            if last is None and person is not None:
                point = turned_point(person, turns, *picture.pixels.shape[:2])
            elif last is not None and since < _FORGET and not new_scene:
                point = last.face.center
            chosen = _choose(faces, point, last)
            found = find_landmarks(nets, pixels, chosen)
        jumped = False
        if found is not None and found.presence >= PRESENT:
            jumped = last is not None and since < _FORGET and _has_jumped(last, found, 1 + since)
            last, since = found, 0
        else:
            since += 1
        count = None if faces is None else len(faces)
        yield _look(picture, pixels, turns, found, count, small=small, jumped=jumped), pixels


def find_parts(looks: Sequence[Look]) -> list[range]:
    """Divide a video where it is cut: where picture or face jump, and do not jump back.

    A dissolve is a part of its own.

    Args:
      looks: at its pictures, in time order.

    Returns:
      Ranges of pictures; one where there is no cut.
    """
    starts = {0}
    for slow in find_dissolves([look.small for look in looks]):
        starts |= {slow.start, slow.stop}
    for i in range(1, len(looks)):
        # Around a flash of light, which is no cut, pictures are alike.
        before, after = looks[max(i - 2, 0) : i], looks[i : i + 2]
        other = all(difference(a.small, b.small) > _OTHER_PICTURE for a in before for b in after)
        if other or looks[i].jumped:
            starts.add(i)
    return [range(a, b) for a, b in itertools.pairwise(sorted({*starts, len(looks)}))]


def find_dissolves(pictures: Sequence[np.ndarray]) -> list[range]:
    """Find where one scene slowly turns into another.

    There, pictures are mixtures of an earlier and a later one that are unlike even when their
    light and contrast are made alike.

    Args:
      pictures: n of them in time order, uint8 [h, w].

    Returns:
      Ranges of the pictures that are mixed, apart from each other.
    """
    grey = np.array([np.ravel(picture) for picture in pictures], np.float64)
    if not len(grey):
        return []
    alike = (grey - grey.mean(-1, keepdims=True)) / (grey.std(-1, keepdims=True) + 4)
    mixed = np.zeros(len(grey), bool)
    for half in _HALF_DISSOLVES:
        apart = np.abs(alike[2 * half :] - alike[: -2 * half]).mean(-1)
        for first in np.flatnonzero(apart > _OTHER_PICTURE):
            between = grey[first : first + 2 * half + 1]
            way = between[-1] - between[0]
            part = (between - between[0]) @ way / (way @ way)
            off = np.abs(between - between[0] - part[:, None] * way).mean(-1)
            # Motion within the scenes moves the parts a little backwards.
            grows = (np.diff(part) > -0.1).all() and 0.25 < part[half] < 0.75
            if grows and (off < _MIXED * np.abs(way).mean()).all():
                inside = np.flatnonzero((part > 0.05) & (part < 0.95))
                mixed[first + inside.min() : first + inside.max() + 1] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mixed, [False]]).astype(int)))
    return [range(a, b) for a, b in edges.reshape(-1, 2)]


def difference(first: np.ndarray, second: np.ndarray) -> float:
    """Difference of two pictures uint8 [h, w] in units of their contrast."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    # Four grey levels: even pictures, such as black ones, differ by noise.
    contrast = (a.std() + b.std()) / 2 + 4
    return float(np.abs(a - b).mean() / contrast)


def _choose(faces: Sequence[Face], point: np.ndarray | None, last: Landmarks | None) -> Face:
    """The face nearest to a point, in its own sizes; the largest without a point."""
    if point is None:
        return max(faces, key=lambda face: face.side)
    side = faces[0].side if last is None else last.face.side

    def distance(face: Face) -> float:
        away = float(np.linalg.norm(face.center - point)) / side
        return away + (0 if last is None else abs(math.log(face.side / side)))

    return min(faces, key=distance)


def _has_jumped(last: Landmarks, found: Landmarks, pictures: int) -> bool:
    """Whether a face moved or grew more than it can within so many pictures."""
    side = last.face.side
    away = float(np.linalg.norm(found.face.center - last.face.center)) / side
    growth = abs(math.log(found.face.side / side))
    slack = 1 + 0.25 * (pictures - 1)
    return away > _FAR * slack or growth > math.log(_OTHER_SIZE) * slack


def _present(found: Landmarks) -> Landmarks | None:
    return found if found.presence >= PRESENT else None


def _look(
    picture: Picture,
    pixels: np.ndarray,
    turns: int,
    found: Landmarks | None,
    faces: int | None,
    *,
    small: np.ndarray,
    jumped: bool,
) -> Look:
    seen = None if found is None else _present(found)
    return Look(
        name=picture.name,
        seconds=picture.seconds,
        height=pixels.shape[0],
        width=pixels.shape[1],
        turns=turns,
        landmarks=seen,
        presence=0.0 if found is None else found.presence,
        sharpness=math.nan if seen is None else sharpness(pixels, seen.points[:, :2]),
        faces=faces,
        jumped=jumped,
        small=small,
    )


def sharpness(pixels: np.ndarray, points: np.ndarray) -> float:
    """Strength of the finest detail in the box around points, of no unit.

    Args:
      pixels: uint8 [height, width, 3].
      points: [n, 2] pixels.

    Returns:
      The mean difference between neighbours at 128 pixels a side over the contrast; NaN if the box
      is not in the picture.
    """
    height, width = pixels.shape[:2]
    low = np.clip(np.floor(points.min(0)), 0, (width - 1, height - 1)).astype(int)
    high = np.clip(np.ceil(points.max(0)), 0, (width, height)).astype(int)
    if (high - low).min() < 8:
        return math.nan
    box = pixels[low[1] : high[1], low[0] : high[0]]
    scale = _SHARP_SIDE / max(box.shape[:2])
    size = tuple(max(round(side * scale), 8) for side in box.shape[1::-1])
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    grey = np.asarray(Image.fromarray(box).convert("L").resize(size, how), np.float64)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    fine = grey[1:-1, 1:-1] - around / 4
    return float(np.abs(fine).mean() / (grey.std() + 4))


def _small(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(pixels)
    return np.asarray(image.resize(_SMALL, Image.Resampling.BOX, reducing_gap=2).convert("L"))
