"""Faces that are grey squares, the nets that see them and a solver that believes them.

The red of a square says how the head is turned: 127 from the front, one degree a grey level. Its
blue is above 0 where the mirror image would differ.
"""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from inversion.footage import following, prepare
from inversion.footage.landmarks import Face, Landmarks
from inversion.footage.solve import Solved
from inversion.footage.windows import Window

GREEN = 200
GRID = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, 26), np.linspace(-0.5, 0.5, 18)), -1)
GRID = GRID.reshape(-1, 2)


def scene(height=240, width=320, seed=0):
    """A room, of which no pixel is as green as a face."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 150, (12, 16, 3), dtype=np.uint8)
    return coarse.repeat(height // 12, 0).repeat(width // 16, 1)


def with_face(picture, x, y, side=80, yaw=0, hidden=False):
    """The picture with a face, as wide as high less a tenth."""
    picture = picture.copy()
    face = picture[y : y + side, x : x + side - side // 10]
    face[:] = (127 + yaw, GREEN, 90 if hidden else 0)
    face[::4, 1::4, 2] = 150  # detail, for sharpness
    return picture


def squares(pixels):
    """Corners of all faces: low and high ones, [2] each."""
    green = pixels[..., 1] == GREEN
    found = []
    while green.any():
        y, x = np.argwhere(green)[0]
        width = int(np.argmin(np.append(green[y, x:], False)))
        height = int(np.argmin(np.append(green[y:, x], False)))
        found.append((np.array([x, y]), np.array([x + width, y + height])))
        green[y : y + height, x : x + width] = False
    return found


def face_of(low, high):
    side = float((high - low).max())
    return Face(
        center=(low + high) / 2, side=1.5 * side, roll=0.0, score=0.9, keypoints=np.zeros((6, 2))
    )


def find_faces(nets, pixels, *, quarter_turns=0):
    return sorted((face_of(*square) for square in squares(pixels)), key=lambda face: -face.side)


def find_landmarks(nets, pixels, face):
    """The square in the middle of the window; nothing is present without one."""
    for low, high in squares(pixels):
        if (low <= face.center).all() and (face.center <= high).all():
            red, _, blue = pixels[low[1], low[0]].astype(float)
            points = np.empty((468, 3), np.float32)
            points[:, :2] = GRID * (high - low) + (low + high) / 2
            points[:, 2] = red - 127
            gap = 0.05 if blue else 0.006
            return Landmarks(points, presence=1.0, mirror_gap=gap, face=face_of(low, high))
    return Landmarks(np.zeros((468, 3), np.float32), presence=0.0, mirror_gap=0.0, face=face)


def best_turn(nets, pixels):
    """Faces stand on their narrow side: one that is wider than high lies on its side."""
    for low, high in squares(pixels):
        wide = (high - low)[0] > (high - low)[1]
        return replace(face_of(low, high), roll=np.pi / 2 if wide else 0.0)
    return None


def solve(observations, *, video, track=True, progress=None):
    count = len(observations)
    cam2world, windows, source = np.full((count, 4, 4), np.nan), [None] * count, ["none"] * count
    points, residual = np.full((count, 468, 2), np.nan), np.full(count, np.nan)
    for i, observation in enumerate(observations):
        if observation.landmarks is None:
            continue
        found = observation.landmarks
        yaw = np.radians(float(found.points[0, 2]))
        c, s = np.cos(yaw), np.sin(yaw)
        cam2world[i] = [[c, 0, -s, 2.7 * s], [0, -1, 0, 0], [-s, 0, -c, 2.7 * c], [0, 0, 0, 1]]
        windows[i] = Window(center=found.face.center, side=2 * found.face.side / 1.5)
        source[i], residual[i], points[i] = "landmarks", 1.0, found.points[:, :2]
        if progress is not None:
            progress((i + 1) / count)
    return Solved(cam2world, windows, residual, source, np.zeros((468, 3)), points)


class PersonNet:
    """Where it is as green as a face, someone is."""

    graph = SimpleNamespace(side=64)

    def __call__(self, images):
        return ((abs(images[..., 1:2] - GREEN / 255) < 0.02).astype(np.float32),)


def put_in_place(monkeypatch):
    """Put the stubs in the place of nets and solver."""
    for stub in (find_faces, find_landmarks, best_turn):
        monkeypatch.setattr(following, stub.__name__, stub)
    monkeypatch.setattr(following, "steady_landmarks", find_landmarks)
    monkeypatch.setattr(prepare, "load_face_nets", lambda: None)
    monkeypatch.setattr(prepare, "load_person_net", PersonNet)
    monkeypatch.setattr(prepare, "solve", solve)
