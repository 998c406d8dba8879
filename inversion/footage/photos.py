"""Photos as they are meant to be seen, by Pillow."""

from __future__ import annotations

import functools
import io
import math
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

from eg3d_jax.errors import InputError

PHOTOS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
# Known as photos, but not readable.
HEIC = (".heic", ".heif")


def read_photo(path: Path, *, turned: bool = True) -> np.ndarray:
    """Read a photo as uint8 [height, width, 3], sRGB.

    It is turned by its orientation tag, unless told otherwise; colours are brought to sRGB by its
    profile; grey, 16 bits, palettes and CMYK are converted, transparency is laid on white. Of
    several pictures in a file the first is taken.

    Raises:
      InputError: if it cannot be read, naming the file and the reason.
    """
    if path.suffix.lower() in HEIC:
        raise InputError(
            f"{path} is HEIC, which cannot be read here; export it as jpg, or let the phone take "
            "'most compatible' photos"
        )
    try:
        with warnings.catch_warnings():
            # Of photos with more than 89 million pixels; those with twice as many are refused.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                return _srgb(ImageOps.exif_transpose(image) if turned else image)
    except Image.UnidentifiedImageError:
        raise InputError(f"{path} is no picture that can be read; replace or remove it") from None
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; name a photo or video") from None
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, MemoryError,
            Image.DecompressionBombError) as error:  # fmt: skip
        reason = getattr(error, "strerror", None) or str(error).split(" <")[0]
        raise InputError(f"{path} cannot be decoded ({reason}); replace or remove it") from None


def _srgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):  # Pillow would clip 16 bits to 255 instead of scaling them
        grey = np.round(np.asarray(image, np.float32) / 257).astype(np.uint8)
        image = Image.fromarray(grey)
    elif image.mode in ("I", "F"):  # 32 bits without a known range
        values = np.asarray(image, np.float32)
        most = float(values.max(initial=0))
        top = next(top for top in (1.0, 255.0, 65535.0, math.inf) if most <= top)
        scaled = values / (most if math.isinf(top) else top)
        image = Image.fromarray((np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8))
    profile = image.info.get("icc_profile")
    if "A" in image.getbands() or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        image = Image.alpha_composite(white, layer).convert("RGB")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        image = _by_profile(image, profile)
    return np.asarray(image.convert("RGB"))


def _by_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """Bring colours to sRGB; as they are if the profile is of no use."""
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        found = ImageCms.profileToProfile(image, own, _srgb_profile(), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return image if found is None else found


@functools.cache
def _srgb_profile() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
