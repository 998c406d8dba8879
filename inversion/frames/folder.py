"""Folders of frames: pictures, labels of `dataset.json`, depth and masks, checked and read."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import warnings
import zlib
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from eg3d_jax.cameras import Cameras, azimuth, from_label, to_label, yaw_azimuth
from eg3d_jax.errors import InputError
from eg3d_jax.folders import sha256
from eg3d_jax.generator import TriPlaneGenerator, ray_range
from inversion.array_files import ALONE, read_arrays
from inversion.files import fingerprint
from inversion.frames.camera_checks import check_cameras
from inversion.frames.camera_files import read_labels
from inversion.frames.labels import LABELS_FILE, join_names, natural_key, plain_name
from inversion.frames.mirror_images import unnamed_mirrors, without_mirrored
from inversion.views import Views, select_evenly

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
# Folder of masks beside the frames, and the grey level from which a pixel is inside.
MASKS, HALF = "mask", 127.5


def mask_name(name: str) -> str:
    """Path of a frame's mask from the folder of frames: a png of the frame's name, in mask/."""
    return (PurePosixPath(MASKS) / name).with_suffix(".png").as_posix()


def picture_files(
    folder: Path, labelled: Collection[str], copies: Collection[str] = ()
) -> dict[str, Path]:
    """Match the pictures of a folder to its labels.

    Pictures that all lie one folder below their names are taken from there, with a warning, if
    there is one such folder.

    Args:
      folder: of the pictures; those in folders below count if labels name any such.
      labelled: names of the labels, in one way of writing (`plain_name`).
      copies: names of pictures that are left out.

    Returns:
      Paths by name, in natural order of the names.

    Raises:
      InputError: unless there is one label for each picture, and one picture for each label; saying
        where the pictures are, or what they are called, if that can be seen.
    """
    _check_inside(folder, labelled)
    found = _pictures(folder, nested=any("/" in name for name in [*labelled, *copies]))
    masks = [name for name in found if name.startswith(f"{MASKS}/") and name not in labelled]
    found = {name: path for name, path in found.items() if name not in masks}
    if not found.keys() & set(labelled):
        found = _from_below(folder, labelled) or found
    found = {name: path for name, path in found.items() if name not in copies}
    unlabelled, missing = set(found) - set(labelled), set(labelled) - set(found)
    if unlabelled or missing:
        hint = _hint(folder, unlabelled, missing)
        if not found:
            advice = hint or "put png, jpg or webp images there"
            raise InputError(f"{folder} holds no frames; {advice}")
        parts = [f"no label for {join_names(unlabelled)}"] if unlabelled else []
        parts += [f"no image for {join_names(missing)}"] if missing else []
        raise InputError(
            f"{folder / LABELS_FILE} has {len(labelled)} labels for {len(found)} images: "
            f"{'; '.join(parts)}; {hint or 'give every image one label of exactly its name'}"
        )
    return {name: found[name] for name in sorted(found, key=natural_key)}


def _check_inside(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        parts = PurePosixPath(name)
        if name.startswith("/") or re.match("[A-Za-z]:/", name) or ".." in parts.parts:
            raise InputError(
                f"{folder / LABELS_FILE} names {name}, which is not below {folder}; name pictures "
                f"by their path from there, such as {parts.name}"
            )


def _pictures(folder: Path, *, nested: bool) -> dict[str, Path]:
    """List pictures in a folder, and below it if asked for, by their path from it."""
    return {
        plain_name(path.relative_to(folder).as_posix()): path
        for path in (folder.rglob("*") if nested else folder.iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    }


def _from_below(folder: Path, labelled: Collection[str]) -> dict[str, Path]:
    """Take the pictures of the labelled names from the one folder below that has them all."""
    nested = any("/" in name for name in labelled)
    below = {sub.name: _pictures(sub, nested=nested) for sub in _folders(folder)}
    whole = [name for name, found in below.items() if set(labelled) <= found.keys()]
    if len(whole) > 1:
        raise InputError(
            f"{folder} has pictures of the labelled names in {join_names(f'{n}/' for n in whole)}; "
            f"copy {LABELS_FILE} into the one that is meant, and give that folder"
        )
    if not whole:
        return {}
    warnings.warn(
        f"{folder}: the pictures that {LABELS_FILE} names lie in {whole[0]}/, and are taken from "
        "there",
        stacklevel=2,
    )
    return below[whole[0]]


def _hint(folder: Path, unlabelled: Collection[str], missing: Collection[str]) -> str:
    """Suggest how labels and pictures that do not match may be meant."""
    below = {sub.name: _pictures(sub, nested=False).keys() for sub in _folders(folder)}
    counts = {name: len(names & set(missing)) for name, names in below.items()}
    if any(counts.values()):
        name = max(counts, key=counts.__getitem__)
        return (
            f"{name}/ holds {counts[name]} of these {len(missing)} images: put images and labels "
            "of one set into one folder"
        )
    last = {PurePosixPath(name).name: name for name in missing if "/" in name}
    if last and len(last) == len(missing) and all((folder / name).is_file() for name in last):
        name = min(last, key=natural_key)
        return f"{last[name]} lies in {folder} as {name}: leave the folder out of the labels' names"
    if missing and _by_stem(missing).keys() == _by_stem(unlabelled).keys():
        stem = min(_by_stem(missing), key=natural_key)
        return (
            f"only endings differ, {_by_stem(missing)[stem]} is labelled and "
            f"{_by_stem(unlabelled)[stem]} is there: name the labels exactly as the images"
        )
    other = sorted((name for name in missing if (folder / name).is_file()), key=natural_key)
    if other:
        return f"{other[0]} is there, but is no png, jpg or webp: convert the images"
    return ""


def _by_stem(names: Iterable[str]) -> dict[str, str]:
    """Group names by their lower-case stem, without the ending of a picture."""
    suffix = re.compile(r"\.(png|jpe?g|webp|bmp|tiff?)$", re.IGNORECASE)
    return {suffix.sub("", name).lower(): name for name in names}


def _folders(folder: Path) -> list[Path]:
    return sorted(
        p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name != MASKS
    )


def read_truth(folder: Path, key: str, num_frames: int) -> np.ndarray | None:
    """Read one map a frame, of `folder`/KEY.npz if there is such a file.

    Args:
      folder: of the frames.
      key: 'depth' or 'mask'.
      num_frames: T.

    Returns:
      [T, S, S] float32 depths, or whether the head is there.

    Raises:
      InputError: naming the file, what is wrong and what to do.
    """
    path = folder / f"{key}.npz"
    if not path.exists():
        return None
    values = _array(path, key)
    square = values.ndim == 3 and values.shape[1] == values.shape[2] > 0
    if not square or len(values) != num_frames or values.dtype.kind not in "fiub":
        raise InputError(
            f"{path}: {key} is {values.dtype} {list(values.shape)}; it must be numbers "
            f"[{num_frames}, side, side], one square map per frame"
        )
    if not np.isfinite(values).all():
        raise InputError(f"{path}: {key} holds numbers that are not finite; use 0 where empty")
    if key == "depth":
        return values.astype(np.float32)
    # The outline is at half opacity, of floats and of eight bits.
    return values >= (HALF if values.max(initial=0) > 1 else 0.5)


def _array(path: Path, key: str) -> np.ndarray:
    arrays = read_arrays(path)
    if ALONE in arrays:
        raise InputError(f"{path} is a lone array, no archive; write it by numpy.savez")
    if key not in arrays:
        raise InputError(f"{path} has no array named {key}; save it under that name")
    return arrays[key]


# Errors of Pillow for files that are cut, damaged, too large or no images at all.
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
      mask: [T, S, S] true where the head is, or head and body; or None.
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

    def __getitem__(self, index: slice | np.ndarray) -> Frames:
        """Select frames by a slice, or by indices [n]."""
        chosen = np.arange(len(self))[index]
        return replace(
            self,
            names=tuple(self.names[i] for i in chosen),
            paths=tuple(self.paths[i] for i in chosen),
            cameras=self.cameras[chosen],
            depth=None if self.depth is None else self.depth[chosen],
            mask=None if self.mask is None else self.mask[chosen],
        )

    def evenly(self, count: int) -> Frames:
        """Select `count` frames evenly spaced in yaw; see `inversion.views.select_evenly`.

        Raises:
          InputError: if there are fewer.
        """
        if not 1 <= count <= len(self):
            raise InputError(f"{count} views wanted of {len(self)} frames in {self.folder}")
        return self[select_evenly(azimuth(self.cameras), count)]

    @property
    def yaw_degrees(self) -> np.ndarray:
        """Yaw [T] in degrees in [-180, 180), 0 frontal, positive towards the world's +x."""
        angles = np.degrees(np.asarray(azimuth(self.cameras), np.float64))
        degrees = yaw_azimuth(angles, degrees=True)
        return (degrees + 180) % 360 - 180


def load_frames(
    folder: Path | str,
    generator: TriPlaneGenerator,
    *,
    crop: bool = False,
    min_frames: int = 1,
    decode_all: bool = True,
) -> Frames:
    """Open a folder of frames to be fitted by a generator, fully checked; see `read_frames`."""
    return read_frames(
        folder,
        image_side=generator.config.image_side,
        crop=crop,
        min_frames=min_frames,
        box_side=generator.config.render.box_warp,
        ray_range=ray_range(generator),
        decode_all=decode_all,
    )


def read_frames(
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
        to 1 or 255, inside from half of that); or masks as pictures, `mask/NAME.png` for every
        frame NAME, inside where light.
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
    if truth["mask"] is None:
        truth["mask"] = _read_masks(frames)
    return replace(frames, **truth)


def _read_masks(frames: Frames) -> np.ndarray | None:
    """Read the pictures in mask/ at the size of the frames; None if no frame has one.

    Raises:
      InputError: if a mask is missing, damaged or not square.
    """
    paths = tuple(frames.folder / mask_name(name) for name in frames.names)
    missing = [path for path in paths if not path.is_file()]
    if len(missing) == len(paths):
        return None
    if missing:
        raise InputError(
            f"{missing[0]} is missing, but {len(paths) - len(missing)} of {len(paths)} frames have "
            f"a mask; put it there, or remove the folder {MASKS}"
        )
    masks = replace(frames, paths=paths)
    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(lambda i: _read_mask(masks, i), range(len(paths)))))


def _read_mask(masks: Frames, index: int) -> np.ndarray:
    with _opened(masks, index) as file:
        image = _rgb(file).convert("L")
    return np.asarray(_square(image, masks.image_side, Image.Resampling.BILINEAR)) >= HALF


def make_new_folder(folder: Path) -> Path:
    """Make a folder for frames.

    Raises:
      InputError: if it holds files already.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} holds files already; choose a new or empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def save_frame(folder: Path, name: str, pixels: np.ndarray, mask: np.ndarray | None) -> None:
    """Write a frame uint8 [S, S, 3] as png, and its mask uint8 [S, S] where masks are read."""
    Image.fromarray(pixels).save(folder / name, compress_level=3)
    if mask is not None:
        path = folder / mask_name(name)
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(mask).save(path)


def check_masks(frames: Frames | Views, indices: Iterable[int]) -> None:
    """Refuse frames without masks, or with empty ones among those of `indices`.

    Raises:
      InputError: if there are such.
    """
    named = isinstance(frames, Frames)
    if frames.mask is None:
        where = f"{frames.folder} has" if named else "the views have"
        raise InputError(
            f"{where} no masks, which mask_background needs; `eg3d-jax prepare --mask` finds them "
            "in footage, and of other frames they may lie beside as mask/NAME.png"
        )
    empty = [int(i) for i in indices if not np.asarray(frames.mask[i]).any()]
    if empty:
        name = f"{frames.folder}: {frames.names[empty[0]]}" if named else f"view {empty[0]}"
        raise InputError(
            f"{name} has an empty mask, so that mask_background leaves nothing of it; mend the "
            "mask or remove the frame"
        )


def resized_masks(masks: np.ndarray, side: int) -> np.ndarray:
    """Bring masks bool [n, S, S] to another side, inside where half of a pixel is."""
    if masks.shape[-1] == side:
        return masks
    grey = (Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))) for mask in masks)
    return np.stack([np.asarray(_square(g, side, Image.Resampling.BILINEAR)) >= HALF for g in grey])


def check_images(frames: Frames, indices: Iterable[int], *, decode: bool = True) -> None:
    """Check that images open, and that they decode unless told otherwise.

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
    """Read one frame as float32 [S, S, 3] in [-1, 1], S = `frames.image_side`.

    Greyscale becomes RGB, transparency is laid on white, photographs are turned upright by their
    orientation tag, and other sizes are resampled by Lanczos' filter.

    Raises:
      InputError: if the image is damaged, or not square without `frames.crop`.
    """
    with _opened(frames, index) as file:
        image = ImageOps.exif_transpose(_rgb(file))
    image = _square(image, frames.image_side, Image.Resampling.LANCZOS)
    return np.asarray(image, np.float32) / np.float32(255) * np.float32(2) - np.float32(1)


def _square(image: Image.Image, side: int, filter_: Image.Resampling) -> Image.Image:
    """Resize the central square of an image."""
    if image.size == (side, side):
        return image
    left, top = ((length - min(image.size)) // 2 for length in image.size)
    box = (left, top, left + min(image.size), top + min(image.size))
    return image.crop(box).resize((side, side), filter_)


def read_images(frames: Frames, indices: Iterable[int]) -> np.ndarray:
    """Read frames as float32 [n, S, S, 3] in [-1, 1]; see `read_image`."""
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
    """Open an image; errors while it is open are reported as its file's."""
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


def labels_fingerprint(frames: Frames) -> str:
    """Fingerprint of the frames' cameras."""
    return fingerprint({"labels": np.asarray(to_label(frames.cameras))})


def pictures_fingerprint(frames: Frames) -> str:
    """Fingerprint of the frames' names and image files, as they are on disk."""
    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        digests = pool.map(sha256, frames.paths)
        named = json.dumps(list(zip(frames.names, digests, strict=True)))
    return hashlib.sha256(named.encode()).hexdigest()


def truth_fingerprint(frames: Frames) -> str | None:
    """Fingerprint of the depth and mask beside the frames; None if there are none."""
    known = {"depth": frames.depth, "mask": frames.mask}
    found = {name: array for name, array in known.items() if array is not None}
    return fingerprint(found) if found else None
