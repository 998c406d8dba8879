"""The page of a head: a splat, a viewer of splats and what they need, in one HTML file.

The viewer is gsplat.js (viewer/README.md). It keeps covariances as half floats, of which the
smallest normal one is 6e-5, so that the page has its own unit: a twentieth of a world unit.
"""

from __future__ import annotations

import base64
import html
import json
import math
import re
from dataclasses import dataclass
from importlib.resources import files

from eg3d_jax.config import GeneratorConfig
from inversion.splats.files import splat_bytes
from inversion.splats.gaussians import Gaussians

_UNITS_A_WORLD_UNIT = 20.0
_NEAREST, _FARTHEST = 0.45, 1.8  # of the camera, over its first distance
_BEYOND = math.radians(5)  # what was fitted still looks right a little farther on


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a page shows beside the splat.

    Attributes:
      title: of the page.
      caption: a line below the head.
      note: a smaller one: where it comes from, and its licence.
      max_yaw: how far the camera turns to either side, radians.
      max_pitch: how far up and down, radians.
    """

    title: str
    caption: str
    note: str
    max_yaw: float
    max_pitch: float


def page(gaussians: Gaussians, config: GeneratorConfig, scene: Scene) -> str:
    """Write the page: HTML that asks for no other file, and no network.

    Args:
      gaussians: of the head.
      config: of its generator, whose camera and background the page has.
      scene: texts, and how far the head turns.
    """
    folder = files("experiments.page") / "viewer"
    part = {
        name: (folder / name).read_text(encoding="utf-8")
        for name in ("page.html", "page.js", "workers.js", "gsplat.js", "LICENSE")
    }
    white = config.render.white_background
    settings = {
        "distance": config.camera_radius * _UNITS_A_WORLD_UNIT,
        "nearest": config.camera_radius * _UNITS_A_WORLD_UNIT * _NEAREST,
        "farthest": config.camera_radius * _UNITS_A_WORLD_UNIT * _FARTHEST,
        "focal": config.focal,
        "maxYaw": min(scene.max_yaw + _BEYOND, math.pi),
        "maxPitch": min(scene.max_pitch + _BEYOND, math.radians(89)),
        "background": [255, 255, 255] if white else [0, 0, 0],
    }
    values = {
        "title": html.escape(scene.title),
        "caption": html.escape(scene.caption),
        "note": html.escape(scene.note),
        "background": "#ffffff" if white else "#000000",
        "ink": "#1d2127" if white else "#e4e7eb",
        "licence": f"The viewer below, gsplat.js 1.2.9 (npm gsplat):\n\n{part['LICENSE']}",
        "scene": json.dumps(settings),
        "splat": base64.b64encode(
            splat_bytes(gaussians.fields(), units_a_world_unit=_UNITS_A_WORLD_UNIT)
        ).decode(),
        "workers": part["workers.js"],
        "viewer": as_constant(part["gsplat.js"], "SPLAT"),
        "page": part["page.js"],
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], part["page.html"])


def as_constant(module: str, name: str) -> str:
    """Turn a JavaScript module into statements that leave its exports in one constant.

    A page has no other file to import from, and a browser imports nothing from an inline script.
    """
    body, mark, exports = module.rpartition("\nexport {")
    names = exports.partition("};")[0]
    assert mark, "the viewer has no list of exports at its end; was it replaced?"
    pairs = (pair.split(" as ") for pair in names.split(",") if pair.strip())
    fields = ", ".join(f"{outer.strip()}: {inner.strip()}" for inner, outer in pairs)
    return f"{body}\nconst {name} = {{ {fields} }};"
