"""Frames with cameras of other programs, as square pictures with EG3D's cameras.

converted = inversion.convert_frames("nerf_scene")
converted.save("video")
frames = inversion.load_frames("video", generator)

`nerf_scene` holds a transforms.json, a COLMAP model or Metashape's cameras, with the pictures.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from PIL import Image

from eg3d_jax.cameras import Cameras, from_label
from eg3d_jax.errors import InputError
from eg3d_jax.folders import sha256
from inversion.files import write_json
from inversion.footage.following import HIDDEN
from inversion.footage.landmarks import best_turn, find_faces, find_landmarks
from inversion.footage.nets import FaceNets, load_face_nets
from inversion.footage.photos import read_photo
from inversion.footage.selection import PRESENT
from inversion.footage.windows import CENTER, RADIUS
from inversion.foreign_cameras.cuts import (
    Cut,
    cut_of,
    draw,
    is_near,
    is_whole,
    outside,
    to_tangents,
    whole_label,
)
from inversion.foreign_cameras.face import FaceFit, from_faces
from inversion.foreign_cameras.similarity import from_axes
from inversion.frames.camera_checks import check_cameras
from inversion.frames.folder import HALF, make_new_folder, save_frame
from inversion.frames.labels import join_names, plain_name, write_labels
from inversion.frames.scene import Lens, Scene, picture_size
from inversion.frames.scene_files import find_cameras, read_scene
from inversion.monitor import Monitor, counted
from inversion.similarity import IDENTITY, Similarity
from inversion.units import World, into_world
from inversion.views import select_evenly

Alignment = Literal["auto", "face", "cameras", "none"]
CAMERAS_FILE = "cameras.json"
# Pictures in which faces are looked for, spread over all: more tell nothing new.
_MOST_FACES = 60
# A face that this part of the landmarks' pictures do not agree with is told of, pixels of 512.
_ROUGH = 8.0
# Why a frame is not kept though it could be.
SPARE = "others are as good"
# Frames are left out that lie further outside their pictures than this part.
_MOST_OUTSIDE = 0.35


@dataclass(frozen=True, kw_only=True)
class ConversionSettings:
    """How frames with cameras of another world are converted.

    Attributes:
      size: side of the pictures that are cut out, pixels, 16 to 4096.
      frames: how many are kept, evenly spread by yaw; all if None.
      align: by what the cameras are brought into EG3D's world: 'face', landmarks in the pictures;
        'cameras', the point at which they look; 'none', they are there already; 'auto', none if
        they are, the face where one is found, else the cameras.
      front: name of a picture that sees the face from the front, if the cameras align it.
      timestep: of a head that moves, the moment that is taken; the first if None.
      world: in which the face, if it aligns the cameras, lies as it does there; see `units.World`.
    """

    size: int = 512
    frames: int | None = None
    align: Alignment = "auto"
    front: str | None = None
    timestep: int | None = None
    world: World = "eg3d"

    def __post_init__(self):
        if not 16 <= self.size <= 4096:
            raise InputError(f"size is {self.size}; it must be from 16 to 4096 pixels")
        if self.frames is not None and self.frames < 1:
            raise InputError(f"frames is {self.frames}; it must be at least 1")
        if self.front is not None and self.align not in ("auto", "cameras"):
            raise InputError(
                f"front is {self.front}, but align is {self.align}; it is for align cameras"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvertedFrame:
    """One picture with EG3D's camera.

    Attributes:
      file: its name in the folder that is written; empty if it is left out.
      source: what its cameras' file calls it.
      label: [25] EG3D's; NaN if it is left out.
      cut: what is drawn; None for the whole picture.
      lens: of the picture.
      picture: its file.
      mask: light where the head is; None if there is none.
      residual: median distance of landmarks from the face, pixels of 512; None without.
      reason: why it is left out; empty if it is not.
    """

    file: str
    source: str
    label: np.ndarray
    cut: Cut | None
    lens: Lens
    picture: Path
    mask: Path | None
    residual: float | None
    reason: str

    @property
    def yaw(self) -> float:
        """Degrees by which the camera stands towards the world's +x of the face's front."""
        return float(np.degrees(np.arctan2(self.label[3], self.label[11])))

    @property
    def pitch(self) -> float:
        """Degrees by which the camera stands above the head."""
        return float(np.degrees(np.arctan2(self.label[7], np.hypot(*self.label[[3, 11]]))))

    def pixels(self, size: int) -> np.ndarray:
        """The picture: uint8 [size, size, 3]; whole ones come in a size of their own."""
        return self._drawn(_read(self.picture, self.lens), size)

    def mask_pixels(self, size: int) -> np.ndarray | None:
        """The mask: uint8 [S, S], as large as the picture; None if there is none."""
        if self.mask is None:
            return None
        given = Image.fromarray(_read(self.mask, self.lens)).convert("RGB")
        wanted = (round(self.lens.width), round(self.lens.height))
        given = given.resize(wanted, Image.Resampling.BILINEAR) if given.size != wanted else given
        drawn = self._drawn(np.asarray(given), size)[..., 0]
        return np.where(drawn >= HALF, np.uint8(255), np.uint8(0))

    def _drawn(self, pixels: np.ndarray, size: int) -> np.ndarray:
        return pixels if self.cut is None else draw(pixels, self.cut, self.lens, size)


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvertedFrames:
    """Frames whose cameras were brought into EG3D's world; pictures stay in their files.

    Attributes:
      scene: the pictures and cameras as given.
      settings: that were asked for.
      similarity: from the cameras' world into EG3D's.
      method: by what it was found: 'face', 'cameras' or 'none'.
      frames: one for each of the scene, kept or not.
      notes: sentences on what was done, ignored or assumed.
    """

    scene: Scene
    settings: ConversionSettings
    similarity: Similarity
    method: str
    frames: tuple[ConvertedFrame, ...]
    notes: tuple[str, ...]

    @property
    def kept(self) -> tuple[ConvertedFrame, ...]:
        """The k frames that are kept, in order."""
        return tuple(frame for frame in self.frames if frame.file)

    @property
    def cameras(self) -> Cameras:
        """Cameras [k] of the frames that are kept."""
        return from_label(jnp.asarray(np.stack([frame.label for frame in self.kept]), jnp.float32))

    @property
    def world(self) -> World | None:
        """For which generators' world the cameras are; None where no face tells."""
        return self.settings.world if self.method == "face" else None

    @property
    def has_masks(self) -> bool:
        """Whether every frame that is kept has a mask."""
        return all(frame.mask is not None for frame in self.kept)

    def save(self, folder: Path | str, *, monitor: Monitor | None = None) -> None:
        """Write a folder of frames as `load_frames` reads it.

        It gets frame00000.png ... in order, masks in mask/ if every frame has one, EG3D's
        dataset.json, and cameras.json with what was done. The labels are written last: a folder
        without them is not finished.

        Args:
          folder: new or empty.
          monitor: told of every frame; silent if None.

        Raises:
          InputError: if the folder holds files, or a picture cannot be read.
          Stopped: if the monitor asked for it.
        """
        folder, monitor = make_new_folder(Path(folder)), monitor or Monitor()
        with counted(monitor, "cutting out the frames", len(self.kept)) as advance:
            for frame in self.kept:
                mask = frame.mask_pixels(self.settings.size) if self.has_masks else None
                save_frame(folder, frame.file, frame.pixels(self.settings.size), mask)
                advance()
        write_json(folder / CAMERAS_FILE, self.describe())
        write_labels(folder, [frame.file for frame in self.kept], self.cameras)

    def describe(self) -> dict[str, Any]:
        """What cameras.json says: the similarity, notes, and each frame."""
        return {
            "source": self.scene.source,
            "form": self.scene.form,
            "fingerprint": scene_fingerprint(self.scene.source),
            "settings": self.settings,
            "method": self.method,
            "world": self.world,
            "similarity": self.similarity,
            "notes": self.notes,
            "frames": [_described(frame) for frame in self.frames],
        }


def convert_frames(
    source: Path | str,
    settings: ConversionSettings | None = None,
    *,
    monitor: Monitor | None = None,
) -> ConvertedFrames:
    """Bring frames with cameras of another world into EG3D's.

    Args:
      source: a folder with a transforms.json (of NeRF, instant-ngp, nerfstudio, Blender, VHAP), a
        COLMAP model or Metashape's cameras as XML, and the pictures; or such a file itself.
      settings: usual ones if None.
      monitor: told of what is done; silent if None.

    Returns:
      The frames; nothing is written. See `ConvertedFrames.save`.

    Raises:
      InputError: if cameras or pictures are missing or damaged, or the cameras cannot be brought
        there; with the repair.
      Stopped: if the monitor asked for it.
    """
    settings, monitor = settings or ConversionSettings(), monitor or Monitor()
    scene = _one_moment(read_scene(Path(source)), settings.timestep)
    front = _front(scene, settings.front)
    notes = list(scene.notes)
    similarity, method, said, faces = _align(scene, settings, front, monitor)
    notes += said
    moved = similarity.move(scene.cam2world)
    # Where a face tells of the head, its middle is known; where cameras do, they look at it.
    head = np.zeros(3) if method == "cameras" else into_world(settings.world).move_points(CENTER)
    middle = head if settings.world == "eg3d" else np.zeros(3)
    frames, said = _frames(scene, moved, middle, head, faces)
    notes += said
    frames = _chosen(scene, frames, settings.frames)
    unmasked = [frame.source for frame in frames if frame.file and frame.mask is None]
    if unmasked and any(frame.file and frame.mask is not None for frame in frames):
        notes.append(
            f"no masks are taken, as those of {join_names(unmasked)} are not there: it takes all"
        )
    for note in notes:
        monitor.say(note)
    return ConvertedFrames(
        scene=scene,
        settings=settings,
        similarity=similarity,
        method=method,
        frames=frames,
        notes=tuple(notes),
    )


def scene_fingerprint(source: Path) -> str:
    """Hexadecimal SHA-256 of the cameras of a scene and its pictures' names, times and sizes."""
    found = find_cameras(source)
    files = sorted(found.iterdir()) if found is not None and found.is_dir() else [found or source]
    digests = [[path.name, sha256(path)] for path in files if path.is_file()]
    pictures = [p for p in read_scene(source).pictures if p is not None]
    stated = [[str(p), p.stat().st_mtime_ns, p.stat().st_size] for p in pictures]
    return hashlib.sha256(json.dumps([digests, stated]).encode()).hexdigest()


def _one_moment(scene: Scene, timestep: int | None) -> Scene:
    """The pictures of one moment, of a head that moves before several cameras."""
    moments = sorted(set(scene.timesteps))
    if timestep is not None and timestep not in moments:
        known = f"there are {moments[0]} to {moments[-1]}" if moments else "it tells of none"
        raise InputError(f"{scene.source} has no timestep {timestep}; {known}")
    if scene.still:
        raise InputError(
            f"{scene.source}: a head moves before one camera that stands still, which tells "
            "nothing of it; prepare it as footage: prepare_footage takes this folder as a video"
        )
    if len(moments) < 2 or (timestep is None and len(moments) == len(scene)):
        return scene  # the head's motion is in the cameras
    chosen = moments[0] if timestep is None else timestep
    found = scene[np.flatnonzero(np.array(scene.timesteps) == chosen)]
    note = (
        f"the head moves between {len(moments)} timesteps: the {len(found)} pictures of timestep "
        f"{chosen} are taken; --timestep chooses another"
    )
    return replace(found, notes=(*found.notes, note))


def _front(scene: Scene, name: str | None) -> int | None:
    if name is None:
        return None
    wanted = plain_name(name)
    found = [i for i, given in enumerate(scene.names) if wanted in (given, Path(given).name)]
    if len(found) != 1:
        what = "names no picture of" if not found else "names several pictures of"
        raise InputError(
            f"--front {name} {what} {scene.source}; name one, such as {scene.names[0]}"
        )
    return found[0]


def _align(
    scene: Scene, settings: ConversionSettings, front: int | None, monitor: Monitor
) -> tuple[Similarity, str, list[str], dict[int, float]]:
    """Find the similarity; how, what to say of it, and residuals by picture."""
    align, fallback = settings.align, []
    whole = all(map(is_whole, scene.cam2world, scene.lenses))
    if align == "none" or (align == "auto" and front is None and whole and _upright(scene)):
        said = ["the cameras are in EG3D's world already, and are taken as they are"]
        return IDENTITY, "none", said if align == "auto" else [], {}
    if align == "face" or (align == "auto" and front is None):
        found = _by_face(scene, monitor)
        if not isinstance(found, str):
            fit, indices = found
            residuals = dict(zip(indices, fit.residual.tolist(), strict=True))
            similarity = into_world(settings.world).after(fit.similarity)
            return similarity, "face", _told_of_face(fit, similarity), residuals
        if align == "face":
            raise InputError(f"{scene.source}: {found}; --align cameras goes by the cameras alone")
        fallback = [f"{found}: the cameras alone tell where the head is"]
    similarity = from_axes(scene, front=front)
    at = "the mean camera" if front is None else scene.names[front]
    said = [
        *fallback,
        f"aligned by the cameras alone ({_scale(similarity)}): the head's middle is where they "
        f"look, its face is taken to look at {at}, and to fill the pictures as EG3D's crops",
    ]
    return similarity, "cameras", said, {}


def _upright(scene: Scene) -> bool:
    up, position = -scene.cam2world[:, 1, 1].mean(), scene.cam2world[:, :3, 3].mean(0)
    return bool(up > 0.8 and position[2] > 0)


def _scale(similarity: Similarity) -> str:
    return f"lengths times {similarity.scale:.4g}"


def _told_of_face(fit: FaceFit, similarity: Similarity) -> list[str]:
    residual = float(np.median(fit.residual[fit.used]))
    said = [
        f"aligned by the face in {fit.used.sum()} of {len(fit.used)} pictures "
        f"({_scale(similarity)}): landmarks are within {residual:.1f} pixels of it (median, "
        "of 512)"
    ]
    if residual > _ROUGH:
        said.append(
            "landmarks and the given cameras do not agree well: the head may move between the "
            "pictures, or the cameras be rough; refine them (--refine-cameras)"
        )
    return said


def _by_face(scene: Scene, monitor: Monitor) -> tuple[FaceFit, list[int]] | str:
    """Find the similarity by landmarks, and the pictures that have some; or why not."""
    chosen = np.unique(np.linspace(0, len(scene) - 1, _MOST_FACES).round().astype(int))
    nets = load_face_nets()
    indices, tangents, depths = [], [], []
    with counted(monitor, "landmarks", len(chosen)) as advance:
        for i in map(int, chosen):
            path, lens = scene.pictures[i], scene.lenses[i]
            assert path is not None
            points = _landmarks(nets, _read(path, lens))
            if points is not None:
                indices.append(i)
                tangents.append(to_tangents(points[:, :2].astype(np.float64), lens))
                depths.append(points[:, 2].astype(np.float64))
            advance()
    if len(indices) < 2:
        return f"a face was found in {len(indices)} of {len(chosen)} pictures"
    found = from_faces(
        scene.cam2world[indices],
        [scene.lenses[i] for i in indices],
        np.stack(tangents),
        np.stack(depths),
    )
    if found is None:
        return "the faces in the pictures do not agree with the given cameras"
    return found, indices


def _landmarks(nets: FaceNets, pixels: np.ndarray) -> np.ndarray | None:
    """Landmarks [468, 3] of the largest face of a picture; None if half of it is hidden."""
    faces = find_faces(nets, pixels)
    face = faces[0] if faces else best_turn(nets, pixels)
    if face is None:
        return None
    found = find_landmarks(nets, pixels, face)
    return found.points if found.presence >= PRESENT and found.mirror_gap <= HIDDEN else None


def _read(path: Path, lens: Lens) -> np.ndarray:
    """Read a picture as its camera has it, turned by its tag only if the camera is."""
    stored = picture_size(path)
    return read_photo(path, turned=stored != (lens.width, lens.height))


def _frames(
    scene: Scene,
    moved: np.ndarray,
    middle: np.ndarray,
    head: np.ndarray,
    residuals: dict[int, float],
) -> tuple[list[ConvertedFrame], list[str]]:
    """Cut all pictures, or keep them whole; and what to say of it.

    Args:
      scene: n pictures.
      moved: their cameras [n, 4, 4] in the generator's world.
      middle: [3] what its crops have in the middle.
      head: [3] the head's middle.
      residuals: in pixels, of those with a face.
    """
    whole = all(map(is_whole, moved, scene.lenses))
    near = is_near(moved)
    frames = []
    for i, (name, lens, pose) in enumerate(zip(scene.names, scene.lenses, moved, strict=True)):
        cut = None if whole else cut_of(pose, middle, moved_about=None if near else head)
        reason, label = "", np.full(25, np.nan)
        if whole:
            label = whole_label(pose, lens)
        elif cut is None:
            reason = "its camera looks away from the head"
        else:
            label = cut.label
            part = outside(cut, lens)
            if part > _MOST_OUTSIDE:
                reason = f"{100 * part:.0f} % of the head's square lies outside the picture"
        picture = scene.pictures[i]
        assert picture is not None
        frames.append(
            ConvertedFrame(
                file="",
                source=name,
                label=label,
                cut=cut,
                lens=lens,
                picture=picture,
                mask=scene.masks[i] if scene.masks else None,
                residual=residuals.get(i),
                reason=reason,
            )
        )
    said = []
    if whole:
        said.append("pictures are square and filled by the head already, and are kept whole")
    elif not near:
        distances = np.linalg.norm(moved[:, :3, 3], axis=-1)
        said.append(
            f"cameras stand {distances.min():.2f} to {distances.max():.2f} units from the head, "
            f"the generator looks around {RADIUS}: they are told as cameras there that see the "
            "head as large, from the same direction"
        )
    bent = sum(not lens.pinhole for lens in scene.lenses)
    if bent:
        said.append(f"{bent} pictures were straightened by their lens's coefficients")
    left_out = [frame for frame in frames if frame.reason]
    if left_out:
        names = join_names([frame.source for frame in left_out])
        said.append(f"{len(left_out)} pictures do not show the head, and are left out: {names}")
    if len(left_out) == len(frames):
        raise InputError(
            f"{scene.source}: no picture shows the head where its cameras look, "
            f"{frames[0].source} for one: {frames[0].reason}; "
            "check cameras and pictures, or choose another --align"
        )
    return frames, said


def _chosen(
    scene: Scene, frames: Sequence[ConvertedFrame], count: int | None
) -> tuple[ConvertedFrame, ...]:
    """Name the frames that are kept, and check their labels."""
    good = [i for i, frame in enumerate(frames) if not frame.reason]
    if count is not None and count < len(good):
        azimuths = np.radians([90 - frames[i].yaw for i in good])
        good = [good[i] for i in select_evenly(azimuths, count)]
    check_cameras(scene.source, {frames[i].source: frames[i].label for i in good})
    named, kept = [], set(good)
    for i, frame in enumerate(frames):
        if i in kept:
            named.append(replace(frame, file=f"frame{sum(j < i for j in kept):05d}.png"))
        else:
            named.append(replace(frame, reason=frame.reason or SPARE))
    return tuple(named)


def _described(frame: ConvertedFrame) -> dict[str, Any]:
    fields = {f.name: getattr(frame, f.name) for f in dataclasses.fields(frame)}
    cut = None if frame.cut is None else {"turn": frame.cut.turn, "focal": frame.cut.focal}
    angles = {"yaw": frame.yaw, "pitch": frame.pitch} if np.isfinite(frame.label).all() else {}
    return {**fields, "cut": cut, **angles}
