"""Points tracked through a video, which carry the pose on where landmarks do not reach.

Beyond some 40 degrees of yaw the landmarks turn less than the head does. Corners of the picture,
of skin, ears and hair, follow it. They are tracked in windows that follow the head and are equally
large, so that from frame to frame little moves but the head's turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from eg3d_jax.errors import InputError
from inversion.footage.poses import PIXELS, Poses
from inversion.footage.windows import RADIUS, Window

_SIZE = 384  # pixels a side of what points are tracked in
_MARGIN = 1.1  # times the window: how much of the picture that shows
_MOST_POINTS, _SPACING, _QUALITY = 400, 6, 0.004
_FRAMES_APART = 2  # new points are looked for in every so many frames
# Where the skin is even, a wide window holds on to outlines, along which points slide.
_FLOW_WINDOW, _FLOW_LEVELS = (11, 11), 3
# A point that comes back elsewhere than it started from is lost; pixels of what it is tracked in.
_BACK = 0.5
_INNER = 0.8  # times the head's outline: where a window follows what moves

# A point's place in space takes so many frames, that see it from directions so far apart.
_FEWEST_FRAMES, _SPAN = 4, np.radians(7.0)
_FEWEST_POINTS, _FEWEST_SHARE = 12, 0.4
_PASSES_KEPT = 4  # frames that poses are carried on by, until known points are found anew
MOST_TURN = np.radians(12.0)  # of a head from frame to frame; nothing is tracked through more
_REACH = 2.0  # pixels of a window of 512 beyond which a point loses its hold
# An ellipsoid about the head, world units; a point outside is none of the head's.
HEAD_MIDDLE, HEAD_RADII = np.array([0.0, 0.05, -0.02]), np.array([0.32, 0.48, 0.34])
# Its inner part, which hides the background whatever the hair: corners are looked for there.
HEAD_CORE = np.array([0.22, 0.36, 0.25])
_ROWS, _COLUMNS = np.triu_indices(3)


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """N sightings of M points.

    Attributes:
      frame: [N] int, ascending.
      point: [N] int, below M.
      pixels: float64 [N, 2] in whole pictures, x right and y down.
      count: M.
    """

    frame: np.ndarray
    point: np.ndarray
    pixels: np.ndarray
    count: int


def track_points(
    grays: Sequence[np.ndarray],
    sizes: np.ndarray,
    windows: Sequence[Window],
    outlines: Sequence[np.ndarray | None],
    report: Callable[[float], None] | None = None,
) -> Tracks:
    """Track corners on and near the face through a video, from each frame to the next.

    Args:
      grays: n pictures uint8 [h, w], at their pictures' proportions but possibly smaller.
      sizes: [n, 2] width and height of the pictures in pixels.
      windows: n crops, in pixels of the pictures.
      outlines: n sets of points [P, 2] about the head in pixels, None where there is none; then
        that of the frame nearest in time is used, in its window.
      report: called with the part done.

    Raises:
      InputError: if OpenCV is not installed.
    """
    cv2 = opencv()
    masks = _masks(cv2, windows, outlines)
    around = np.ones((2 * _SPACING - 1, 2 * _SPACING - 1), np.uint8)  # of a point
    frames, points, pixels = [], [], []
    alive, names, count, before = np.zeros((0, 2), np.float32), np.zeros(0, int), 0, None
    for i, gray in enumerate(grays):
        crop = crop_of(cv2, gray, sizes[i], windows[i])
        if before is not None and len(alive):
            there, kept = _flow(cv2, before, crop.picture, alive)
            alive, names = there[kept], names[kept]
        if i % _FRAMES_APART == 0 and len(alive) < _MOST_POINTS:
            free = masks[i].copy()
            taken = np.zeros_like(free)
            columns, rows = np.rint(alive.T).astype(int)
            taken[rows, columns] = 1
            free[cv2.dilate(taken, around) > 0] = 0
            new = cv2.goodFeaturesToTrack(
                crop.picture, _MOST_POINTS - len(alive), _QUALITY, _SPACING, mask=free
            )
            if new is not None:
                new = new.reshape(-1, 2)
                names = np.concatenate([names, count + np.arange(len(new))])
                alive = np.concatenate([alive, new])
                count += len(new)
        frames.append(np.full(len(alive), i))
        points.append(names)
        pixels.append(crop.to_picture(alive))
        before = crop.picture
        if report is not None:
            report((i + 1) / len(grays))
    return _longer_than_one(
        np.concatenate(frames), np.concatenate(points), np.concatenate(pixels), count
    )


def follow(
    grays: Sequence[np.ndarray],
    sizes: np.ndarray,
    windows: Sequence[Window],
    outlines: Sequence[np.ndarray | None],
) -> list[Window]:
    """Let windows follow the head through frames without a face, from both ends of each gap.

    Args:
      grays: n pictures, as for `track_points`.
      sizes: [n, 2] width and height of the pictures in pixels.
      windows: n crops; those of frames without an outline are only roughly known.
      outlines: n sets of points about the head in pixels, None where there is none.

    Returns:
      n windows; those of frames with an outline are as they were.

    Raises:
      InputError: if OpenCV is not installed.
    """
    cv2 = opencv()
    known = np.array([outline is not None for outline in outlines])
    result = list(windows)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], known, [True]]).astype(int)))
    for first, after in edges.reshape(-1, 2):
        ahead, behind = ([], [])
        if first > 0:
            steps = list(range(first - 1, after))
            ahead = _walk(cv2, grays, sizes, (windows[first - 1], outlines[first - 1]), steps)
        if after < len(known):
            steps = list(range(after, first - 1, -1))
            behind = _walk(cv2, grays, sizes, (windows[after], outlines[after]), steps)[::-1]
        for k, i in enumerate(range(first, after)):
            result[i] = _between(ahead, behind, k, (k + 1) / (after - first + 1))
    return result


def triangulate(
    tracks: Tracks,
    tangents: np.ndarray,
    poses: Poses,
    used: np.ndarray,
    wanted: np.ndarray | None = None,
    *,
    reach: float = _REACH,
) -> tuple[np.ndarray, np.ndarray]:
    """Find where tracked points are, by the rays of the frames whose pose is known.

    Args:
      tracks: sightings.
      tangents: [N, 2] of the sightings, in the cameras of their frames' windows.
      poses: of all frames.
      used: [n] bool, which frames' poses are known.
      wanted: [M] bool, which points; all if not given. The others are none that are known.
      reach: pixels of a window of 512; rays that miss by more lose their hold, and a point that is
        missed by more on average is not known.

    Returns:
      points [M, 3] in the world, and which of them are known well, bool [M].
    """
    of_use = used[tracks.frame] if wanted is None else used[tracks.frame] & wanted[tracks.point]
    seen = np.flatnonzero(of_use)
    # Only points that are seen are worked on: mostly these are few of all.
    number = np.bincount(tracks.point[seen], minlength=tracks.count)
    names = np.flatnonzero(number)
    count, number = len(names), number[names]
    position = np.zeros(tracks.count, int)
    position[names] = np.arange(count)
    frame, point = tracks.frame[seen], position[tracks.point[seen]]
    cam2world = poses.cam2world
    rays = np.concatenate([tangents[seen], np.ones((len(seen), 1))], -1)
    rays = np.einsum("kij,kj->ki", cam2world[frame, :3, :3], rays)
    rays /= np.sqrt(_dot(rays, rays))[:, None]
    origins = cam2world[frame, :3, 3]
    # Across a ray r, of a vector v, is v - r (r v).
    squares = rays[:, _ROWS] * rays[:, _COLUMNS]
    targets = origins - rays * _dot(rays, origins)[:, None]
    hold = np.ones(len(seen))
    places = np.zeros((count, 3))
    off = np.zeros(len(seen))
    for _ in range(4):
        held = sum_by(point, hold, count)
        normal = np.empty((count, 3, 3))
        normal[:, _ROWS, _COLUMNS] = -sum_by(point, hold[:, None] * squares, count)
        normal[:, _COLUMNS, _ROWS] = normal[:, _ROWS, _COLUMNS]
        normal += (held[:, None, None] + 1e-9) * np.eye(3)
        pull = sum_by(point, hold[:, None] * targets, count)
        places = np.linalg.solve(normal, pull[..., None])[..., 0]
        gap = places[point] - origins
        gap -= rays * _dot(rays, gap)[:, None]
        # Distances across rays are turned to pixels of a window of 512.
        off = PIXELS * np.sqrt(_dot(gap, gap)) / RADIUS
        hold = 1 / (1 + (off / reach) ** 2)
    mean = sum_by(point, rays, count)
    mean /= np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-12)
    apart = np.zeros(count)
    np.maximum.at(apart, point, np.arccos(np.clip(_dot(rays, mean[point]), -1, 1)))
    error = sum_by(point, np.minimum(off, 3 * reach), count) / number
    good = (number >= _FEWEST_FRAMES) & (apart > _SPAN / 2) & (error < reach)
    good &= np.linalg.norm((places - HEAD_MIDDLE) / HEAD_RADII, axis=-1) < 1
    points, known = np.zeros((tracks.count, 3)), np.zeros(tracks.count, bool)
    points[names], known[names] = places, good
    return points, known


def pose_from_points(
    points: np.ndarray, tangents: np.ndarray, rotation: np.ndarray, translation: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit a camera to points by robust Gauss-Newton steps.

    Args:
      points: [N, 3] in the world.
      tangents: [N, 2] where the picture shows them.
      rotation: [3, 3] of the world in the camera, to start from.
      translation: [3], likewise.

    Returns:
      Rotation, translation and the residuals [N] in pixels of a window of 512.
    """
    # From a start that lies off, all points do: the reach begins wide.
    for reach in (16.0, 8.0, 4.0, _REACH, _REACH, _REACH, _REACH):
        turned = points @ rotation.T
        camera = turned + translation
        slopes = PIXELS * pose_slopes(turned, camera)
        error = PIXELS * (camera[:, :2] / camera[:, 2:] - tangents)
        hold = 1 / (1 + (error**2).sum(-1) / reach**2)
        weighted = (slopes * hold[:, None, None]).reshape(-1, 6)
        normal = weighted.T @ slopes.reshape(-1, 6)
        damped = normal + 1e-6 * np.diag(np.diag(normal)) + 1e-9 * np.eye(6)
        change = -np.linalg.solve(damped, weighted.T @ error.ravel())
        rotation = turn(change[:3]) @ rotation
        translation = translation + change[3:]
    camera = points @ rotation.T + translation
    error = PIXELS * (camera[:, :2] / camera[:, 2:] - tangents)
    return rotation, translation, np.linalg.norm(error, axis=-1)


def pose_slopes(turned: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """Change [N, 2, 6] of tangents with turns and shifts of cameras.

    The turn comes after the pose's own rotation.

    Args:
      turned: [N, 3] points turned to the cameras' axes.
      camera: [N, 3] points in the cameras.
    """
    slopes = np.zeros((len(camera), 2, 6))
    inverse = 1 / camera[:, 2]
    a, b, c = turned.T
    slopes[:, 0, 3] = slopes[:, 1, 4] = inverse
    slopes[:, 0, 5], slopes[:, 1, 5] = -camera[:, 0] * inverse**2, -camera[:, 1] * inverse**2
    # A turn by w moves a point p by w x p: a row r of the slopes with p becomes p x r.
    for row in range(2):
        x, y, z = slopes[:, row, 3:].T
        slopes[:, row, 0] = b * z - c * y
        slopes[:, row, 1] = c * x - a * z
        slopes[:, row, 2] = a * y - b * x
    return slopes


def carry_on(
    tracks: Tracks, tangents: np.ndarray, poses: Poses, used: np.ndarray
) -> tuple[Poses, np.ndarray]:
    """Carry poses on from frames where they are known to their neighbours, by tracked points.

    Args:
      tracks: sightings.
      tangents: [N, 2] of the sightings.
      poses: of n frames.
      used: [n] bool, which of them are known.

    Returns:
      Poses, and which are known now; the others are as they were.
    """
    rotation = np.array(poses.rotation, np.float64)
    translation = np.array(poses.translation, np.float64)
    used = used.copy()
    count = len(used)
    rows = np.searchsorted(tracks.frame, np.arange(count + 1))
    failed = np.zeros(count, bool)

    def now() -> Poses:
        return Poses(
            rotation=rotation, translation=translation, coefficients=np.asarray(poses.coefficients)
        )

    points, known = triangulate(tracks, tangents, now(), used)
    passes = 0
    while True:
        beside = np.zeros(count, bool)
        beside[1:] |= used[:-1]
        beside[:-1] |= used[1:]
        border = np.flatnonzero(beside & ~used & ~failed)
        if not len(border):
            return now(), used
        fresh = np.zeros(tracks.count, bool)
        for i in border:
            here = np.arange(rows[i], rows[i + 1])
            here = here[known[tracks.point[here]]]
            neighbour = i - 1 if i and used[i - 1] else i + 1
            failed[i] = True
            if len(here) < _FEWEST_POINTS:
                continue
            place = points[tracks.point[here]]
            start = rotation[neighbour], translation[neighbour]
            *pose, off = pose_from_points(place, tangents[here], *start)
            agree = off < 2 * _REACH
            if (
                agree.sum() >= max(_FEWEST_POINTS, _FEWEST_SHARE * len(here))
                and angle_between(pose[0], start[0]) < MOST_TURN
            ):
                rotation[i], translation[i] = pose
                used[i] = True
                fresh[tracks.point[rows[i] : rows[i + 1]]] = True
        if used[border].any():
            # Frames reached see points that no trusted frame saw; others may be reached by those.
            # Those known already gain little by a frame more: they are found anew now and then.
            failed[:] = False
            if passes % _PASSES_KEPT:
                fresh &= ~known
            passes += 1
            found, found_known = triangulate(tracks, tangents, now(), used, fresh)
            points[fresh], known[fresh] = found[fresh], found_known[fresh]


def head_outline() -> np.ndarray:
    """Points [P, 3] on the ellipsoid within the head in which corners are looked for."""
    turns, heights = np.meshgrid(np.linspace(0, 2 * np.pi, 17)[:-1], np.linspace(-1, 1, 9))
    ring = np.sqrt(1 - heights**2)
    directions = np.stack([ring * np.cos(turns), heights, ring * np.sin(turns)], -1)
    return HEAD_MIDDLE + HEAD_CORE * directions.reshape(-1, 3)


def angle_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Radians [*] between rotations [*, 3, 3]."""
    chord = np.linalg.norm(a - b, axis=(-2, -1)) / np.sqrt(8)
    return 2 * np.arcsin(np.minimum(chord, 1))


def turn(vector: np.ndarray) -> np.ndarray:
    """Rotation matrices [*, 3, 3] of rotation vectors [*, 3]."""
    angle = np.sqrt((vector**2).sum(-1))[..., None, None]
    cross = np.zeros((*vector.shape, 3))
    cross[..., 0, 1], cross[..., 0, 2] = -vector[..., 2], vector[..., 1]
    cross[..., 1, 0], cross[..., 1, 2] = vector[..., 2], -vector[..., 0]
    cross[..., 2, 0], cross[..., 2, 1] = -vector[..., 1], vector[..., 0]
    safe = np.maximum(angle, 1e-12)
    return np.eye(3) + np.sin(angle) / safe * cross + (1 - np.cos(angle)) / safe**2 * cross @ cross


def opencv(needed_for: str = "tracking points", or_else: str = "leave tracking out"):
    """OpenCV's module.

    Args:
      needed_for: what it is wanted for; said by the error.
      or_else: what may be done without it, likewise.

    Raises:
      InputError: if it is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise InputError(
            f"{needed_for} needs OpenCV: pip install 'eg3d-jax[footage]', or {or_else}"
        ) from error
    return cv2


def _flow(cv2, before, after, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where points [N, 2] go from one crop to the next, and which of them come back, bool [N]."""
    options = {
        "winSize": _FLOW_WINDOW,
        "maxLevel": _FLOW_LEVELS,
        "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.02),
        "minEigThreshold": 1e-4,
    }
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, **options)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, **options)
    kept = (np.ravel(found) > 0) & (np.ravel(found_back) > 0)
    kept &= np.linalg.norm(back - points, axis=-1) < _BACK
    return there, kept & ((there > 2) & (there < len(after) - 3)).all(-1)


def _walk(cv2, grays, sizes, start, steps: list[int]) -> list[Window]:
    """Windows of frames steps[1:], each moved as the face's points move from the one before."""
    window, outline = start
    placed = (outline - window.center) / window.side
    middle = (placed.min(0) + placed.max(0)) / 2
    hull = middle + _INNER * (placed - middle)
    windows = []
    for i, j in pairwise(steps):
        # Half as large is fine enough for a window.
        before, after, mask = (
            cv2.resize(picture, (_SIZE // 2, _SIZE // 2), interpolation=cv2.INTER_AREA)
            for picture in (
                crop_of(cv2, grays[i], sizes[i], window).picture,
                crop_of(cv2, grays[j], sizes[j], window).picture,
                _hull_mask(cv2, hull),
            )
        )
        step = 2 * _MARGIN * window.side / _SIZE
        points = cv2.goodFeaturesToTrack(before, 150, _QUALITY, _SPACING, mask=mask)
        if points is not None:
            points = points.reshape(-1, 2)
            there, kept = _flow(cv2, before, after, points)
            if kept.sum() >= _FEWEST_POINTS:
                shift = np.median(there[kept] - points[kept], axis=0)
                spread = [np.linalg.norm(p - np.median(p, 0), axis=-1) for p in (points, there)]
                ratio = np.median(spread[1][kept] / np.maximum(spread[0][kept], 1.0))
                window = Window(
                    center=window.center + shift * step,
                    side=window.side * float(np.clip(ratio, 0.98, 1.02)),
                )
        windows.append(window)
    return windows


def _between(ahead: list[Window], behind: list[Window], k: int, part: float) -> Window:
    """The k-th window of a gap, from those of both ends; where one is missing, of the other."""
    if not ahead or not behind:
        return (ahead or behind)[k]
    sides = (1 - part) * np.log(ahead[k].side) + part * np.log(behind[k].side)
    center = (1 - part) * ahead[k].center + part * behind[k].center
    return Window(center=center, side=float(np.exp(sides)))


@dataclass(frozen=True)
class Crop:
    """A picture to track in.

    Attributes:
      picture: uint8 [S, S].
      origin: [2] pixels of the whole picture at its corner.
      step: of its pixels, in pixels of the whole picture.
    """

    picture: np.ndarray
    origin: np.ndarray
    step: float

    def to_picture(self, indices: np.ndarray) -> np.ndarray:
        """Pixels [..., 2] of the whole picture from indices of the crop, x first."""
        return self.origin + (np.asarray(indices, np.float64) + 0.5) * self.step

    def from_picture(self, pixels: np.ndarray) -> np.ndarray:
        """Indices [..., 2] of the crop from pixels of the whole picture."""
        return (pixels - self.origin) / self.step - 0.5


def crop_of(cv2, gray: np.ndarray, size: np.ndarray, window: Window) -> Crop:
    """Cut out of a picture uint8 [h, w], of a whole one of `size` pixels, what shows a window."""
    step = _MARGIN * window.side / _SIZE
    origin = window.center - _MARGIN * window.side / 2
    scale = np.array([gray.shape[1], gray.shape[0]]) / size
    # From indices of the crop to indices of the gray picture; pixel centres lie at +.5.
    matrix = np.zeros((2, 3))
    matrix[0, 0], matrix[1, 1] = step * scale
    matrix[:, 2] = (origin + 0.5 * step) * scale - 0.5
    reduction = float(step * scale.max())
    if reduction > 1.5:
        gray = cv2.GaussianBlur(gray, (0, 0), 0.4 * reduction)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    picture = cv2.warpAffine(
        gray, matrix, (_SIZE, _SIZE), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return Crop(picture, origin, step)


def _masks(cv2, windows, outlines) -> list[np.ndarray]:
    """Where corners are looked for in each frame: within the outline."""
    known = np.array([i for i, outline in enumerate(outlines) if outline is not None])
    masks = []
    for i in range(len(windows)):
        nearest = known[np.abs(known - i).argmin()]
        placed = (outlines[nearest] - windows[nearest].center) / windows[nearest].side
        masks.append(_hull_mask(cv2, placed))
    return masks


def _hull_mask(cv2, placed: np.ndarray) -> np.ndarray:
    """Mask of the hull of points [P, 2], in sides of the window from its middle."""
    mask = np.zeros((_SIZE, _SIZE), np.uint8)
    hull = cv2.convexHull(((placed / _MARGIN + 0.5) * _SIZE).astype(np.float32))
    return cv2.fillConvexPoly(mask, np.rint(hull).astype(np.int32), 255)


def _longer_than_one(frame, point, pixels, count) -> Tracks:
    number = np.bincount(point, minlength=count)
    kept = number[point] > 1
    names, point = np.unique(point[kept], return_inverse=True)
    return Tracks(frame=frame[kept], point=point, pixels=pixels[kept], count=len(names))


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("ki,ki->k", a, b)


def sum_by(index: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Sums [count, ...] of values [N, ...] that share an index."""
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    columns = [np.bincount(index, column, minlength=count) for column in flat.T]
    if not columns or not len(index):
        return np.zeros((count, *values.shape[1:]))
    return np.stack(columns, -1).reshape(count, *values.shape[1:])
