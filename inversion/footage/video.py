"""Poses of a video: tracked points, landmarks and the lens brought together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eg3d_jax.cameras import FFHQ_FOCAL
from inversion.footage.adjustment import Anchors, Sightings, Zoom, adjust
from inversion.footage.face_model import FaceModel
from inversion.footage.joint import (
    REACH,
    THINNING,
    Faces,
    expressions_at,
    faces,
    fit_shape,
    landmark_weights,
    onto_mean_face,
)
from inversion.footage.lenses import Lens
from inversion.footage.patches import find_again
from inversion.footage.poses import PIXELS, Observed, Poses, fit_poses, move_poses
from inversion.footage.tracking import MOST_TURN, Tracks, angle_between, carry_on, triangulate
from inversion.footage.windows import Window

# Landmarks are believed up to this yaw, and lose all their weight within so many degrees more,
# where tracked points hold a frame.
BELIEVED_YAW, _DOUBTED_RANGE = 30.0, 20.0
# Of a head that is never turned so near to the camera, those of the tenth of the frames that is
# turned least are believed, at most so many frames, and of others up to so many degrees more.
_LEAST_TURNED, _BELIEVED_RANGE = 10, 12.0
# Deviation of a tracked point, and what is added of its own distance from where it should be: what
# moves by itself, as a mouth does, is off in all frames. Pixels of a window of 512, as is the
# distance from which a sighting loses its hold, and that from which it tells nothing of its point.
_SIGMA, _OWN_SHARE, _REACH, _FARTHEST = 0.25, 0.35, 2.0, 6.0
_WIDER = 4.0  # the reach in the first adjustment, in parts of that
_MOST_KEYFRAMES = 80
_FEWEST_POINTS = 12  # that tie the frames together; with fewer, landmarks alone are used
_FIRST_STEPS, _STEPS = 4, 6  # of adjustments that another follows, and of the last
_FIRST_DAMPING, _DAMPING = 1e-4, 1e-7  # of the first adjustment, and of those after it
_MOST_POINTS = 256  # of a frame, in its last fit
# Deviation of a focal length's logarithm from that of EG3D's cameras.
_FOCAL_DEVIATION = 0.5


@dataclass(frozen=True, kw_only=True)
class Frames:
    """What is known of the n frames of a video.

    Attributes:
      landmarks: [n, 468, 3] pixels; zero where a frame has none.
      has_landmarks: [n] bool.
      sizes: [n, 2] width and height, pixels.
      windows: n crops about the head.
      tracks: points followed through the frames.
      grays: n pictures in grey, to look at again.
      believed: degrees of yaw up to which landmarks are believed.
    """

    landmarks: np.ndarray
    has_landmarks: np.ndarray
    sizes: np.ndarray
    windows: list[Window]
    tracks: Tracks
    grays: Sequence[np.ndarray]
    believed: float = BELIEVED_YAW

    def belief(self, poses: Poses) -> np.ndarray:
        """Weight [m] of the landmarks of m poses by their yaw, 0 to 1."""
        return np.clip(1 + (self.believed - np.abs(poses.yaw)) / _DOUBTED_RANGE, 0, 1)


def believed_yaw(yaw: np.ndarray) -> float:
    """Degrees up to which landmarks of frames of yaw [m] are believed.

    A head that is never turned to the camera is found from the frames turned least.
    """
    count = min(_LEAST_TURNED, -(-len(yaw) // 10))
    least = float(np.sort(np.abs(yaw))[:count].max(initial=0.0))
    return BELIEVED_YAW if least < BELIEVED_YAW else least + _BELIEVED_RANGE


@dataclass(frozen=True, kw_only=True)
class Filmed:
    """Poses of n frames, in cameras of the lens.

    Attributes:
      lens: with cameras that look into the frames' windows.
      faces: poses of all frames, and the face; of frames not reached they mean nothing unless the
        frame has landmarks.
      reached: [n] bool, which of them tracked points hold.
      residual: [n] median distance of tracked points from where they should be, pixels of a window
        of 512; NaN of frames not reached.
    """

    lens: Lens
    faces: Faces
    reached: np.ndarray
    residual: np.ndarray


def solve_video(
    model: FaceModel,
    frames: Frames,
    start: Faces,
    report: Callable[[float], None],
    *,
    num_rounds: int = 4,
) -> Filmed:
    """Carry poses on by tracked points, and adjust all of them together.

    Args:
      model: the face.
      frames: what is known.
      start: poses of all frames in EG3D's cameras of the windows, and the face. Of frames without
        landmarks they are not used.
      report: called with the part done.
      num_rounds: of the adjustment; in between it is found anew which points agree, and from the
        second on where they are in all pictures.
    """
    lens = Lens(
        focal=_usual_focal(frames),
        middle=frames.sizes / 2,
        centers=np.stack([window.center for window in frames.windows]),
        sides=np.array([window.side for window in frames.windows]),
    )
    poses, shape = start.poses, start.shape
    # EG3D's cameras stand at one distance from the head; those of one lens do not.
    translation = np.array(poses.translation)
    translation[:, 2] *= lens.pixels / PIXELS
    poses = replace(poses, translation=translation)
    reached = frames.has_landmarks & (np.abs(poses.yaw) < frames.believed)
    tracks = frames.tracks
    seen = lens.tangents(tracks.pixels, tracks.frame)
    poses, reached = carry_on(tracks, seen, poses, reached)
    report(0.2)
    if triangulate(tracks, seen, poses, reached)[1].sum() < _FEWEST_POINTS:
        reached = np.zeros_like(reached)
        nothing = np.zeros((tracks.count, 3)), np.zeros(tracks.count, bool), seen
        poses = _fit_frames(model, frames, lens, shape, poses, reached, nothing)
        return Filmed(
            lens=lens,
            faces=Faces(poses=poses, shape=shape),
            reached=reached,
            residual=np.full(len(reached), np.nan),
        )
    for round_ in range(num_rounds):
        keyframes = _keyframes(reached)
        # Where chains from two sides meet they may be degrees apart: at first far points pull, too.
        reach = _REACH * max(1.0, _WIDER * 0.5**round_)
        num_steps = _STEPS if round_ == num_rounds - 1 else _FIRST_STEPS
        damping = _DAMPING if round_ else _FIRST_DAMPING
        poses, lens, points, known = _adjust(
            model, frames, lens, shape, poses, (keyframes, reach, num_steps, damping)
        )
        belief = frames.has_landmarks[keyframes] * frames.belief(poses[keyframes])
        believed = keyframes[belief > 0]
        if len(believed):
            poses, shape, points = _update_face(model, frames, lens, shape, poses, believed, points)
        report(0.2 + 0.8 * (round_ + 1) / num_rounds)
        between = 0 < round_ < num_rounds - 1
        # Until the last of these, keyframes are all that the next adjustment asks for.
        early = between and round_ < num_rounds - 2
        if not (early and reached.all()):
            seen = lens.tangents(tracks.pixels, tracks.frame)
            poses = _fit_frames(model, frames, lens, shape, poses, reached, (points, known, seen))
            reached = _without_jumps(frames, poses, reached)
            if not reached.all():
                poses, reached = carry_on(tracks, seen, poses, reached)
        if between:
            asked = np.isin(np.arange(len(reached)), keyframes) if early else reached
            pictures = frames.grays, frames.sizes, frames.windows
            tracks = find_again(pictures, tracks, lens, poses, reached & asked)
            frames = replace(frames, tracks=tracks)
    sighted = (*triangulate(tracks, seen, poses, reached), seen)
    residual = _residual(lens, tracks, sighted, poses, reached)
    return Filmed(
        lens=lens, faces=Faces(poses=poses, shape=shape), reached=reached, residual=residual
    )


def _usual_focal(frames: Frames) -> float:
    """Focal length of EG3D's cameras of the windows, pixels."""
    return FFHQ_FOCAL * float(np.median([window.side for window in frames.windows]))


def _without_jumps(frames: Frames, poses: Poses, reached: np.ndarray) -> np.ndarray:
    """Which frames are reached without a turn that nothing could be tracked through.

    A chain of frames that a jump cuts off from all believed landmarks has lost the head.
    """
    known = np.flatnonzero(reached)
    if not len(known):
        return reached
    rotation = np.asarray(poses.rotation)[known]
    cut = (angle_between(rotation[1:], rotation[:-1]) > MOST_TURN) & (np.diff(known) == 1)
    chain = np.concatenate([[0], np.cumsum(cut)])
    believed = frames.has_landmarks[known] & (np.abs(poses[known].yaw) < frames.believed)
    held = np.bincount(chain, believed) > 0
    result = reached.copy()
    result[known[~held[chain]]] = False
    return result


def _keyframes(reached: np.ndarray) -> np.ndarray:
    """Indices of the frames that are adjusted together, spread over those that are reached."""
    known = np.flatnonzero(reached)
    chosen = np.linspace(0, len(known) - 1, min(len(known), _MOST_KEYFRAMES))
    return known[np.unique(np.rint(chosen).astype(int))]


def _adjust(
    model: FaceModel,
    frames: Frames,
    lens: Lens,
    shape: np.ndarray,
    poses: Poses,
    adjusted_with: tuple[np.ndarray, float, int, float],
) -> tuple[Poses, Lens, np.ndarray, np.ndarray]:
    """Adjust keyframes by points of some reach, in damped steps: poses, lens, points, known."""
    keyframes, reach, num_steps, damping = adjusted_with
    tracks, count = frames.tracks, len(frames.sizes)
    position = np.full(count, -1)
    position[keyframes] = np.arange(len(keyframes))
    seen = lens.tangents(tracks.pixels, tracks.frame)
    points, known = triangulate(tracks, seen, poses, position >= 0, reach=reach)
    chosen = known[tracks.point] & (position[tracks.frame] >= 0)
    names, point = np.unique(tracks.point[chosen], return_inverse=True)
    number = int(chosen.sum())
    sightings = Sightings(
        frame=position[tracks.frame[chosen]],
        point=point,
        tangents=seen[chosen],
        weights=_weights(lens, tracks, (points, chosen, seen), poses),
        reach=np.full(number, reach),
    )
    inside = poses[keyframes]
    weights = landmark_weights(model, shape, inside)
    weights = weights * (frames.has_landmarks[keyframes] * frames.belief(inside))[:, None]
    # Neighbouring landmarks err together: some of them, with the weight of all, tell as much.
    thinned = np.zeros(weights.shape[1])
    thinned[::THINNING] = THINNING
    weights = weights * thinned
    used = weights > 1e-3 * weights.max(initial=0.0)
    frame, place = np.nonzero(used)
    anchors = Anchors(
        frame=frame,
        points=faces(model, shape, inside)[used],
        tangents=lens.tangents(frames.landmarks[keyframes[frame], place, :2], keyframes[frame]),
        weights=weights[used],
        reach=np.full(len(frame), REACH),
    )
    zoom = Zoom(
        pixels=lens.pixels[keyframes],
        expected=np.log(_usual_focal(frames) / lens.focal),
        weight=1 / _FOCAL_DEVIATION**2,
    )
    adjusted, points[names], factor = adjust(
        inside, points[names], sightings, anchors, zoom, num_steps=num_steps, damping=damping
    )
    rotation, translation = np.array(poses.rotation), np.array(poses.translation)
    rotation[keyframes], translation[keyframes] = adjusted.rotation, adjusted.translation
    others = np.setdiff1d(np.arange(count), keyframes)
    translation[others, 2] *= factor
    # The adjustment scales tangents by the factor; the lens does so itself from now on.
    lens = replace(lens, focal=lens.focal * factor)
    return replace(poses, rotation=rotation, translation=translation), lens, points, known


def _update_face(
    model: FaceModel,
    frames: Frames,
    lens: Lens,
    shape: np.ndarray,
    poses: Poses,
    believed: np.ndarray,
    points: np.ndarray,
) -> tuple[Poses, np.ndarray, np.ndarray]:
    """Fit expressions and the shape to the landmarks, and bring the face onto the mean one."""
    seen, unit = _landmark_tangents(frames, lens, believed), lens.pixels[believed]
    inside = poses[believed]
    coefficients = np.array(poses.coefficients, np.float64)
    coefficients[believed] = expressions_at(model, shape, seen, inside, unit)
    poses = replace(poses, coefficients=coefficients)
    shape = fit_shape(model, shape, seen, poses[believed], (frames.belief(inside), unit))
    scale, rotation, shift = onto_mean_face(model, shape)
    shape, points = (scale * p @ rotation.T + shift for p in (shape, points))
    return move_poses(poses, scale, rotation, shift), shape, points


def _fit_frames(
    model: FaceModel,
    frames: Frames,
    lens: Lens,
    shape: np.ndarray,
    poses: Poses,
    reached: np.ndarray,
    sighted: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> Poses:
    """Fit each frame to its landmarks and tracked points, which stay where they are."""
    points, known, seen = sighted
    count = len(frames.sizes)
    thinned = slice(None, None, THINNING)
    size = len(shape[thinned])
    # Frames that tracked points do not hold have nothing but their landmarks.
    belief = np.where(reached, frames.belief(poses), 1.0) * frames.has_landmarks
    unit = (lens.pixels / PIXELS)[:, None]
    place = np.tile(shape[thinned], (count, 1, 1))
    rest = np.zeros((count, _MOST_POINTS, 3)) + model.points[0]
    tangents = np.zeros((count, _MOST_POINTS, 2))
    weights = np.zeros((count, _MOST_POINTS))
    tracks = frames.tracks
    rows = np.searchsorted(tracks.frame, np.arange(count + 1))
    of_use = known[tracks.point] & reached[tracks.frame]
    hold = np.zeros(len(of_use))
    hold[of_use] = _weights(lens, tracks, (points, of_use, seen), poses)
    for i in np.flatnonzero(reached):
        here = np.arange(rows[i], rows[i + 1])
        here = here[of_use[here]][:_MOST_POINTS]
        rest[i, : len(here)] = points[tracks.point[here]]
        tangents[i, : len(here)] = seen[here]
        weights[i, : len(here)] = hold[here]
    of_landmarks = landmark_weights(model, shape, poses)[:, thinned] * THINNING * belief[:, None]
    of_face = _landmark_tangents(frames, lens, np.arange(count))[:, thinned]
    observed = Observed(
        points=np.concatenate([place, rest], 1),
        tangents=np.concatenate([of_face, tangents], 1),
        weights=np.concatenate([of_landmarks, weights], 1) * unit**2,
        reach=np.repeat([REACH, _REACH], [size, _MOST_POINTS]) / unit,
    )
    basis = np.pad(model.expressions[:, thinned], [(0, 0), (0, _MOST_POINTS), (0, 0)])
    return fit_poses(poses, observed, basis, num_steps=5)


def _residual(
    lens: Lens,
    tracks: Tracks,
    sighted: tuple[np.ndarray, np.ndarray, np.ndarray],
    poses: Poses,
    reached: np.ndarray,
) -> np.ndarray:
    points, known, seen = sighted
    result = np.full(len(reached), np.nan)
    chosen = known[tracks.point] & reached[tracks.frame]
    frame = tracks.frame[chosen]
    off = _distances(lens, tracks, (points, chosen, seen), poses)
    rows = np.searchsorted(frame, np.arange(len(reached) + 1))
    for i in np.flatnonzero(np.diff(rows)):
        result[i] = np.median(off[rows[i] : rows[i + 1]])
    return result


def _distances(
    lens: Lens, tracks: Tracks, sighted: tuple[np.ndarray, np.ndarray, np.ndarray], poses: Poses
) -> np.ndarray:
    """Pixels [K] of a window of 512 between points and sightings: points, which of them, seen."""
    points, chosen, seen = sighted
    frame = tracks.frame[chosen]
    camera = np.asarray(poses.rotation)[frame] @ points[tracks.point[chosen], :, None]
    camera = camera[..., 0] + np.asarray(poses.translation)[frame]
    off = np.linalg.norm(camera[:, :2] / camera[:, 2:] - seen[chosen], axis=-1)
    return off * lens.pixels[frame]


def _weights(
    lens: Lens, tracks: Tracks, sighted: tuple[np.ndarray, np.ndarray, np.ndarray], poses: Poses
) -> np.ndarray:
    """Inverse variances [K] of sightings, the same for all of a point; see `_distances`."""
    point = tracks.point[sighted[1]]
    square = np.minimum(_distances(lens, tracks, sighted, poses), _FARTHEST) ** 2
    number = np.maximum(np.bincount(point, minlength=tracks.count), 1)
    own = np.bincount(point, square, minlength=tracks.count) / number
    return 1 / (_SIGMA**2 + _OWN_SHARE**2 * own[point])


def _landmark_tangents(frames: Frames, lens: Lens, chosen: np.ndarray) -> np.ndarray:
    """Tangents [m, 468, 2] of the landmarks of frames [m]."""
    pixels = frames.landmarks[chosen, :, :2]
    frame = np.repeat(chosen, pixels.shape[1])
    return lens.tangents(pixels.reshape(-1, 2), frame).reshape(pixels.shape)
