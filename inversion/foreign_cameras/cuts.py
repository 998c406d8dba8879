"""Square pictures for EG3D's cameras, cut out of pictures by other cameras.

A camera that is turned on its spot sees the same rays, so that a picture by any known lens can be
drawn anew by a pinhole camera that looks at the head: without distortion, the head in the middle.
Its label is exact. Only its distance from the head is what it is: the generator looks about 2.7
units ahead, so a camera that is much nearer or further is told as one at 2.7 that sees the head as
large, from the same direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from eg3d_jax.cameras import FFHQ_FOCAL
from inversion.footage.lenses import at_usual_distance, depth_of, turn_towards
from inversion.footage.tracking import opencv
from inversion.footage.windows import CENTER, RADIUS
from inversion.frames.scene import Lens

# Cameras within this part of EG3D's distance keep their own.
_NEAR = 0.1
# Degrees by which a picture may be rolled; heads of EG3D's data are by no more.
_MOST_ROLL = 20.0
# Whole square pictures will do whose focal length, and the place of the head's middle in them, are
# EG3D's to these parts.
_SAME_FOCAL, _OFF_MIDDLE = 0.15, 0.12
_GRID = 17  # points a side at which a cut's place in the picture is looked up


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """A square pinhole picture to be drawn from another.

    Attributes:
      turn: [3, 3] from the axes of the picture's camera to those of the cut's.
      focal: of the pixels that are drawn, sides.
      label: [25] EG3D's.
    """

    turn: np.ndarray
    focal: float
    label: np.ndarray


def is_near(cam2world: np.ndarray) -> bool:
    """Whether cameras [n, 4, 4] all stand about as far as EG3D's."""
    distance = np.linalg.norm(cam2world[:, :3, 3], axis=-1)
    return bool((np.abs(distance / RADIUS - 1) <= _NEAR).all())


def is_whole(cam2world: np.ndarray, lens: Lens) -> bool:
    """Whether a picture by a camera [4, 4] in EG3D's world is a crop as EG3D's already.

    Those of its data have a point between the origin and `CENTER` in their middle.
    """
    if lens.width != lens.height or not lens.pinhole or not is_near(cam2world[None]):
        return False
    if abs(_roll(cam2world[:3, :3])) > _MOST_ROLL:
        return False
    seen = (np.linspace(0, 1, 5)[:, None] * CENTER - cam2world[:3, 3]) @ cam2world[:3, :3]
    if seen[:, 2].min() <= 0:
        return False
    place = to_pixels(seen, lens) / lens.width
    focal = np.array([lens.fx, lens.fy]) / lens.width
    return bool(
        (np.abs(focal / FFHQ_FOCAL - 1) <= _SAME_FOCAL).all()
        and np.abs(place - 0.5).max(-1).min() <= _OFF_MIDDLE
    )


def whole_label(cam2world: np.ndarray, lens: Lens) -> np.ndarray:
    """Label [25] of a whole square picture."""
    return np.concatenate([cam2world.ravel(), lens.square_intrinsics.ravel()])


def _roll(axes: np.ndarray) -> float:
    """Degrees by which what is up in the world leans to the right in a picture.

    Args:
      axes: [3, 3] of the camera, in columns; 0 for one that looks nearly straight down or up.
    """
    up = axes[1]  # in the camera
    return float(np.degrees(np.arctan2(up[0], -up[1]))) if np.hypot(*up[:2]) > 0.3 else 0.0


def cut_of(
    cam2world: np.ndarray, middle: np.ndarray, *, moved_about: np.ndarray | None = None
) -> Cut | None:
    """The cut that has the head in the middle, as large as in EG3D's crops, and not on its side.

    Args:
      cam2world: [4, 4] in the generator's world.
      middle: [3] what belongs in the middle.
      moved_about: [3] the head's middle, if the camera is told as one at EG3D's distance: it goes
        there along the ray to it, and so sees the head from the same direction. None for a camera
        that is told where it stands.

    Returns:
      None if the camera looks away from it.
    """
    axes, stands = cam2world[:3, :3], cam2world[:3, 3]
    nearer = 1.0
    if moved_about is not None:
        stands, nearer = at_usual_distance(stands, moved_about)
    seen = (middle - stands) @ axes
    distance = float(np.linalg.norm(seen))
    if seen[2] <= 0.1 * distance:
        return None
    turn = turn_towards(seen[None, :2] / seen[2], 1.0)[0]
    if abs(roll := _roll(axes @ turn.T)) > _MOST_ROLL:
        turn = Rotation.from_euler("z", -roll, degrees=True).as_matrix() @ turn
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = axes @ turn.T, stands
    if moved_about is None:
        focal = told = FFHQ_FOCAL * distance / float(depth_of(middle, pose[None, :3, 2])[0])
    else:
        focal, told = FFHQ_FOCAL * nearer, FFHQ_FOCAL
        # The camera itself turns a little otherwise, to have the head's middle at the same place.
        head = turn @ axes.T @ (moved_about - stands)
        place = head[None, :2] / head[2]
        turn = turn_towards(place / nearer, 1.0)[0].T @ turn_towards(place, 1.0)[0] @ turn
    intrinsics = np.array([[told, 0, 0.5], [0, told, 0.5], [0, 0, 1]])
    return Cut(turn=turn, focal=focal, label=np.concatenate([pose.ravel(), intrinsics.ravel()]))


def outside(cut: Cut, lens: Lens) -> float:
    """Part of a cut that lies outside its picture, 0 to 1."""
    rays = _rays(cut, (np.arange(_GRID) + 0.5) / _GRID)
    place = to_pixels(rays.reshape(-1, 3), lens)
    inside = (place >= 0).all(-1) & (place <= [lens.width, lens.height]).all(-1)
    return float(1 - (inside & (rays.reshape(-1, 3)[:, 2] > 0)).mean())


def draw(pixels: np.ndarray, cut: Cut, lens: Lens, size: int) -> np.ndarray:
    """Draw a cut, uint8 [size, size, 3]; beyond the picture's border it is mirrored.

    Args:
      pixels: uint8 [height, width, 3].
      cut: of it.
      lens: of it.
      size: pixels a side.

    Raises:
      InputError: if the lens distorts and OpenCV is not installed.
    """
    # Averages of several pixels first, then twice as fine as asked for, lest fine detail flicker.
    coarse = max(int(np.sqrt(lens.fx * lens.fy) / (cut.focal * size) / 2), 1)
    image = Image.fromarray(pixels)
    if coarse > 1:
        height, width = (-(-side // coarse) * coarse for side in pixels.shape[:2])
        image = image.reduce(coarse)
        lens = _grown(lens, width, height).resized(width // coarse, height // coarse)
    side = 2 * size
    if lens.pinhole:
        drawn = _by_homography(image, cut, lens, side)
    else:
        drawn = _by_opencv(np.asarray(image), cut, lens, side)
    return np.asarray(drawn.resize((size, size), Image.Resampling.LANCZOS))


def _grown(lens: Lens, width: int, height: int) -> Lens:
    """The lens of the same pixels in a picture that goes on to the right and below."""
    return Lens(**{**vars(lens), "width": width, "height": height})


def _rays(cut: Cut, places: np.ndarray) -> np.ndarray:
    """Rays [n, n, 3] in the picture's camera of places [n] in the cut, parts of its side."""
    x, y = np.meshgrid((places - 0.5) / cut.focal, (places - 0.5) / cut.focal)
    return np.stack([x, y, np.ones_like(x)], -1) @ cut.turn


def _by_homography(image: Image.Image, cut: Cut, lens: Lens, side: int) -> Image.Image:
    low, high = np.array([np.inf] * 2), -np.array([np.inf] * 2)
    rays = _rays(cut, np.array([0.0, 0.5, 1.0])).reshape(-1, 3)
    if (rays[:, 2] > 0).all():
        place = to_pixels(rays, lens)
        low, high = place.min(0), place.max(0)
    size = np.array(image.size)
    # No further than the picture is large: what is mirrored twice is of no use.
    before = np.clip(np.ceil(-low + 3), 0, size).astype(int)
    after = np.clip(np.ceil(high - size + 3), 0, size).astype(int)
    if before.any() or after.any():
        pads = ((before[1], after[1]), (before[0], after[0]), (0, 0))
        image = Image.fromarray(np.pad(np.asarray(image), pads, mode="symmetric"))
    shift = np.array([[1, 0, before[0]], [0, 1, before[1]], [0, 0, 1.0]])
    from_cut = np.array([[1 / side, 0, -0.5], [0, 1 / side, -0.5], [0, 0, cut.focal]])
    matrix = shift @ lens.matrix @ cut.turn.T @ from_cut
    matrix = (matrix / matrix[2, 2]).ravel()
    return image.transform(
        (side, side), Image.Transform.PERSPECTIVE, matrix[:8].tolist(), Image.Resampling.BICUBIC
    )


def _by_opencv(pixels: np.ndarray, cut: Cut, lens: Lens, side: int) -> Image.Image:
    cv2 = _opencv()
    wanted = np.array([[cut.focal * side, 0, side / 2], [0, cut.focal * side, side / 2], [0, 0, 1]])
    maps = (cv2.fisheye if lens.fisheye else cv2).initUndistortRectifyMap(
        _opencv_matrix(lens.matrix),
        _coefficients(lens),
        cut.turn,
        _opencv_matrix(wanted),
        (side, side),
        cv2.CV_32FC1,
    )
    drawn = cv2.remap(pixels, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return Image.fromarray(drawn)


def to_pixels(rays: np.ndarray, lens: Lens) -> np.ndarray:
    """Pixels [n, 2] where a lens sees rays [n, 3] of its camera.

    Raises:
      InputError: if the lens distorts and OpenCV is not installed.
    """
    if lens.pinhole:
        place = rays @ lens.matrix.T
        return place[:, :2] / place[:, 2:]
    cv2, zero = _opencv(), np.zeros(3)
    points = np.ascontiguousarray(rays, np.float64)[:, None]
    matrix, coefficients = _opencv_matrix(lens.matrix), _coefficients(lens)
    if lens.fisheye:
        found, _ = cv2.fisheye.projectPoints(points, zero, zero, matrix, coefficients)
    else:
        found, _ = cv2.projectPoints(points, zero, zero, matrix, coefficients)
    return found[:, 0] + 0.5


def to_tangents(pixels: np.ndarray, lens: Lens) -> np.ndarray:
    """Tangents [n, 2] of pixels [n, 2], free of distortion; undoes `to_pixels`."""
    if lens.pinhole:
        return (pixels - [lens.cx, lens.cy]) / [lens.fx, lens.fy]
    cv2 = _opencv()
    points = np.ascontiguousarray(pixels - 0.5, np.float64)[:, None]
    matrix, coefficients = _opencv_matrix(lens.matrix), _coefficients(lens)
    found = (cv2.fisheye if lens.fisheye else cv2).undistortPoints(points, matrix, coefficients)
    return found[:, 0]


def _opencv_matrix(matrix: np.ndarray) -> np.ndarray:
    """OpenCV counts pixels from the middle of the first."""
    return matrix - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]


def _coefficients(lens: Lens) -> np.ndarray:
    count = 4 if lens.fisheye else 8
    return np.array([*lens.distortion, *[0.0] * (count - len(lens.distortion))])


def _opencv():
    """OpenCV's module; an InputError if it is not installed."""
    return opencv(
        "straightening pictures of a lens that distorts",
        "undistort them and export their cameras again",
    )
