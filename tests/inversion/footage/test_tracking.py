"""Points tracked through pictures, windows that follow a head, and a video solved by them."""

import builtins
from dataclasses import replace

import numpy as np
import pytest
from synthetic_faces import MODEL, cameras, observations, shown, turned_by

from eg3d_jax.cameras import FFHQ_FOCAL
from eg3d_jax.errors import InputError
from inversion.footage.lenses import Lens
from inversion.footage.patches import find_again
from inversion.footage.poses import Poses
from inversion.footage.solve import solve
from inversion.footage.tracking import Tracks, follow, track_points, triangulate
from inversion.footage.windows import Window

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed: pip install 'eg3d-jax[footage]'")


def texture(rng, size: int) -> np.ndarray:
    noise = rng.uniform(0, 255, (size // 4, size // 4)).astype(np.float32)
    return cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC).clip(0, 255)


def moving_pictures(shifts: np.ndarray, size: int = 400) -> list[np.ndarray]:
    """Pictures of a texture whose contents move by shifts [n, 2], pixels."""
    picture = texture(np.random.default_rng(0), size)
    moved = []
    for x, y in shifts:
        matrix = np.array([[1, 0, x], [0, 1, y]], float)
        moved.append(cv2.warpAffine(picture, matrix, (size, size), borderMode=cv2.BORDER_REFLECT))
    return [np.rint(p).astype(np.uint8) for p in moved]


def ring(center: np.ndarray) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 12)
    return center + 60 * np.stack([np.cos(angles), np.sin(angles)], -1)


def test_tracked_points_move_with_the_picture():
    shifts = np.cumsum(np.full((6, 2), [2.3, -1.2]), 0)
    middle = np.array([200.0, 200.0])
    windows = [Window(middle + shift, 220.0) for shift in shifts]
    outlines = [ring(middle + shift) for shift in shifts]
    sizes = np.full((6, 2), 400.0)
    tracks = track_points(moving_pictures(shifts), sizes, windows, outlines)
    assert (np.bincount(tracks.frame) > 50).all()
    start = np.full((tracks.count, 2), np.nan)
    start[tracks.point[::-1]] = (tracks.pixels - shifts[tracks.frame])[::-1]
    drift = np.linalg.norm(tracks.pixels - shifts[tracks.frame] - start[tracks.point], axis=-1)
    # Windows move along, so only the rounding of the crops' grey values is left.
    assert np.median(drift) < 0.05
    assert np.percentile(drift, 95) < 0.3
    # Smaller pictures of the same give the same pixels, to the part of a pixel that is lost.
    half = [
        cv2.resize(g, (200, 200), interpolation=cv2.INTER_AREA) for g in moving_pictures(shifts)
    ]
    reduced = track_points(half, sizes, windows, outlines)
    inside = np.linalg.norm(reduced.pixels - middle - shifts[reduced.frame], axis=-1)
    assert inside.max() < 70


def test_windows_follow_a_face_through_a_gap_from_both_ends():
    shifts = np.stack([20 * np.sin(np.arange(12) / 3), 1.5 * np.arange(12)], -1)
    middle = np.array([200.0, 180.0])
    true = [Window(middle + shift, 200.0) for shift in shifts]
    gap = range(3, 9)
    given = [true[2] if i in gap else true[i] for i in range(12)]
    outlines = [None if i in gap else ring(window.center) for i, window in enumerate(true)]
    sizes = np.full((12, 2), 400.0)
    found = follow(moving_pictures(shifts), sizes, given, outlines)
    off = [np.linalg.norm(a.center - b.center) for a, b in zip(found, true, strict=True)]
    assert max(off) < 1.0
    np.testing.assert_allclose([window.side for window in found], 200, rtol=0.02)


# A ball in a head's place, and its radii.
BALL, RADII = np.array([0, 0.05, 0.05]), np.array([0.22, 0.3, 0.24])


def head_video(yaw: np.ndarray, size: int = 400):
    """Grey pictures of a ball in the head's place, textured by random blobs, and its cameras."""
    rng = np.random.default_rng(1)
    truth = cameras(yaw, np.zeros_like(yaw))
    windows = [Window(np.array([200.0, 200.0]), 360.0)] * len(yaw)
    blobs = rng.standard_normal((500, 3))
    blobs /= np.linalg.norm(blobs, axis=-1, keepdims=True)
    shade = rng.uniform(60, 255, 500)
    ball = BALL + blobs * RADII
    pixels = shown(ball, truth, windows)
    away = truth[:, None, :3, 3] - ball
    seen = (away * blobs / RADII).sum(-1) > 0
    grays = []
    for i in range(len(yaw)):
        picture = np.full((size, size), 30, np.uint8)
        for k in np.flatnonzero(seen[i]):
            x, y = np.rint(16 * (pixels[i, k, :2] - 0.5)).astype(int)
            cv2.circle(picture, (int(x), int(y)), 16 * 4, float(shade[k]), -1, cv2.LINE_AA, 4)
        grays.append(cv2.GaussianBlur(picture, (0, 0), 1.0))
    return grays, truth, windows


def test_points_that_slid_are_found_again_and_in_every_picture_that_shows_them():
    yaw = np.linspace(-40, 40, 17)
    grays, truth, windows = head_video(yaw)
    rng = np.random.default_rng(3)
    normals = rng.standard_normal((150, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    places = BALL + normals * RADII
    pixels = shown(places, truth, windows)[..., :2]
    away = truth[:, None, :3, 3] - places
    facing = (away * normals / RADII).sum(-1)
    facing /= np.linalg.norm(normals / RADII, axis=-1) * np.linalg.norm(away, axis=-1)
    # Each is tracked through eight frames, and slides to and fro by a pixel or so.
    first = rng.integers(0, 9, 150)
    age = np.arange(17)[:, None] - first
    frame, point = np.nonzero((age >= 0) & (age < 8) & (facing > 0.3))
    slid = np.cumsum(rng.normal(scale=0.5, size=(17, 150, 2)), 0)
    pixels = pixels[frame, point] + slid[frame, point]
    tracks = Tracks(frame=frame, point=point, pixels=pixels, count=150)
    rotation = truth[:, :3, :3].swapaxes(-1, -2)
    poses = Poses(
        rotation=rotation,
        translation=-np.einsum("nij,nj->ni", rotation, truth[:, :3, 3]),
        coefficients=np.zeros((17, 0)),
    )
    middle = np.full((17, 2), 200.0)
    lens = Lens(focal=FFHQ_FOCAL * 360, middle=middle, centers=middle, sides=np.full(17, 360.0))
    asked = np.arange(17) != 8
    found = find_again((grays, 2 * middle, windows), tracks, lens, poses, asked)

    def missed(tracks: Tracks) -> tuple[np.ndarray, int]:
        """Pixels between sightings and the points that they agree on, and how many these are."""
        places, known = triangulate(
            tracks, lens.tangents(tracks.pixels, tracks.frame), poses, asked
        )
        of_use = known[tracks.point] & asked[tracks.frame]
        expected = shown(places, truth, windows)[tracks.frame, tracks.point, :2]
        return np.linalg.norm(expected - tracks.pixels, axis=-1)[of_use], int(known.sum())

    (before, count_before), (after, count) = missed(tracks), missed(found)
    assert np.median(after) < 0.3
    assert np.median(after) < 0.5 * np.median(before)
    assert len(after) / count > 1.5 * len(before) / count_before
    assert count > 0.6 * count_before
    # From no known camera nothing can be said.
    nowhere = np.zeros(17, bool)
    assert find_again((grays, 2 * middle, windows), tracks, lens, poses, nowhere) is tracks
    # A picture that was not asked for keeps what was seen in it.
    kept = found.pixels[found.frame == 8]
    distance = np.linalg.norm(kept[:, None] - tracks.pixels[tracks.frame == 8], axis=-1)
    assert len(kept) > 0
    np.testing.assert_allclose(distance.min(1), 0, atol=1e-9)


def turned_video(yaw, read):
    """A film of a head; like the net, its landmarks read so many degrees for all that is more.

    Beyond 70 degrees there are none.

    Returns:
      What is seen in each picture, the true cameras, and those that the landmarks tell of.
    """
    grays, truth, windows = head_video(yaw)
    believed = cameras(np.minimum(yaw, read), np.zeros_like(yaw))
    seen = observations(shown(MODEL.points, believed, windows), 400)
    seen = [
        replace(one, gray=gray, landmarks=None if angle > 70 else one.landmarks)
        for one, gray, angle in zip(seen, grays, yaw, strict=True)
    ]
    return seen, truth, believed


def test_a_head_that_turns_to_the_profile_is_followed_where_landmarks_stop():
    yaw = np.linspace(-30, 78, 28)
    seen, truth, believed = turned_video(yaw, read=50)
    solved = solve(seen, video=True)
    assert "none" not in solved.source
    assert solved.source[-1] == "tracked"
    off = turned_by(solved.cam2world, truth)
    # Landmarks alone would be 28 degrees off at the end. Blobs at the edge are cut by it, which
    # moves their middles by a pixel or so.
    assert np.median(off) < 1.0
    assert off.max() < 4.0
    # Where the landmarks that were given are 10 degrees off and more, tracked points decide.
    beyond = yaw > 60
    assert np.median(turned_by(believed, truth)[beyond]) > 10
    assert np.median(off[beyond]) < 1.0
    radius = np.linalg.norm(solved.cam2world[:, :3, 3], axis=-1)
    np.testing.assert_allclose(radius, 2.7, rtol=0.015)


def test_a_head_that_never_looks_at_the_camera_is_followed_from_its_least_turn():
    seen, truth, _ = turned_video(np.linspace(40, 88, 28), read=60)
    solved = solve(seen, video=True)
    assert "none" not in solved.source
    assert solved.source[-1] == "tracked"
    off = turned_by(solved.cam2world, truth)
    assert np.median(off) < 3.0
    assert off.max() < 6.0  # by landmarks alone, 28 degrees, and none beyond 70


def test_a_video_is_not_silently_solved_by_landmarks_alone():
    seen = observations(np.zeros((5, 468, 3)), 400)
    gray = np.zeros((400, 400), np.uint8)
    seen = [replace(one, gray=None if i in (2, 4) else gray) for i, one in enumerate(seen)]
    with pytest.raises(InputError, match=r"frame 2 of 5 has no gray picture.*1 other.*track=False"):
        solve(seen, video=True)


def test_without_opencv_the_error_names_the_extra(monkeypatch):
    load = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "cv2":
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=r"eg3d-jax\[footage\]"):
        track_points([], np.zeros((0, 2)), [], [])
