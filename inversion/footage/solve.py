"""From landmarks to cameras and windows: what `prepare` does between reading and writing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from eg3d_jax.cameras import FFHQ_FOCAL
from eg3d_jax.errors import InputError
from inversion.camera_refinement.motion import CameraPrior
from inversion.camera_refinement.smoothing import smooth_poses
from inversion.footage.face_model import FaceModel, load_face_model
from inversion.footage.joint import (
    THINNING,
    Faces,
    faces,
    fit_expressions,
    fit_joint,
    fit_single,
)
from inversion.footage.landmarks import Landmarks
from inversion.footage.lenses import as_eg3d, consistent
from inversion.footage.poses import PIXELS, Poses, first_poses, project
from inversion.footage.tracking import follow, head_outline, track_points
from inversion.footage.video import Filmed, Frames, believed_yaw, solve_video
from inversion.footage.windows import (
    RADIUS,
    Window,
    consistent_windows,
    smooth,
    smooth_windows,
    to_pixels,
    to_tangents,
)

# Photos of a person fewer than this tell less of the shape than the basis does.
_FEWEST_JOINT = 4
# Landmarks are trusted with the shape up to this yaw, and kept as a pose up to the second.
_TRUSTED_YAW, _KEPT_YAW = 40.0, 55.0
_MOST_ROUGH = 32  # frames that a first shape is fitted to, before points are tracked
# Windows of a video are smoothed with this weight of their second differences.
_WINDOW_STRENGTH = 30.0
# Smoothing of a video's cameras moves the face by no more in nine of ten frames, pixels of 512.
_MOST_MOVED = 2.0


@dataclass(frozen=True)
class Observation:
    """What one picture says.

    Attributes:
      landmarks: None where no face was found, or what was found is not to be used; in a video the
        picture may still be reached by tracking.
      height: pixels of the picture.
      width: pixels of the picture.
      gray: uint8 [h, w] of a frame of a video, at the picture's proportions but possibly smaller;
        None for photos.
    """

    landmarks: Landmarks | None
    height: int
    width: int
    gray: np.ndarray | None = None


@dataclass(frozen=True)
class Solved:
    """Cameras of n pictures.

    Attributes:
      cam2world: float64 [n, 4, 4] in EG3D's world; NaN where nothing was found.
      windows: n square crops; None where nothing was found. The camera of a label is that of the
        window: its focal length is 4.2647 sides, its axis goes through the middle.
      residual: [n] median distance of landmarks from the projected face, or, where tracked points
        hold a frame, of those; pixels of a window of 512, NaN where nothing was found.
      source: n of "landmarks", "tracked", "none".
      shape: [468, 3] the person's face in the world, without expression.
      points: [n, 468, 2] the face with its expression, projected into whole pictures, pixels; NaN
        where nothing was found.
    """

    cam2world: np.ndarray
    windows: list[Window | None]
    residual: np.ndarray
    source: list[str]
    shape: np.ndarray
    points: np.ndarray


def solve(
    observations: Sequence[Observation],
    *,
    video: bool,
    track: bool = True,
    progress: Callable[[float], None] | None = None,
) -> Solved:
    """Find cameras and windows of pictures of one person.

    Four photos or more share one face, as frames of a video do; fewer are taken by themselves.
    Frames of a video get windows that move smoothly.

    Args:
      observations: n pictures; of a video in time order, without gaps of more than a few degrees.
      video: whether they follow each other in time.
      track: whether frames that landmarks do not reach are reached by points tracked in `gray`.
      progress: called with the part done, 0 to 1.

    Returns:
      Cameras; NaN and None throughout where no picture has landmarks.

    Raises:
      InputError: if points are to be tracked and a frame lacks `gray`, or OpenCV is not installed.
    """
    tracked = video and track and len(observations) > 1
    if tracked:
        _check_grays(observations)
    model = load_face_model()
    found = np.flatnonzero([o.landmarks is not None for o in observations])
    report = progress or (lambda part: None)
    if not len(found):
        return _nothing(len(observations), model)
    landmarks = np.stack(
        [o.landmarks.points for o in observations if o.landmarks is not None]
    ).astype(np.float64)
    windows, single = first_windows(model, landmarks)
    report(0.1)
    if video or len(found) >= _FEWEST_JOINT:
        found_faces, windows = _solve_jointly(
            model, landmarks, windows, single, video=video, rough=tracked
        )
        if tracked:
            report(0.2)
            solved = _solve_tracked(
                model, observations, (found, landmarks), (found_faces, windows), report
            )
            return replace(solved, cam2world=steady(solved.cam2world, solved.shape))
    else:
        shapes = np.asarray(single.coefficients)[:, : len(model.shapes)]
        shape = model.points + np.tensordot(shapes.mean(0), model.shapes, 1)
        found_faces = Faces(poses=single, shape=shape)
    report(1.0)
    solved = _assemble(model, found_faces, windows, landmarks, found, len(observations))
    return replace(solved, cam2world=steady(solved.cam2world, solved.shape)) if video else solved


def _check_grays(observations: Sequence[Observation]) -> None:
    lacking = [i for i, one in enumerate(observations) if one.gray is None]
    if lacking:
        raise InputError(
            f"frame {lacking[0]} of {len(observations)} has no gray picture (nor have "
            f"{len(lacking) - 1} others), so that points cannot be tracked through the video: give "
            "gray for every frame, or track=False, to go by landmarks alone"
        )


def first_windows(model: FaceModel, landmarks: np.ndarray) -> tuple[list[Window], Poses]:
    """Find consistent windows and poses of pictures, each by itself.

    Args:
      model: the face.
      landmarks: [n, 468, 3] pixels of whole pictures.

    Returns:
      n windows, and n poses in them with coefficients of shape and expression.
    """
    low, high = landmarks[..., :2].min(1), landmarks[..., :2].max(1)
    windows = [
        Window(center=(a + b) / 2, side=float(2 * np.max(b - a)))
        for a, b in zip(low, high, strict=True)
    ]
    # A similarity is enough to bring the windows to within some percent.
    rough = first_poses(model.points, to_tangents(landmarks, windows), model.weights, 0)
    windows = consistent_windows(rough, windows)
    poses = None
    for _ in range(3):
        tangents = to_tangents(landmarks, windows)
        poses = fit_single(model, tangents, poses, num_steps=12 if poses is None else 4)
        windows, before = consistent_windows(poses, windows), windows
        poses = move_into(poses, before, windows)
    return windows, fit_single(model, to_tangents(landmarks, windows), poses, num_steps=4)


def move_into(poses: Poses, before: list[Window], after: list[Window]) -> Poses:
    """Poses in other windows of the same pictures that look nearly alike: a start for fitting."""
    translation = np.array(poses.translation, np.float64)
    shift = np.array([b.center - a.center for b, a in zip(before, after, strict=True)])
    ratio = np.array([b.side / a.side for b, a in zip(before, after, strict=True)])
    sides = np.array([a.side for a in after])
    depth = translation[:, 2:]
    tangents = translation[:, :2] / depth * ratio[:, None] + shift / sides[:, None] / FFHQ_FOCAL
    depth = depth / ratio[:, None]
    return Poses(
        rotation=poses.rotation,
        translation=np.concatenate([tangents * depth, depth], -1),
        coefficients=poses.coefficients,
    )


def _solve_jointly(
    model: FaceModel,
    landmarks: np.ndarray,
    windows: list[Window],
    single: Poses,
    *,
    video: bool,
    rough: bool,
) -> tuple[Faces, list[Window]]:
    """Fit one face to all pictures; rough where tracked points are to improve on it."""
    trust = np.where(np.abs(single.yaw) < max(_TRUSTED_YAW, believed_yaw(single.yaw)), 1.0, 0.0)
    tangents = to_tangents(landmarks, windows)[..., :2]
    if rough:
        chosen = np.flatnonzero(trust)
        spread = np.linspace(0, len(chosen) - 1, min(len(chosen), _MOST_ROUGH))
        chosen = chosen[np.rint(spread).astype(int)]
        shape = fit_joint(model, tangents[chosen], single[chosen], trust[chosen]).shape
        coefficients = np.asarray(single.coefficients)[:, len(model.shapes) :]
        found = Faces(poses=replace(single, coefficients=coefficients), shape=shape)
    else:
        found = fit_joint(model, tangents, single, trust)
    for round_ in range(3):
        before, windows = windows, consistent_windows(found.poses, windows)
        if video and round_ == 2:
            windows = smooth_windows(windows, strength=_WINDOW_STRENGTH)
        start = move_into(found.poses, before, windows)
        tangents = to_tangents(landmarks, windows)[..., :2]
        every = THINNING if rough else 1
        poses = fit_expressions(model, found.shape, tangents, start, num_steps=5, every=every)
        found = Faces(poses=poses, shape=found.shape)
    return found, windows


def _solve_tracked(
    model: FaceModel,
    observations: Sequence[Observation],
    seen: tuple[np.ndarray, np.ndarray],
    solved: tuple[Faces, list[Window]],
    report: Callable[[float], None],
) -> Solved:
    """Track points, adjust everything to them, and tell the result as EG3D's cameras."""
    (found, landmarks), (found_faces, windows), count = seen, solved, len(observations)
    place = np.full((count, len(model.points), 3), 0.0)
    place[found] = landmarks
    has = np.zeros(count, bool)
    has[found] = True
    sizes = np.array([[o.width, o.height] for o in observations], float)
    about = np.concatenate([found_faces.shape, head_outline()])
    about = to_pixels(project(about, found_faces.poses), windows)
    outlines: list[np.ndarray | None] = [None] * count
    for i, points in zip(found, about, strict=True):
        outlines[i] = points
    grays = [o.gray for o in observations if o.gray is not None]
    all_windows = follow(grays, sizes, _continued(windows, has), outlines)
    tracks = track_points(
        grays,
        sizes,
        all_windows,
        outlines,
        lambda part: report(0.2 + 0.4 * part),
    )
    start = move_into(found_faces.poses, windows, [all_windows[i] for i in found])
    poses = Poses(
        rotation=np.tile(np.diag([1.0, -1.0, -1.0]), (count, 1, 1)),
        translation=np.tile([0.0, 0.0, RADIUS], (count, 1)),
        coefficients=np.zeros((count, len(model.expressions))),
    )
    for name in ("rotation", "translation", "coefficients"):
        getattr(poses, name)[found] = getattr(start, name)
    frames = Frames(
        landmarks=place,
        has_landmarks=has,
        sizes=sizes,
        windows=all_windows,
        tracks=tracks,
        grays=grays,
        believed=believed_yaw(found_faces.poses.yaw),
    )
    filmed = solve_video(
        model,
        frames,
        Faces(poses=poses, shape=found_faces.shape),
        lambda part: report(0.6 + 0.4 * part),
    )
    return _tell(model, frames, filmed)


def _continued(windows: list[Window], known: np.ndarray) -> list[Window]:
    """Windows of all frames, those not known from their neighbours."""
    unit = np.median([window.side for window in windows])
    values = np.zeros((len(known), 3))
    values[known] = [[*window.center / unit, np.log(window.side)] for window in windows]
    # Weak: known windows stay, and a gap is filled by a straight line.
    values = smooth(values, strength=1e-3, reach=1.0, known=known)
    return [Window(center=row[:2] * unit, side=float(np.exp(row[2]))) for row in values]


def _tell(model: FaceModel, frames: Frames, filmed: Filmed) -> Solved:
    lens, poses, reached = filmed.lens, filmed.faces.poses, filmed.reached
    kept = reached | (frames.has_landmarks & (np.abs(poses.yaw) < _KEPT_YAW))
    result = _nothing(len(kept), model)
    if not kept.any():
        return result
    moved = faces(model, filmed.faces.shape, poses)
    points = lens.project(moved, poses)
    windows = consistent(lens, poses)
    chosen = np.flatnonzero(kept)
    smoothed = smooth_windows([windows[i] for i in chosen], strength=_WINDOW_STRENGTH)
    for i, window in zip(chosen, smoothed, strict=True):
        windows[i] = window
    lens, poses = lens.look_into(windows, poses)
    result.cam2world[kept] = as_eg3d(lens, poses).cam2world[kept]
    result.points[kept] = points[kept]
    error = np.linalg.norm(points - frames.landmarks[..., :2], axis=-1)
    error = np.median(error[:, model.weights > 0], -1) * 512 / lens.sides
    near = np.abs(poses.yaw) < frames.believed
    for i in chosen:
        result.windows[i] = windows[i]
        by_landmarks = frames.has_landmarks[i] and (near[i] or not reached[i])
        result.source[i] = "landmarks" if by_landmarks else "tracked"
        result.residual[i] = error[i] if by_landmarks else filmed.residual[i]
    return replace(result, shape=filmed.faces.shape)


def steady(cam2world: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Remove from a video's cameras their errors that are independent from frame to frame.

    Unless the face would leave its place: a head that is shaken faster than windows follow, and a
    film with repeated frames, move as such errors do.

    Args:
      cam2world: [n, 4, 4] of windows that move smoothly, in the order of time; NaN where nothing
        was found, before and after which cameras have nothing to do with each other.
      face: [N, 3] points of the face.

    Returns:
      [n, 4, 4].
    """
    result = cam2world.copy()
    known = np.flatnonzero(np.isfinite(cam2world[:, 0, 0]))
    for run in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        given = cam2world[run]
        smoothed = np.asarray(smooth_poses(jnp.asarray(given, jnp.float32), CameraPrior()), float)
        moved = np.linalg.norm(_seen(face, smoothed) - _seen(face, given), axis=-1)
        if len(run) and np.percentile(PIXELS * np.median(moved, -1), 90) <= _MOST_MOVED:
            result[run] = smoothed
    return result


def _seen(points: np.ndarray, cam2world: np.ndarray) -> np.ndarray:
    """Tangents [n, N, 2] of points [N, 3] in cameras [n, 4, 4]."""
    world2cam = np.linalg.inv(cam2world)
    rotation, translation = world2cam[:, :3, :3], world2cam[:, :3, 3]
    poses = Poses(rotation=rotation, translation=translation, coefficients=np.zeros((0, 0)))
    return project(points, poses)


def _assemble(
    model: FaceModel,
    found_faces: Faces,
    windows: list[Window],
    landmarks: np.ndarray,
    found: np.ndarray,
    count: int,
) -> Solved:
    """Put what was found of some pictures among all of them."""
    poses = found_faces.poses
    size = np.shape(poses.coefficients)[1]
    basis = model.expressions if size == len(model.expressions) else None
    if basis is None:  # poses found by themselves have shapes of their own
        changes = np.concatenate([model.shapes, model.expressions])
        moved = model.points + np.tensordot(np.asarray(poses.coefficients), changes, 1)
    else:
        moved = faces(model, found_faces.shape, poses)
    tangents = project(moved, poses)
    error = PIXELS * np.linalg.norm(tangents - to_tangents(landmarks, windows)[..., :2], axis=-1)
    result = _nothing(count, model)
    result.cam2world[found] = poses.cam2world
    result.points[found] = to_pixels(tangents, windows)
    result.residual[found] = np.median(error[:, model.weights > 0], -1)
    for i, window in zip(found, windows, strict=True):
        result.windows[i] = window
        result.source[i] = "landmarks"
    return replace(result, shape=found_faces.shape)


def _nothing(count: int, model: FaceModel) -> Solved:
    return Solved(
        cam2world=np.full((count, 4, 4), np.nan),
        windows=[None] * count,
        residual=np.full(count, np.nan),
        source=["none"] * count,
        shape=model.points,
        points=np.full((count, len(model.points), 2), np.nan),
    )
