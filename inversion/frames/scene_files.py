"""Find and read cameras of other programs, whichever form they have."""

from __future__ import annotations

from pathlib import Path

from eg3d_jax.errors import InputError
from inversion.frames.colmap import find_model, read_colmap
from inversion.frames.labels import LABELS_FILE
from inversion.frames.metashape import find_metashape, read_metashape
from inversion.frames.scene import Scene, with_pictures
from inversion.frames.transforms import TRANSFORMS, read_transforms

FORMS = "a transforms.json, a COLMAP model or Metashape's cameras as XML"


def find_cameras(path: Path) -> Path | None:
    """Find cameras of another program: the file, the folder of a COLMAP model, or None.

    Args:
      path: a folder with pictures, or such a file or model itself. A folder with EG3D's
        `dataset.json` has cameras already.
    """
    if path.is_file():
        return path if path.suffix.lower() in (".json", ".xml") else None
    if not path.is_dir() or (path / LABELS_FILE).is_file():
        return None
    for name in TRANSFORMS:
        if (path / name).is_file():
            return path / name
    return find_model(path) or find_metashape(path)


def home_of(path: Path) -> Path:
    """The folder after which cameras are called: a path's own, or that of a file."""
    return path.resolve() if path.is_dir() else path.resolve().parent


def read_scene(path: Path) -> Scene:
    """Read cameras and find their pictures.

    Args:
      path: see `find_cameras`.

    Raises:
      InputError: if there are no cameras, they are damaged, or pictures are missing.
    """
    found = find_cameras(path)
    if found is None:
        what = "holds no cameras" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}; give a folder with {FORMS}")
    if found.is_dir():
        scene = read_colmap(found)
    elif found.suffix.lower() == ".xml":
        scene = read_metashape(found)
    else:
        scene = read_transforms(found)
    return with_pictures(scene)
