"""Folders of frames: square images with EG3D camera labels, all checked before they are used."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from eg3d_jax.cameras import Cameras, azimuth, from_label
from experiments.camera_checks import check_cameras
from experiments.camera_files import read_labels
from experiments.errors import InputError
from experiments.frame_files import picture_files
from experiments.labels import LABELS_FILE
from experiments.mirror_images import unnamed_mirrors, without_mirrored
from experiments.truth_files import read_truth

# What Pillow raises on files that are cut, damaged, too large or no images at all.
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, IndexError,
           TypeError, MemoryError, Image.DecompressionBombError)  # fmt: skip
_REPLACE = "replace it, or remove it and its label"


@dataclass(frozen=True, kw_only=True)
class Frames:
    """T frames of one head in natural order of their names; images stay on disk.

    Attributes:
      folder: where they lie.
      names: as `dataset.json` calls them, with / between folders.
      paths: image files, which may lie in a folder that the names leave out.
      cameras: [T] one each.
      image_side: side to which images are resized when read, pixels.
      crop: whether images are cropped to the central square when read.
      depth: [T, S, S] true distance from the camera, world units, 0 where empty; or None.
      mask: [T, S, S] true where the head is; or None.
    """

    folder: Path
    names: tuple[str, ...]
    paths: tuple[Path, ...]
    cameras: Cameras
    image_side: int
    crop: bool = False
    depth: np.ndarray | None = None
    mask: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of frames T."""
        return len(self.names)

    @property
    def yaw_degrees(self) -> np.ndarray:
        """[T] degrees in [-180, 180), 0 frontal, positive towards the world's +x."""
        degrees = 90 - np.degrees(np.asarray(azimuth(self.cameras), np.float64))
        return (degrees + 180) % 360 - 180


def load_frames(
    folder: Path | str,
    *,
    image_side: int,
    crop: bool = False,
    min_frames: int = 1,
    box_side: float = 1.0,
    ray_range: tuple[float, float] | None = None,
    decode_all: bool = True,
) -> Frames:
    """Check a folder of frames completely and describe it; images are read one by one later.

    Args:
      folder: images (png, jpg, webp; any size) and `dataset.json`. Images in subfolders count if
        the labels name any such, or if one of them holds all that are labelled; mirror images do
        not. Optional, [T, S, S] in natural order: `depth.npz` (key depth) and `mask.npz` (key mask,
        to 1 or 255, inside from half of that).
      image_side: side of the images to return, pixels: the generator's.
      crop: take the central square of images that are not square. The labels must be of that
        square: they are not changed.
      min_frames: fewest frames that will do.
      box_side: side of the box that holds the head, world units.
      ray_range: distances between which the generator samples, to refuse cameras of another scale.
      decode_all: decode every image now; if not, only headers are read, and `check_images` should
        follow for the frames that will be used.

    Raises:
      InputError: one sentence naming the file, what is wrong and what to do.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {what}; give a folder of frames with {LABELS_FILE}")
    path = folder / LABELS_FILE
    named = read_labels(folder)
    labels = without_mirrored(folder, named)
    files = picture_files(folder, labels, copies=named.keys() - labels.keys())
    labels = check_cameras(path, labels, box_side=box_side, ray_range=ray_range)
    frames = Frames(
        folder=folder,
        names=tuple(files),
        paths=tuple(files.values()),
        cameras=from_label(np.stack([labels[name] for name in files])),
        image_side=image_side,
        crop=crop,
    )
    frames = _without_unnamed_mirrors(frames, path, labels)
    if len(frames) < min_frames:
        raise InputError(
            f"{folder} has {len(frames)} frames, fewer than the {min_frames} views asked for; add "
            "frames or ask for fewer views"
        )
    check_images(frames, range(len(frames)), decode=decode_all)
    truth = {key: read_truth(folder, key, len(frames)) for key in ("depth", "mask")}
    return replace(frames, **truth)


def check_images(frames: Frames, indices: Iterable[int], *, decode: bool = True) -> None:
    """Open images, and decode them unless told otherwise.

    Raises:
      InputError: for the first image that is damaged, or not square without `frames.crop`.
    """

    def check(index: int) -> None:
        with _opened(frames, index) as image:
            if decode:
                image.load()

    with ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
        list(pool.map(check, (int(index) for index in indices)))


def read_image(frames: Frames, index: int) -> np.ndarray:
    """One frame as float32 [S, S, 3] in [-1, 1], S = `frames.image_side`.

    Greyscale becomes RGB, transparency is laid on white, photographs are turned upright by their
    orientation tag, and other sizes are resampled by Lanczos' filter.

    Raises:
      InputError: if the image is damaged, or not square without `frames.crop`.
    """
    with _opened(frames, index) as file:
        image = ImageOps.exif_transpose(_rgb(file))
    left, top = ((side - min(image.size)) // 2 for side in image.size)
    box = (left, top, left + min(image.size), top + min(image.size))
    side = (frames.image_side, frames.image_side)
    if image.size != side:
        image = image.crop(box).resize(side, Image.Resampling.LANCZOS)
    return np.asarray(image, np.float32) / np.float32(255) * np.float32(2) - np.float32(1)


def read_images(frames: Frames, indices: Iterable[int]) -> np.ndarray:
    """Frames as float32 [n, S, S, 3] in [-1, 1]; see `read_image`."""
    return np.stack([read_image(frames, int(index)) for index in indices])


def _without_unnamed_mirrors(frames: Frames, path: Path, labels: dict[str, np.ndarray]) -> Frames:
    def pixels(name: str) -> np.ndarray:
        with _opened(frames, frames.names.index(name)) as file:
            return np.asarray(_rgb(file))

    copies = unnamed_mirrors(path, {name: labels[name] for name in frames.names}, pixels)
    kept = [i for i, name in enumerate(frames.names) if name not in copies]
    return replace(
        frames,
        names=tuple(frames.names[i] for i in kept),
        paths=tuple(frames.paths[i] for i in kept),
        cameras=frames.cameras[np.array(kept)],
    )


@contextmanager
def _opened(frames: Frames, index: int) -> Iterator[Image.Image]:
    """An open image; what goes wrong while it is open is told as its file's fault."""
    path = frames.paths[index]
    try:
        with Image.open(path) as image:
            width, height = image.size
            if width != height and not frames.crop:
                raise InputError(
                    f"{path} is {width} x {height} pixels, not square; crop the frames as their "
                    "labels demand, or take the central square of each with --crop"
                )
            yield image
    except InputError:
        raise
    except Image.UnidentifiedImageError:
        raise InputError(f"{path} is no image that can be read; {_REPLACE}") from None
    except _BROKEN as error:
        reason = getattr(error, "strerror", None) or str(error).split(" <")[0]
        raise InputError(f"{path} cannot be decoded ({reason}); {_REPLACE}") from None


def _rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode.startswith("I;16"):  # Pillow would clip 16 bits to 255 instead of scaling them
        grey = np.round(np.asarray(image, np.float32) / 257).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        flat = Image.alpha_composite(white, layer).convert("RGB")
    else:
        flat = image.convert("RGB")
    flat.info.update({key: image.info[key] for key in ("exif",) if key in image.info})
    return flat
