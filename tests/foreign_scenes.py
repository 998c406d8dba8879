"""Frames with known EG3D labels, written as other programs would, in worlds of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from eg3d_jax.cameras import FFHQ_FOCAL
from inversion.foreign_cameras.export import scene_of_labels
from inversion.frames.colmap import write_colmap
from inversion.frames.scene import Scene
from inversion.frames.transforms import FLIP_AXES, write_transforms
from inversion.similarity import Similarity

SIDE = 32
_INTRINSICS = np.array([FFHQ_FOCAL, 0, 0.5, 0, FFHQ_FOCAL, 0.5, 0, 0, 1])
FORMS = ("transforms", "blender", "instant-ngp", "colmap", "colmap-text", "metashape")


def orbit(yaws, pitches=(0.15, -0.1)) -> dict[str, np.ndarray]:
    """Labels [25] by name of cameras that look at the origin, exact to float64."""
    pitch = np.resize(np.asarray(pitches), len(yaws))
    labels = {}
    for i, (a, b) in enumerate(zip(yaws, pitch, strict=True)):
        away = np.array([np.cos(b) * np.sin(a), np.sin(b), np.cos(b) * np.cos(a)])
        right = np.array([np.cos(a), 0, -np.sin(a)])
        pose = np.eye(4)
        pose[:3] = np.stack([right, np.cross(-away, right), -away, 2.7 * away], -1)
        labels[f"p{i}.png"] = np.concatenate([pose.ravel(), _INTRINSICS])
    return labels


def random_similarity(seed: int) -> Similarity:
    rng = np.random.default_rng(seed)
    return Similarity(
        scale=float(np.exp(rng.uniform(-2, 2))),
        rotation=Rotation.random(random_state=seed).as_matrix(),
        shift=rng.normal(size=3) * 3,
    )


def scene(labels, side=SIDE, moved: Similarity | None = None) -> Scene:
    found = scene_of_labels(Path("labels"), labels, [(side, side)] * len(labels))
    if moved is not None:
        found = replaced(found, cam2world=moved.move(found.cam2world))
    return found


def replaced(given: Scene, **changes) -> Scene:
    return Scene(**{**vars(given), **changes})


def paint(folder: Path, names, side=SIDE) -> None:
    """Pictures of one grey each, by which they are told apart."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        Image.new("RGB", (side, side), (10 * i + 5,) * 3).save(folder / name)


def write_scene(folder: Path, given: Scene, form: str) -> Path:
    """Write a scene in a form, with its pictures; what to give to the program."""
    paint(folder / "images", given.names, round(given.lenses[0].width))
    if form == "transforms":
        write_transforms(folder / "transforms.json", given, below="images")
    elif form in ("blender", "instant-ngp"):
        _write_by_hand(folder, given, form)
    elif form == "metashape":
        (folder / "cameras.xml").write_text(metashape(given))
    else:
        model = folder / "sparse" / "0"
        model.mkdir(parents=True)
        write_colmap(model, given, binary=form == "colmap")
    return folder


def _write_by_hand(folder: Path, given: Scene, form: str) -> None:
    """As Blender's exporters and instant-ngp's colmap2nerf write them."""
    lens = given.lenses[0]
    content = {"camera_angle_x": 2 * np.arctan(lens.width / 2 / lens.fx)}
    if form == "instant-ngp":
        size = {"w": lens.width, "h": lens.height, "fl_x": lens.fx, "fl_y": lens.fy}
        content |= size | {"cx": lens.cx, "cy": lens.cy, "k1": 0.0, "aabb_scale": 16}
    frames = []
    for name, pose in zip(given.names, given.cam2world, strict=True):
        named = f"./images/{name}" if form == "instant-ngp" else f"./images/{Path(name).stem}"
        frames.append(
            {"file_path": named, "rotation": 0.1, "transform_matrix": (pose @ FLIP_AXES).tolist()}
        )
    name = "transforms.json" if form == "instant-ngp" else "transforms_train.json"
    (folder / name).write_text(json.dumps(content | {"frames": frames}))


def metashape(given: Scene, *, calibration: str = "", kind: str = "frame") -> str:
    """Cameras as Metashape 2 exports them, with a similarity of the chunk and one left out."""
    lens = given.lenses[0]
    rows = [
        f'<camera id="{i}" sensor_id="0" component_id="0" label="{Path(name).stem}">'
        f"<transform>{' '.join(map(repr, pose.ravel().tolist()))}</transform></camera>"
        for i, (name, pose) in enumerate(zip(given.names, given.cam2world, strict=True))
    ]
    rows.append('<camera id="99" sensor_id="0" label="not aligned"/>')
    size = f'width="{lens.width:g}" height="{lens.height:g}"'
    return (
        '<?xml version="1.0" encoding="UTF-8"?><document version="2.0.0"><chunk label="c">'
        f'<sensors><sensor id="0" type="{kind}"><resolution {size}/>'
        f'<calibration type="{kind}" class="initial"><resolution {size}/><f>1</f></calibration>'
        f'<calibration type="{kind}" class="adjusted"><resolution {size}/><f>{lens.fx!r}</f>'
        f"<cx>{lens.cx - lens.width / 2!r}</cx><cy>{lens.cy - lens.height / 2!r}</cy>{calibration}"
        "</calibration></sensor></sensors>"
        '<components><component id="0"/></components>'
        f"<cameras><group>{''.join(rows[:2])}</group>{''.join(rows[2:])}</cameras>"
        "<transform><scale>3</scale></transform></chunk></document>"
    )
