"""Find faces in a picture, and 468 landmarks on each."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from PIL import Image

from inversion.footage.nets import FaceNets, Net

NUM_POINTS = 468

# A window is so many times as large as the box around the face.
_MARGIN = 1.5
_PASSES = 3
# Around a photo's face the mesh is laid in windows turned by so many degrees and so many times as
# large, too.
_OTHER_WINDOWS = ((-8, 1.0), (8, 1.0), (0, 0.93), (0, 1.07), (-8, 1.07), (8, 0.93))
# Boxes that share more than this part of their union show one face.
_SAME_FACE = 0.3
# Below these scores the nets see no face; MediaPipe's.
_MIN_SCORE = {"short_range": 0.5, "full_range": 0.6}
# Where the short range net is less sure than this, or the face is smaller than this part of the
# picture's longer side, the full range net is asked as well. Who is less sure sees faces in
# patterns of cloth, too, so the mesh must confirm it.
_SURE, _LARGE = 0.8, 0.15
# Sides of tiles, as parts of the picture's longer one, and the least in pixels. The full range net
# finds faces of a thirteenth of what it is shown; what smaller tiles could add is too small to fit.
_TILES, _MIN_TILE = (2, 4), 480
# A score before the sigmoid is clipped there.
_CLIP = 100.0
_MIN_PRESENCE = 0.5
# Where the nets' cells begin: their strides in pixels, and anchors in each cell.
_ANCHORS = {"short_range": ((8, 2), (16, 6)), "full_range": ((4, 1),)}

# Points of the mesh: outer corners of the eyes, the person's right one first; top and chin.
_EYE_CORNERS = (33, 263)
_TOP, _CHIN = 10, 152
# Those nearest to the keypoints of the detectors: eyes (both corners each), tip of the nose, mouth
# (both lips), ears.
_KEYPOINTS = ((33, 133), (362, 263), (1, 1), (13, 14), (234, 234), (454, 454))


@dataclass(frozen=True, eq=False)
class Face:
    """Where a face is found in a picture.

    Attributes:
      center: float64 [2], middle of the window, x right and y down in pixels; a pixel's own middle
        is at +.5.
      side: of the square window, pixels; 1.5 times the box around the face.
      roll: radians by which the window is turned so that the head is upright in it, in [-pi, pi]:
        by the line of the eyes, and the face's height once there are landmarks; positive where the
        person's left eye is the lower one in the picture.
      score: of the detector, 0 to 1.
      keypoints: float64 [6, 2] pixels: the person's right and left eye, tip of the nose, mouth,
        right and left ear.
    """

    center: np.ndarray
    side: float
    roll: float
    score: float
    keypoints: np.ndarray


@dataclass(frozen=True, eq=False)
class Landmarks:
    """The mesh on a face.

    Attributes:
      points: float32 [468, 3] pixels of the whole picture: x right, y down, a pixel's own middle at
        +.5; z in the same unit, smaller nearer to the camera, with a zero of its own.
      presence: of a face, 0 to 1; below .03 or above .95 nearly always.
      mirror_gap: mean distance between the points found in the picture and in its mirror image, as
        a part of the window's side; .005 to .007 in a clear picture, .02 where half of the face is
        hidden.
      face: the window around the points, in which to look next.
    """

    points: np.ndarray
    presence: float
    mirror_gap: float
    face: Face


@functools.cache
def _mirror() -> np.ndarray:
    """Index of the point on the other side of the face, for each point."""
    with (
        resources.files("inversion.footage")
        .joinpath("data", "canonical_face.npz")
        .open("rb") as file
    ):
        return np.load(file, allow_pickle=False)["mirror"].astype(np.intp)


def find_faces(nets: FaceNets, pixels: np.ndarray, *, quarter_turns: int = 0) -> list[Face]:
    """Find the faces in a picture; where there seem to be none, look in overlapping tiles of it.

    Args:
      nets: as loaded.
      pixels: uint8 [height, width, 3].
      quarter_turns: counterclockwise turns of the picture after which its heads are upright, as
        `numpy.rot90` counts them; the faces are given in the picture as it is.

    Returns:
      The faces, largest first; none if there are none.

    Raises:
      ValueError: if the picture has another shape or type.
    """
    _check(pixels)
    return _at_a_glance(nets, pixels, quarter_turns) or _look_again(nets, pixels, quarter_turns)


def find_landmarks(nets: FaceNets, pixels: np.ndarray, face: Face) -> Landmarks:
    """Lay the mesh on a face, in three passes, each in the window around the last result.

    Each pass is the mean of what is found in the window and in its mirror image.

    Args:
      nets: as loaded.
      pixels: uint8 [height, width, 3].
      face: where to look first: what `find_faces` gave, or the face of the frame before.

    Returns:
      The landmarks. They mean nothing where the presence is low.

    Raises:
      ValueError: if the picture has another shape or type, or the window has no size or does not
        touch the picture.
    """
    _check(pixels)
    found = _one_pass(nets.mesh, pixels, face)
    for _ in range(_PASSES - 1):
        if not _touches(found.face, pixels):  # at the border, and no face
            break
        found = _one_pass(nets.mesh, pixels, found.face)
    return found


def steady_landmarks(nets: FaceNets, pixels: np.ndarray, face: Face) -> Landmarks:
    """Lay the mesh on the face of a photo, as the mean of several windows around it.

    The net's answer depends a little on how its window lies: the pose from one window changes by up
    to 1.1 degrees as a photo is turned, that from the mean of seven by .3. A video has neighbouring
    pictures for that.

    Args, returns and raises as `find_landmarks`.
    """
    found = find_landmarks(nets, pixels, face)
    looks = [found]
    for degrees, larger in _OTHER_WINDOWS:
        window = dataclasses.replace(
            found.face,
            roll=found.face.roll + math.radians(degrees),
            side=found.face.side * larger,
        )
        if _touches(window, pixels):
            looks.append(_one_pass(nets.mesh, pixels, window))
    points = np.mean(np.stack([look.points for look in looks]).astype(np.float64), axis=0)
    return dataclasses.replace(
        found,
        points=points.astype(np.float32),
        face=_around(points[:, :2], found.face.score),
    )


def best_turn(nets: FaceNets, pixels: np.ndarray) -> Face | None:
    """Find the largest face of a picture that may lie on its side or upside down.

    The nets find upside-down faces, too, and lay upright ones on them. So all four quarter turns
    are tried, and the best of score x presence - 10 x mirror gap - |roll| / 180 degrees is taken.

    Args:
      nets: as loaded.
      pixels: uint8 [height, width, 3].

    Returns:
      The face in the picture as it is; its roll tells how the head is turned. None if no turn
      shows a face.

    Raises:
      ValueError: if the picture has another shape or type.
    """
    _check(pixels)
    for look in (_at_a_glance, _look_again):
        best, best_value = None, -math.inf
        for turns in range(4):
            for face in look(nets, pixels, turns)[:1]:
                found = find_landmarks(nets, pixels, face)
                roll = abs(_principal(found.face.roll - turns * math.pi / 2))
                value = face.score * found.presence - 10 * found.mirror_gap - roll / math.pi
                if found.presence > _MIN_PRESENCE and value > best_value:
                    best, best_value = found.face, value
        if best is not None:
            return best
    return None


def _check(pixels: np.ndarray) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(
            f"a picture to find faces in is {pixels.dtype} {list(pixels.shape)}, wanted uint8 "
            "[height, width, 3]"
        )


def _principal(angle: float) -> float:
    return math.remainder(angle, math.tau)


# Finding faces.


@dataclass(frozen=True, eq=False)
class _Boxes:
    """Detections: boxes [n, 4] left, top, right, bottom; keypoints [n, 6, 2]; scores [n]."""

    boxes: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


def _at_a_glance(nets: FaceNets, pixels: np.ndarray, quarter_turns: int) -> list[Face]:
    """The faces that the whole picture, turned, shows the nets."""
    turned = np.rot90(pixels, quarter_turns)
    height, width = turned.shape[:2]
    whole = (0, 0, width, height)
    found = _detect(nets.short_range, "short_range", turned, [whole])
    sides = (found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=1, initial=0)
    if not len(found) or found.scores.max() < _SURE or sides.max() < _LARGE * max(width, height):
        found = _merge([found, _detect(nets.full_range, "full_range", turned, [whole])])
    return _confirmed(nets, pixels, found, quarter_turns)


def _look_again(nets: FaceNets, pixels: np.ndarray, quarter_turns: int) -> list[Face]:
    """Look from farther off, for a face that fills the picture, and then in ever smaller tiles."""
    turned = np.rot90(pixels, quarter_turns)
    height, width = turned.shape[:2]
    around = (-width // 2, -height // 2, width + width // 2, height + height // 2)
    found = _detect(nets.short_range, "short_range", turned, [around])
    faces = _confirmed(nets, pixels, found, quarter_turns)
    for parts in _TILES:
        side = max(width, height) // parts
        if not faces and side >= _MIN_TILE:
            found = _detect(nets.full_range, "full_range", turned, _tiles(width, height, side))
            faces = _confirmed(nets, pixels, found, quarter_turns)
    return faces


def _confirmed(nets: FaceNets, pixels: np.ndarray, found: _Boxes, quarter_turns: int) -> list[Face]:
    """The faces of which the detector is sure, and those on which the mesh lies; largest first.

    Args:
      nets: as loaded.
      pixels: the picture as it is.
      found: in the picture turned.
      quarter_turns: of that picture.
    """
    height, width = pixels.shape[:2]
    faces = [_face(*one) for one in zip(found.boxes, found.keypoints, found.scores, strict=True)]
    for turns in range(quarter_turns % 4, 0, -1):
        # How wide the picture was before this turn: every turn exchanges width and height.
        faces = [_turn_back(face, width if turns % 2 else height) for face in faces]
    kept = [
        face
        for face in faces
        if face.score >= _SURE or _one_pass(nets.mesh, pixels, face).presence > _MIN_PRESENCE
    ]
    return sorted(kept, key=lambda face: -face.side)


def _tiles(width: int, height: int, side: int) -> list[tuple[int, int, int, int]]:
    """Squares that overlap by at least half and cover the picture."""
    lefts, tops = (
        np.linspace(0, max(n - side, 0), 1 + max(math.ceil((n - side) / (side / 2)), 0)).astype(int)
        for n in (width, height)
    )
    return [(x, y, min(x + side, width), min(y + side, height)) for y in tops for x in lefts]


def _detect(
    net: Net, name: str, pixels: np.ndarray, regions: Sequence[tuple[int, int, int, int]]
) -> _Boxes:
    return _merge([_detect_in(net, name, pixels, region) for region in regions])


def _detect_in(
    net: Net, name: str, pixels: np.ndarray, region: tuple[int, int, int, int]
) -> _Boxes:
    """Run a detector on a part of a picture, in the middle of a black square."""
    side = net.graph.side
    left, top, right, bottom = region
    scale = side / max(right - left, bottom - top)
    # What of the region lies in the picture, in pixels of the square.
    inside = (max(left, 0), max(top, 0), min(right, pixels.shape[1]), min(bottom, pixels.shape[0]))
    shift = (np.array([side, side]) / scale - (right - left, bottom - top)) / 2
    start = np.floor((np.array(inside[:2]) - (left, top) + shift) * scale + 0.5).astype(int)
    size = np.maximum(np.round(np.subtract(inside[2:], inside[:2]) * scale), 1).astype(int)
    size = np.minimum(size, side - start)
    # Of large pictures every `step`-th pixel: copying them all would take longer than the net, and
    # each pixel of the square is still a mean of sixteen or more.
    step = max(int(1 / scale / 4), 1)
    cropped = pixels[inside[1] : inside[3], inside[0] : inside[2]]
    cropped = cropped[
        min(step, len(cropped)) // 2 :: step, min(step, cropped.shape[1]) // 2 :: step
    ]
    shrunk = Image.fromarray(np.ascontiguousarray(cropped)).resize(
        (int(size[0]), int(size[1])), Image.Resampling.BILINEAR, reducing_gap=2.0
    )
    square = np.full((1, side, side, 3), -1, np.float32)
    rows, columns = (slice(s, s + n) for s, n in zip(start[::-1], size[::-1], strict=True))
    square[0, rows, columns] = np.asarray(shrunk, np.float32) / 127.5 - 1
    values, scores = net(square)
    found = _suppress(_decode(name, side, values[0], scores[0, :, 0]))
    # Each axis by its own, as the size in the square is rounded.
    factors = np.subtract(inside[2:], inside[:2]) / size
    offset = np.array(inside[:2]) - start * factors
    return dataclasses.replace(
        found,
        boxes=found.boxes * np.tile(factors, 2) + np.tile(offset, 2),
        keypoints=found.keypoints * factors + offset,
    )


@functools.cache
def _anchors(name: str, side: int) -> np.ndarray:
    """Middles of the anchors, [n, 2] pixels of the net's input: row by row, cell by cell."""
    rows = []
    for stride, count in _ANCHORS[name]:
        middles = (np.arange(side // stride) + 0.5) * stride
        y, x = np.meshgrid(middles, middles, indexing="ij")
        rows.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), count, axis=0))
    return np.concatenate(rows)


def _decode(name: str, side: int, values: np.ndarray, scores: np.ndarray) -> _Boxes:
    """Detections of a net in pixels of its input.

    Args:
      name: of the net.
      side: of its input.
      values: [n, 16] middle, size and six points, in pixels from the anchor.
      scores: [n] before the sigmoid.
    """
    scores = 1 / (1 + np.exp(-np.clip(scores.astype(np.float64), -_CLIP, _CLIP)))
    keep = scores >= _MIN_SCORE[name]
    anchors = _anchors(name, side)[keep]
    values = values[keep].astype(np.float64).reshape(-1, 8, 2)
    middle, half = values[:, 0] + anchors, values[:, 1] / 2
    boxes = np.concatenate([middle - half, middle + half], axis=1)
    return _Boxes(boxes, values[:, 2:] + anchors[:, None], scores[keep])


def _suppress(found: _Boxes) -> _Boxes:
    """Join the detections of one face: their mean by score, with the best of the scores."""
    left = np.argsort(-found.scores, kind="stable")
    boxes, keypoints, scores = [], [], []
    while left.size:
        same = _overlap(found.boxes[left[0]], found.boxes[left]) > _SAME_FACE
        same[0] = True
        weights = found.scores[left[same]] / found.scores[left[same]].sum()
        boxes.append(np.tensordot(weights, found.boxes[left[same]], axes=1))
        keypoints.append(np.tensordot(weights, found.keypoints[left[same]], axes=1))
        scores.append(found.scores[left[0]])
        left = left[~same]
    return _Boxes(
        np.reshape(boxes, (-1, 4)), np.reshape(keypoints, (-1, 6, 2)), np.reshape(scores, -1)
    )


def _merge(parts: Sequence[_Boxes]) -> _Boxes:
    """Detections of several looks at a picture, each face once: as the surest look has it."""
    joined = _Boxes(
        *(
            np.concatenate([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(_Boxes)
        )
    )
    kept: list[int] = []
    for index in np.argsort(-joined.scores, kind="stable"):
        if not np.any(_overlap(joined.boxes[index], joined.boxes[kept]) > _SAME_FACE):
            kept.append(int(index))
    return _Boxes(joined.boxes[kept], joined.keypoints[kept], joined.scores[kept])


def _overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of a box with others, [n]."""
    shared = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    common = np.prod(np.maximum(shared, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return common / np.maximum(areas - common, 1e-12)


def _face(box: np.ndarray, keypoints: np.ndarray, score: float) -> Face:
    eyes = keypoints[1] - keypoints[0]
    return Face(
        center=(box[:2] + box[2:]) / 2,
        side=_MARGIN * float(np.max(box[2:] - box[:2])),
        roll=math.atan2(float(eyes[1]), float(eyes[0])),
        score=float(score),
        keypoints=keypoints,
    )


def _turn_back(face: Face, width: int) -> Face:
    """Undo a counterclockwise quarter turn of a picture that was `width` wide before it."""
    turn = np.array([[0, -1], [1, 0]])
    return dataclasses.replace(
        face,
        center=turn @ face.center + (width, 0),
        keypoints=face.keypoints @ turn.T + (width, 0),
        roll=_principal(face.roll + math.pi / 2),
    )


# Laying the mesh.


def _one_pass(mesh: Net, pixels: np.ndarray, face: Face) -> Landmarks:
    side = mesh.graph.side
    image = cut_turned(pixels, face, side).astype(np.float32) / 255
    points, presence = mesh(np.stack([image, image[:, ::-1]]))
    points = points.reshape(2, NUM_POINTS, 3).astype(np.float64)
    plain, mirrored = points[0], points[1][_mirror()] * (-1, 1, 1) + (side, 0, 0)
    mean = (plain + mirrored) / 2 / side
    gap = np.linalg.norm((plain - mirrored)[:, :2], axis=1).mean() / side
    found = np.empty((NUM_POINTS, 3), np.float64)
    found[:, :2] = (mean[:, :2] - 0.5) @ _rotation(face.roll).T * face.side + face.center
    found[:, 2] = mean[:, 2] * face.side
    logits = np.clip(presence.reshape(2).astype(np.float64), -_CLIP, _CLIP)
    return Landmarks(
        points=found.astype(np.float32),
        presence=float(np.mean(1 / (1 + np.exp(-logits)))),
        mirror_gap=float(gap),
        face=_around(found[:, :2], face.score),
    )


def _around(points: np.ndarray, score: float) -> Face:
    """The window around the points of a mesh, [468, 2] pixels."""
    eyes = points[_EYE_CORNERS[1]] - points[_EYE_CORNERS[0]]
    # In a profile the eyes nearly coincide, and their line alone would turn at random: points then
    # move three to ten times as much when the picture is turned.
    down = points[_CHIN] - points[_TOP]
    roll = math.atan2(eyes[1] - down[0], eyes[0] + down[1])
    rotation = _rotation(roll)
    level = points @ rotation
    low, high = level.min(axis=0), level.max(axis=0)
    return Face(
        center=rotation @ ((low + high) / 2),
        side=_MARGIN * float(np.max(high - low)),
        roll=roll,
        score=score,
        keypoints=points[np.array(_KEYPOINTS)].mean(axis=1),
    )


def _rotation(roll: float) -> np.ndarray:
    """[2, 2] from the axes of a turned window to those of the picture."""
    cosine, sine = math.cos(roll), math.sin(roll)
    return np.array([[cosine, -sine], [sine, cosine]])


def _extent(face: Face) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest x and y of a turned window."""
    reach = face.side / 2 * np.abs(_rotation(face.roll)).sum(axis=1)
    return face.center - reach, face.center + reach


def _touches(face: Face, pixels: np.ndarray) -> bool:
    low, high = _extent(face)
    size = np.array(pixels.shape[1::-1])
    # NaN is in no order.
    return bool(
        face.side > 0 and np.all(high > 0) and np.all(low < size) and np.isfinite(high).all()
    )


def cut_turned(pixels: np.ndarray, face: Face, size: int) -> np.ndarray:
    """Cut the turned window of a face; outside the picture its border is repeated.

    Args:
      pixels: uint8 [height, width, 3].
      face: the window.
      size: side of the result, pixels.

    Returns:
      uint8 [size, size, 3]; large windows are averaged down, so that nothing flickers.

    Raises:
      ValueError: if the window has no size or does not touch the picture.
    """
    height, width = pixels.shape[:2]
    if not _touches(face, pixels):
        raise ValueError(
            f"the window of a face at {face.center.tolist()} of side {face.side} is outside the "
            f"picture of {width} x {height} pixels"
        )
    low, high = _extent(face)
    rotation = _rotation(face.roll)
    # A margin of two for the interpolation; averages of `step` pixels begin at a multiple of it.
    step = max(int(face.side / size), 1)
    left, top = (int(n) for n in (np.floor(np.maximum(low, 0) / step) - 2) * step)
    left, top = max(left, 0), max(top, 0)
    right, bottom = (
        min(int(math.ceil(h)) + 2 * step, n) for h, n in zip(high, (width, height), strict=True)
    )
    image = Image.fromarray(np.ascontiguousarray(pixels[top:bottom, left:right]))
    if step > 1:
        image = image.reduce(step)
    # Pixels to add on each side, of the averaged picture.
    before = np.maximum(np.ceil((np.array([left, top]) - low) / step) + 2, 0).astype(int)
    size_now = np.array(image.size)
    ends = np.ceil((high - (left, top)) / step) + 2
    after = np.maximum(ends - size_now, 0).astype(int)
    if before.any() or after.any():
        pads = ((before[1], after[1]), (before[0], after[0]), (0, 0))
        image = Image.fromarray(np.pad(np.asarray(image), pads, mode="edge"))
    scale = face.side / size / step
    matrix = rotation * scale
    middle = (face.center - (left, top)) / step + before
    offset = middle - matrix @ np.full(2, size / 2)
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])
    return np.asarray(
        image.transform(
            (size, size), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
        )
    )
