"""Viewer page of one client: its controls, its camera, and the thread that draws for it.

Objects of viser are `Any` here; `server.py` alone imports it. No picture is computed here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eg3d_jax.cameras import Cameras, azimuth, yaw_azimuth
from eg3d_jax.errors import InputError
from experiments.media.video import turntable
from experiments.view.draw_thread import DrawThread
from experiments.view.exports import Exports
from experiments.view.geometry import (
    Pose,
    at_radius,
    camera_of,
    nearest_view,
    pose_of,
    within_field,
)
from experiments.view.head import DISPLAYS, Head, Look, on_canvas
from experiments.view.targets import Targets
from inversion.latents import latents_at

# Length of the pyramids that show cameras, world units.
_FRUSTUM_LENGTH = 0.3
# Distance from which the fitted cameras are shown, over their own.
_OUTSIDE = 1.5
# Largest strength of edits to either side, standard deviations.
_FARTHEST = 3.0
# An exported turntable: frames, and radians to either side.
_VIDEO_FRAMES = 96
_VIDEO_YAW = np.radians(70)


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """Head, targets and exports that all pages show.

    Attributes:
      head: the head.
      targets: the views it was fitted to.
      exports: where files go.
      mesh_resolution: samples along each side of an exported mesh's grid.
    """

    head: Head
    targets: Targets
    exports: Exports
    mesh_resolution: int = 128


@dataclass(frozen=True, kw_only=True)
class State:
    """State of the controls and the camera from which a picture is drawn.

    Attributes:
      camera: single.
      part: of the canvas' height that the picture takes.
      look: what the controls say.
      aspect: width over height of the canvas.
    """

    camera: Cameras
    part: float
    look: Look
    aspect: float


class Page:
    """Page of a client, from its connection to `close`."""

    def __init__(self, client: Any, exhibit: Exhibit):
        """Fill the page and start to draw."""
        self._client, self._exhibit = client, exhibit
        focals = [exhibit.head.generator.config.focal, *exhibit.targets.cameras.intrinsics[:, 1, 1]]
        self._shortest_focal = float(min(focals))
        self._place(pose_of(exhibit.head.generator.frontal_camera()))
        self._add_controls()
        self._add_views()
        self._add_exports()
        self._thread = DrawThread(self._state, self._draw, self._present)
        client.camera.on_update(lambda _: self._thread.changed())

    def close(self) -> None:
        """Stop drawing."""
        self._thread.close()

    def _add_controls(self) -> None:
        gui = self._client.gui
        self._display = gui.add_dropdown("Show", DISPLAYS)
        self._truncation = gui.add_slider(
            "Truncation", 0.0, 1.5, 0.05, 1.0, hint="1 as it is, 0 the generator's mean head"
        )
        controls = [self._display, self._truncation]
        latents = self._exhibit.head.latents(Look())
        self._follows, self._yaw = None, None
        if len(latents) > 1:
            degrees = yaw_azimuth(np.degrees(np.asarray(latents.azimuth, np.float64)), degrees=True)
            low, high = float(np.floor(degrees.min())), float(np.ceil(degrees.max()))
            self._follows = gui.add_checkbox("Latent follows the camera", True)
            self._yaw = gui.add_slider(
                "Latent of yaw", low, max(high, low + 1), 1.0, low, hint="degrees", disabled=True
            )
            controls += [self._follows, self._yaw]
        self._edits = []
        if self._exhibit.head.directions:
            with gui.add_folder("Edit"):
                self._edits = [
                    gui.add_slider(name, -_FARTHEST, _FARTHEST, 0.1, 0.0)
                    for name in self._exhibit.head.directions
                ]
        for control in controls + self._edits:
            control.on_update(lambda _: self._controls_changed())

    def _controls_changed(self) -> None:
        if self._follows is not None and self._yaw is not None:
            self._yaw.disabled = self._follows.value
        self._thread.changed()

    def _add_views(self) -> None:
        client, targets = self._client, self._exhibit.targets
        self._target, self._target_shown = None, -1
        if not len(targets.cameras):
            return
        self._frusta = client.scene.add_frame("/views", show_axes=False, visible=False)
        for i in range(len(targets.cameras)):
            pose = pose_of(targets.cameras[i])
            frustum = client.scene.add_camera_frustum(
                f"/views/{i}",
                fov=pose.fov,
                aspect=1.0,
                scale=_FRUSTUM_LENGTH,
                wxyz=pose.wxyz,
                position=pose.position,
                image=targets.pictures[i] if targets.pictures else None,
            )
            frustum.on_click(lambda _, pose=pose: self._place(pose))
        with client.gui.add_folder("Fitted views"):
            self._wants_frusta = client.gui.add_checkbox("Cameras when zoomed out", True)
            self._wants_frusta.on_update(lambda _: self._thread.changed())
            go = client.gui.add_button("Go to the nearest")
            go.on_click(lambda _: self._place(pose_of(targets.cameras[self._nearest()[0]])))
            self._nearest_name = client.gui.add_markdown("")
            if targets.pictures:
                self._target = client.gui.add_image(targets.pictures[0], label="Target")

    def _add_exports(self) -> None:
        with self._client.gui.add_folder("Export"):
            for name, export in (
                ("Picture", self._export_picture),
                ("Turntable video", self._export_video),
                ("Mesh", self._export_mesh),
            ):
                button = self._client.gui.add_button(name)
                button.on_click(lambda _, b=button, e=export: self._export(b, e))

    def _export(self, button: Any, export: Callable[[], Path | list[Path]]) -> None:
        button.disabled = True
        try:
            made = export()
            paths = made if isinstance(made, list) else [made]
            title, body = "Written", ", ".join(str(path) for path in paths)
        except (InputError, OSError) as error:
            title, body = "Not written", str(error)
        finally:
            button.disabled = False
        self._client.add_notification(title, body)

    def _export_picture(self) -> Path:
        picture = self._exhibit.head.picture(self._camera()[0], self._look(), moving=False)
        return self._exhibit.exports.picture(picture)

    def _export_video(self) -> Path:
        head, look = self._exhibit.head, self._look()
        config = head.generator.config
        cameras = turntable(
            _VIDEO_YAW, _VIDEO_FRAMES, radius=config.camera_radius, focal=config.focal
        )
        return self._exhibit.exports.video(head.latents(look), cameras, look.display)

    def _export_mesh(self) -> list[Path]:
        ws = latents_at(self._exhibit.head.latents(self._look()), azimuth(self._camera()[0]))
        return self._exhibit.exports.mesh(ws, self._exhibit.mesh_resolution)

    def _place(self, pose: Pose) -> None:
        camera = self._client.camera
        with self._client.atomic():
            camera.up_direction = (0.0, 1.0, 0.0)
            camera.position = pose.position
            camera.look_at = pose.look_at
            camera.fov = pose.fov

    def _look(self) -> Look:
        fixed = self._yaw is not None and self._follows is not None and not self._follows.value
        return Look(
            display=self._display.value,
            truncation=self._truncation.value,
            yaw=self._yaw.value if fixed and self._yaw is not None else None,
            edits=tuple(slider.value for slider in self._edits),
        )

    def _camera(self) -> tuple[Cameras, float]:
        """Camera to render from, and the part of the canvas' height that its picture takes."""
        camera, config = self._client.camera, self._exhibit.head.generator.config
        seen = camera_of(camera.wxyz, camera.position, camera.fov)
        return within_field(at_radius(seen, config.camera_radius), self._shortest_focal)

    def _nearest(self) -> tuple[int, float]:
        return nearest_view(self._camera()[0], self._exhibit.targets.cameras)

    def _state(self) -> State:
        camera, part = self._camera()
        return State(camera=camera, part=part, look=self._look(), aspect=self._client.camera.aspect)

    def _draw(self, state: State, moving: bool) -> np.ndarray:
        picture = self._exhibit.head.picture(state.camera, state.look, moving=moving)
        return on_canvas(picture, state.aspect, state.part)

    def _present(self, picture: np.ndarray, moving: bool) -> None:
        scene = self._client.scene
        scene.set_background_image(picture, format="jpeg" if moving else "png", jpeg_quality=80)
        if len(self._exhibit.targets.cameras):
            self._present_views()

    def _present_views(self) -> None:
        # From among the cameras, their pictures would hide the head.
        distance = np.linalg.norm(self._client.camera.position)
        outside = distance > _OUTSIDE * self._exhibit.head.generator.config.camera_radius
        self._frusta.visible = bool(self._wants_frusta.value and outside)
        targets, (index, degrees) = self._exhibit.targets, self._nearest()
        self._nearest_name.content = f"Nearest: {targets.names[index]}, {degrees:.0f}° away"
        if self._target is not None and index != self._target_shown:
            self._target.image = targets.pictures[index]
            self._target_shown = index
