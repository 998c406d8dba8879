"""Pictures with cameras of other programs, in one neutral form that readers make and writers take.

Pixels are counted from the outer corner of the picture's first pixel, whose middle is at 0.5, as
COLMAP, instant-ngp and Metashape count them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from eg3d_jax.errors import InputError
from inversion.frames.camera_checks import with_rotations
from inversion.frames.labels import join_names, natural_key

# Endings that are tried for a picture named without one, or with another.
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".PNG", ".JPG", ".JPEG", ".TIF")
# Names of the coefficients of distortion in OpenCV's order, of its usual lens and of its fisheye.
DISTORTION = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
FISHEYE_DISTORTION = ("k1", "k2", "k3", "k4")
# Proportions of a picture and of what its cameras' file says may differ by rounding.
_SAME_PROPORTIONS = 0.01
# A camera stands still whose rotation, and place over its distance, change by less.
_STILL = 1e-4


@dataclass(frozen=True, kw_only=True)
class Lens:
    """What a camera's pixels see.

    Attributes:
      width: of the picture, pixels.
      height: pixels.
      fx: focal length, pixels.
      fy: the same downwards.
      cx: principal point, pixels from the left edge.
      cy: pixels from the upper edge.
      distortion: coefficients in the order of `DISTORTION`, of a fisheye `FISHEYE_DISTORTION`;
        zeros at the end are left out.
      fisheye: whether the lens is OpenCV's fisheye, on which angles are lengths.
    """

    width: float
    height: float
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()
    fisheye: bool = False

    @property
    def pinhole(self) -> bool:
        """Whether straight lines are straight in the picture."""
        return not self.fisheye and not any(self.distortion)

    @property
    def matrix(self) -> np.ndarray:
        """[3, 3] from tangents to pixels."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    @property
    def square_intrinsics(self) -> np.ndarray:
        """[3, 3] over the side of the picture's central square, as EG3D's labels have them."""
        side = min(self.width, self.height)
        left, top = (self.width - side) / 2, (self.height - side) / 2
        return np.array(
            [
                [self.fx / side, 0, (self.cx - left) / side],
                [0, self.fy / side, (self.cy - top) / side],
                [0, 0, 1],
            ]
        )

    def resized(self, width: float, height: float) -> Lens:
        """The lens of the same picture in another size."""
        if (width, height) == (self.width, self.height):
            return self
        x, y = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * x,
            fy=self.fy * y,
            cx=self.cx * x,
            cy=self.cy * y,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """n pictures with their cameras in a world of their own.

    Attributes:
      source: file or folder of the cameras.
      form: what wrote it, in a word or two.
      names: of the frames, in natural order.
      cam2world: float64 [n, 4, 4] rigid, OpenCV's axes: x right, y down, z forward.
      lenses: n.
      pictures: n files, None where it is not there.
      masks: n files that are light where the head is, None where there is none.
      timesteps: n numbers of moments, between which a head may move; empty if none are told.
      notes: sentences on what was ignored or assumed.
    """

    source: Path
    form: str
    names: tuple[str, ...]
    cam2world: np.ndarray
    lenses: tuple[Lens, ...]
    pictures: tuple[Path | None, ...]
    masks: tuple[Path | None, ...] = ()
    timesteps: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of pictures n."""
        return len(self.names)

    @property
    def still(self) -> bool:
        """Whether all pictures have one camera, before which the head moves."""
        scale = max(float(np.abs(self.cam2world[:, :3, 3]).max(initial=0)), 1e-12)
        turned, moved = self.cam2world[:, :3, :3], self.cam2world[:, :3, 3] / scale
        spread = max(float(np.ptp(part, axis=0).max()) for part in (turned, moved))
        return len(self) > 1 and spread < _STILL

    def __getitem__(self, index: Sequence[int] | np.ndarray) -> Scene:
        """The pictures at some indices."""
        chosen = np.arange(len(self))[np.asarray(index)]

        def some(values: tuple) -> tuple:
            return tuple(values[i] for i in chosen) if values else ()

        return replace(
            self,
            names=some(self.names),
            cam2world=self.cam2world[chosen],
            lenses=some(self.lenses),
            pictures=some(self.pictures),
            masks=some(self.masks),
            timesteps=some(self.timesteps),
        )


def without_zeros(values: Sequence[float]) -> tuple[float, ...]:
    """The values without zeros at their end, as `Lens.distortion` has them."""
    count = len(values)
    while count and values[count - 1] == 0:
        count -= 1
    return tuple(values[:count])


def sorted_scene(scene: Scene) -> Scene:
    """The scene with its frames in natural order of their names, and rotations that are some.

    Raises:
      InputError: if there is no frame, two have one name, a lens is impossible, or a matrix is no
        pose.
    """
    if not len(scene):
        raise InputError(f"{scene.source} holds no camera; export it again")
    if len(set(scene.names)) < len(scene):
        twice = {name for name in scene.names if scene.names.count(name) > 1}
        raise InputError(
            f"{scene.source} has more than one camera for {join_names(twice)}; keep one a picture"
        )
    for name, lens in zip(scene.names, scene.lenses, strict=True):
        numbers = np.array([lens.width, lens.height, lens.fx, lens.fy])
        if not (np.isfinite([*numbers, lens.cx, lens.cy]).all() and numbers.min() > 0):
            raise InputError(
                f"{scene.source}: {name}: focal lengths {lens.fx:g} {lens.fy:g} and picture "
                f"{lens.width:g} x {lens.height:g} must be positive; export the cameras again"
            )
    plain = np.eye(3).ravel()
    labels = {
        name: np.concatenate([pose.ravel(), plain])
        for name, pose in zip(scene.names, scene.cam2world, strict=True)
    }
    labels = with_rotations(scene.source, labels)
    poses = np.stack([label[:16].reshape(4, 4) for label in labels.values()])
    order = sorted(range(len(scene)), key=lambda i: natural_key(scene.names[i]))
    return replace(scene, cam2world=poses)[order]


def with_pictures(scene: Scene) -> Scene:
    """The scene, its lenses brought to the pictures' sizes.

    Raises:
      InputError: if pictures are missing, cannot be read, or have other proportions.
    """
    missing = [name for name, path in zip(scene.names, scene.pictures, strict=True) if path is None]
    if missing:
        raise InputError(
            f"{scene.source}: {len(missing)} of {len(scene)} pictures are not there "
            f"({join_names(missing)}); put them where it names them, or into a folder images "
            "beside it, or remove their cameras"
        )
    lenses, resized = [], 0
    for path, lens in zip(scene.pictures, scene.lenses, strict=True):
        assert path is not None
        width, height = picture_size(path)
        if _other_proportions(width, height, lens) and not _other_proportions(height, width, lens):
            width, height = height, width  # turned by its tag, as the cameras are
        if _other_proportions(width, height, lens):
            raise InputError(
                f"{path} is {width} x {height} pixels, but {scene.source} has a camera of "
                f"{lens.width:g} x {lens.height:g}; give the pictures that it was made of"
            )
        resized += (width, height) != (lens.width, lens.height)
        lenses.append(lens.resized(width, height))
    notes = scene.notes
    if resized:
        notes += (
            f"{resized} pictures have another size than their cameras tell: these are scaled",
        )
    return replace(scene, lenses=tuple(lenses), notes=notes)


def _other_proportions(width: float, height: float, lens: Lens) -> bool:
    return abs(width / height * lens.height / lens.width - 1) > _SAME_PROPORTIONS


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture as it is stored, whatever its tag of orientation, pixels.

    Raises:
      InputError: if it cannot be read.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, Image.DecompressionBombError):
        raise InputError(f"{path} is no picture that can be read; replace or remove it") from None


def find_picture(name: str, folders: Sequence[Path]) -> Path | None:
    """Find the file of a picture that is named with or without its ending.

    Args:
      name: a path, as the cameras' file has it.
      folders: in which it may lie, the likeliest first; there, or in a folder images below, it may
        lie under its last part alone, as paths of another machine do.
    """
    last = Path(name).name
    if not last or "\0" in name:
        return None
    places = [folder / name for folder in folders]
    places += [folder / below / last for folder in folders for below in ("", "images")]
    for place in places:
        try:
            if place.is_file():
                return place
            for ending in ENDINGS:
                # Ahead of `with_suffix`, which takes a dot within a name for an ending's.
                for path in (place.with_name(place.name + ending), place.with_suffix(ending)):
                    if path.is_file():
                        return path
        except (OSError, ValueError):  # names that no file can have
            return None
    return None
