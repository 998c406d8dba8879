"""Choice of the frames of footage that are worth fitting, with one reason for each left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inversion.footage.windows import Window

# Below this presence there is no face.
PRESENT = 0.5
# Windows smaller than this are refused; the next are told of.
SMALLEST, SMALL = 128, 256
# Part of a window that may lie outside its picture.
MOST_OUTSIDE = 0.35
# Residual in units of the footage's median, and the yaw from which half a face is always hidden.
MOST_RESIDUAL, PROFILE = 3.0, 45.0
# Residuals below this are none of a hidden face, pixels of a window of 512.
_FINE_RESIDUAL = 4.0
# Frames of like yaw with which one is compared.
_ALIKE = 15
# Sharpness in units of that of the sharpest frames of like yaw, and of all: a face from the side
# shows less detail. Of a sharp face .45 is left by a blur of a standard deviation of 2 pixels of a
# window of 512, .25 by 4 pixels, and .45 by a motion of 15.
LEAST_SHARP, LEAST_SHARP_OF_ALL = 0.45, 0.25
# Frames of a video that are kept unless told otherwise.
USUAL_FRAMES = 60


@dataclass(frozen=True, kw_only=True, eq=False)
class FootageFrame:
    """A picture of footage that was looked at.

    Attributes:
      index: among all that were looked at, in order.
      source: file name of the photo or video.
      seconds: time in the video; None of a photo.
      turns: counterclockwise quarter turns that bring the head upright.
      height: pixels of the picture, once turned.
      width: pixels.
      window: the square that is cut out, pixels of the turned picture; None if no pose was found.
      cam2world: [4, 4] of the window's camera; NaN if no pose was found.
      reached: how the pose was found: "landmarks", "tracked" or "none".
      residual: pixels of a window of 512 between landmarks and the face laid over them; NaN if
        unknown.
      sharpness: in units of the footage's best; NaN if unknown.
      mirror_gap: see `Landmarks`; NaN without a face.
      presence: of a face, 0 to 1.
      hidden: whether the landmarks were not trusted, as they differ in the mirror image.
      outside: part of the window outside the picture.
      file: name of the frame that is kept; empty if it is left out.
      reason: why it is left out; empty if it is kept.
    """

    index: int
    source: str
    seconds: float | None
    turns: int
    height: int
    width: int
    window: Window | None
    cam2world: np.ndarray
    reached: str
    residual: float
    sharpness: float
    mirror_gap: float
    presence: float
    hidden: bool
    outside: float
    file: str = ""
    reason: str = ""

    @property
    def kept(self) -> bool:
        """Whether it is one of the frames written."""
        return not self.reason

    @property
    def yaw(self) -> float:
        """Degrees of the camera about the head, positive towards the world's +x."""
        return float(np.degrees(np.arctan2(self.cam2world[0, 3], self.cam2world[2, 3])))

    @property
    def pitch(self) -> float:
        """Degrees of the camera above the head's horizon."""
        position = self.cam2world[:3, 3]
        return float(np.degrees(np.arcsin(position[1] / np.linalg.norm(position))))

    @property
    def roll(self) -> float:
        """Degrees by which the head leans in the picture, clockwise."""
        return float(np.degrees(np.arctan2(self.cam2world[1, 0], -self.cam2world[1, 1])))


def reasons(
    frames: Sequence[FootageFrame],
    *,
    video: bool,
    max_yaw: float,
    fps: float | None,
    count: int | None,
    keep_all: bool,
) -> list[str]:
    """Say for each frame why it is left out; empty for those that are kept.

    Args:
      frames: all that were looked at, in order; those with a reason already keep it.
      video: whether they are a video's.
      max_yaw: degrees.
      fps: frames a second of a video that are kept; as many as `count` says if None.
      count: how many frames are kept, spread by yaw; 60 of a video and all photos if both are None.
      keep_all: whether all frames are kept that have a pose.
    """
    found = [frame.reason or _no_pose(frame) for frame in frames]
    if keep_all:
        return found
    usable = [frame for frame, reason in zip(frames, found, strict=True) if not reason]
    residuals, best = _usual_residuals(usable), _best_sharpness(usable)
    found = [
        reason or _defect(frame, residuals[frame.index], best[frame.index], max_yaw)
        for frame, reason in zip(frames, found, strict=True)
    ]
    good = [frame for frame, reason in zip(frames, found, strict=True) if not reason]
    if fps is not None and video:
        chosen, spare = by_time(good, fps), f"{fps:g} frames a second are kept, of each the best"
    else:
        count = count or (USUAL_FRAMES if video else len(good))
        chosen = spread_by_yaw(good, count)
        spare = f"{count} frames are kept, spread by yaw: this is none of them"
    return [
        reason or ("" if frame.index in chosen else spare)
        for frame, reason in zip(frames, found, strict=True)
    ]


def is_spare(reason: str) -> bool:
    """Whether a frame was left out without fault, as enough others are kept."""
    return "are kept, " in reason


def _no_pose(frame: FootageFrame) -> str:
    if frame.window is not None:
        return ""
    if frame.presence < PRESENT:
        return "no face was found"
    if frame.hidden:
        return "the face is half hidden, or turned too far away"
    return "the head is turned too far for its landmarks, and could not be tracked"


def _usual_residuals(frames: Sequence[FootageFrame]) -> dict[int, float]:
    """By index, the median residual of all frames, or of those of like yaw if that is larger.

    Landmarks of a face that is turned far fit less well.
    """
    found = dict.fromkeys((frame.index for frame in frames), 0.0)
    for reached in {frame.reached for frame in frames}:  # residuals of tracked points are others
        known = [f for f in frames if f.reached == reached and math.isfinite(f.residual)]
        yaw, residual = (
            np.array([getattr(f, name) for f in known]) for name in ("yaw", "residual")
        )
        for frame in known:
            alike = residual[_nearest(yaw, frame.yaw)]
            found[frame.index] = float(max(np.median(residual), np.median(alike)))
    return found


def _best_sharpness(frames: Sequence[FootageFrame]) -> dict[int, float]:
    """By index, the sharpness of the best frames of like yaw, in units of the best of all."""
    known = [frame for frame in frames if math.isfinite(frame.sharpness)]
    if not known:
        return {frame.index: 0.0 for frame in frames}
    yaw, sharp = (np.array([getattr(f, name) for f in known]) for name in ("yaw", "sharpness"))
    return {
        frame.index: float(np.percentile(sharp[_nearest(yaw, frame.yaw)], 90)) for frame in frames
    }


def _nearest(yaw: np.ndarray, to: float) -> np.ndarray:
    return np.argsort(np.abs(yaw - to), kind="stable")[:_ALIKE]


def _defect(frame: FootageFrame, median: float, best: float, max_yaw: float) -> str:
    """What is wrong with a frame that has a pose; nothing, mostly."""
    assert frame.window is not None
    if frame.window.side < SMALLEST:
        return (
            f"the head is too small: its window has {frame.window.side:.0f} pixels of the "
            f"{SMALLEST} needed"
        )
    if frame.outside > MOST_OUTSIDE:
        return f"{100 * frame.outside:.0f} % of the head's window lie outside the picture"
    # Points tracked around it may have given a good pose.
    if (frame.hidden or frame.presence < PRESENT) and abs(frame.yaw) < PROFILE:
        return "the face is hidden, or half of it, though it is turned to the camera"
    limit = max(MOST_RESIDUAL * median, _FINE_RESIDUAL)
    if frame.residual > limit:
        points = "tracked points" if frame.reached == "tracked" else "landmarks"
        return (
            f"the {points} do not fit the face: they are {frame.residual:.1f} pixels off, usually "
            f"{median:.1f}; something may hide it"
        )
    if frame.sharpness < max(LEAST_SHARP * best, LEAST_SHARP_OF_ALL):
        return f"blurred: {100 * frame.sharpness:.0f} % as sharp as the best"
    if abs(frame.yaw) > max_yaw:
        return f"turned by {abs(frame.yaw):.0f} degrees, more than {max_yaw:g} (--max-yaw)"
    return ""


def quality(frame: FootageFrame) -> float:
    """How much a frame is preferred to its neighbours, about 0 to 1."""
    sharp = 0.5 if math.isnan(frame.sharpness) else min(frame.sharpness, 1.0)
    residual = 2.0 if math.isnan(frame.residual) else frame.residual
    return sharp / (1 + 0.1 * residual)


def by_time(frames: Sequence[FootageFrame], fps: float) -> set[int]:
    """Choose the best frame of each 1 / fps seconds: their indices."""
    best: dict[int, FootageFrame] = {}
    for frame in frames:
        slot = math.floor((frame.seconds or 0.0) * fps + 1e-6)
        if slot not in best or quality(frame) > quality(best[slot]):
            best[slot] = frame
    return {frame.index for frame in best.values()}


def spread_by_yaw(frames: Sequence[FootageFrame], count: int) -> set[int]:
    """Choose frames evenly spread from the smallest to the largest yaw, better ones first.

    Args:
      frames: to choose from.
      count: how many; all if there are no more.

    Returns:
      Their indices.
    """
    if len(frames) <= count:
        return {frame.index for frame in frames}
    yaw = np.array([frame.yaw for frame in frames])
    worse = 1 - np.array([quality(frame) for frame in frames])
    step = max((yaw.max() - yaw.min()) / max(count - 1, 1), 1e-6)
    free = np.ones(len(frames), bool)
    chosen = set()
    targets = np.linspace(yaw.min(), yaw.max(), count) if count > 1 else np.zeros(1)
    # From both ends inwards: extremes are rare, and frontal frames plenty.
    for target in sorted(targets, key=lambda value: -abs(value - yaw.mean())):
        cost = np.where(free, np.abs(yaw - target) / step + worse, np.inf)
        best = int(np.argmin(cost))
        free[best] = False
        chosen.add(frames[best].index)
    return chosen


def advice(frames: Sequence[FootageFrame], *, reach: float = 40.0) -> list[str]:
    """Say which directions are missing among the frames kept, and how to film them.

    Args:
      frames: those that are kept.
      reach: degrees of yaw that footage should have to both sides.
    """
    if not frames:
        return ["No frame is left; film the head anew, large, sharp and from the front."]
    yaw, pitch = np.array([frame.yaw for frame in frames]), np.array([f.pitch for f in frames])
    said = []
    for sign, cheek, side in ((1, "left", "right"), (-1, "right", "left")):
        most = float((sign * yaw).max())
        if most < reach:
            shown = f"beyond {most:.0f} degrees" if most > 5 else "at all"
            said.append(
                f"No frame shows the {cheek} cheek {shown}: turn the head further to its own "
                f"{side}."
            )
    gaps = np.diff(np.sort(yaw))
    if gaps.size and gaps.max() > 20:
        at = int(np.argmax(gaps))
        low, high = np.sort(yaw)[at : at + 2]
        said.append(
            f"There is nothing between {low:.0f} and {high:.0f} degrees of yaw: turn more slowly "
            "there."
        )
    if np.ptp(pitch) < 8:
        said.append("All frames are from one height: nod a little, or move the camera up and down.")
    return said
