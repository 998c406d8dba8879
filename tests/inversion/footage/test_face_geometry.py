"""Poses, windows, the shared face, the lens and the bundle adjustment, on synthetic landmarks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from synthetic_faces import MODEL, cameras, observations, random_people, shown, turned_by

from eg3d_jax.cameras import FFHQ_FOCAL, yaw_pitch_camera
from inversion.footage.adjustment import Anchors, Sightings, Zoom, adjust
from inversion.footage.lenses import Lens, as_eg3d, consistent, in_other_world
from inversion.footage.poses import (
    PIXELS,
    Observed,
    Poses,
    first_poses,
    fit_poses,
    project,
    similarity,
)
from inversion.footage.solve import solve, steady
from inversion.footage.tracking import Tracks, carry_on, pose_from_points, triangulate, turn
from inversion.footage.windows import (
    CENTER,
    RADIUS,
    Window,
    cut,
    part_outside,
    smooth,
    smooth_windows,
    to_pixels,
    to_tangents,
)
from inversion.units import into_world

YAW, PITCH = np.linspace(-35, 35, 8), np.linspace(-12, 12, 8)[::-1]


def windows_of(rng, count: int) -> list[Window]:
    centers = 500 + 60 * rng.standard_normal((count, 2))
    return [Window(c, s) for c, s in zip(centers, rng.uniform(300, 500, count), strict=True)]


def poses_of(cam2world: np.ndarray) -> Poses:
    rotation = cam2world[:, :3, :3].swapaxes(-1, -2)
    translation = -np.einsum("nij,nj->ni", rotation, cam2world[:, :3, 3])
    coefficients = np.zeros((len(rotation), len(MODEL.expressions)))
    return Poses(rotation=rotation, translation=translation, coefficients=coefficients)


def test_face_model_stands_where_eg3ds_heads_do():
    assert MODEL.points.shape == MODEL.normals.shape == (468, 3)
    assert MODEL.shapes.shape[1:] == MODEL.expressions.shape[1:] == (468, 3)
    assert (MODEL.weights > 0).sum() == 33
    np.testing.assert_allclose(MODEL.weights.sum(), 1)
    # The tip of the nose points to the camera, the person's left is the picture's right.
    assert MODEL.points[4, 2] == MODEL.points[:, 2].max()
    assert MODEL.points[263, 0] > 0 > MODEL.points[33, 0]
    assert MODEL.points[10, 1] > MODEL.points[152, 1]  # forehead, chin
    assert MODEL.normals[4, 2] > 0.9
    # Deviations of single points are some millimetres.
    size = np.linalg.norm(MODEL.shapes, axis=-1).max() / 0.02388
    assert 0.1 < size < 1


def test_similarity_is_recovered_exactly_and_never_mirrors():
    rng = np.random.default_rng(0)
    source = rng.standard_normal((5, 20, 3))
    rotation, shift = turn(rng.standard_normal((5, 3))), rng.standard_normal((5, 3))
    scale = rng.uniform(0.5, 2, 5)
    target = scale[:, None, None] * source @ rotation.swapaxes(-1, -2) + shift[:, None]
    found = similarity(source, target, rng.uniform(size=(5, 20)))
    for value, truth in zip(found, (scale, rotation, shift), strict=True):
        np.testing.assert_allclose(value, truth, atol=1e-12)
    mirrored = similarity(source, target * [-1, 1, 1], np.ones((5, 20)))[1]
    np.testing.assert_allclose(np.linalg.det(mirrored), 1)


def fitted(noise: float) -> np.ndarray:
    """Degrees by which the poses of 8 pictures of the mean face are off."""
    rng = np.random.default_rng(1)
    truth, windows = cameras(YAW, PITCH), windows_of(rng, 8)
    pixels = shown(MODEL.points, truth, windows)
    sides = np.array([window.side for window in windows])[:, None, None]
    pixels[..., :2] += noise / 512 * sides * rng.standard_normal((8, 468, 2))
    tangents = to_tangents(pixels, windows)
    observed = Observed(
        points=np.tile(MODEL.points, (8, 1, 1)),
        tangents=tangents[..., :2],
        weights=np.ones((8, 468)),
        reach=np.full((8, 468), 50.0),
    )
    start = first_poses(MODEL.points, tangents, MODEL.weights, 0)
    found = fit_poses(start, observed, np.zeros((0, 468, 3)))
    return turned_by(found.cam2world, truth)


def test_poses_are_exact_without_noise_and_errors_grow_with_it():
    # float32 keeps points to some 1e-7 of their distance of 2.7, and the head is a tenth as large.
    assert fitted(0.0).max() < 1e-3
    small, large = fitted(0.5), fitted(2.0)
    np.testing.assert_allclose(large.mean() / small.mean(), 4, rtol=0.05)
    # 468 points some 100 pixels from the axis: 2 pixels of noise turn it by about
    # 2 / 100 / sqrt(468) radians.
    assert 0.02 < large.mean() < 0.3


def test_photos_by_themselves_give_consistent_windows():
    truth = cameras(np.array([-20.0, 5, 30]), np.array([8.0, -5, 2]))
    windows = windows_of(np.random.default_rng(2), 3)
    solved = solve(observations(shown(MODEL.points, truth, windows)), video=False)
    assert solved.source == ["landmarks"] * 3
    np.testing.assert_allclose(
        np.linalg.norm(solved.cam2world[:, :3, 3], axis=-1), RADIUS, atol=1e-3
    )
    for found, window in zip(solved.windows, windows, strict=True):
        assert found is not None
        # A thousandth of the window; landmarks are float32 pixels, to 6e-5.
        np.testing.assert_allclose(found.center, window.center, atol=1e-3 * window.side)
        np.testing.assert_allclose(found.side, window.side, rtol=1e-3)
    assert turned_by(solved.cam2world, truth).max() < 0.1
    assert solved.residual.max() < 0.1


def test_one_shape_for_all_beats_the_mean_face():
    rng = np.random.default_rng(3)
    person = random_people(MODEL, rng, 1, 1.0)[0]
    scale, rotation, shift = similarity(person, MODEL.points, MODEL.weights)
    person = scale * person @ rotation.T + shift
    truth, windows = cameras(YAW, PITCH), windows_of(rng, 8)
    solved = solve(observations(shown(person, truth, windows)), video=False)
    before = np.linalg.norm(MODEL.points - person, axis=-1).mean()
    assert np.linalg.norm(solved.shape - person, axis=-1).mean() < 0.5 * before
    assert np.median(turned_by(solved.cam2world, truth)) < 1.0
    assert solved.residual.max() < 1.0


def test_frames_without_landmarks_are_none_and_nothing_is_found_in_nothing():
    truth, windows = cameras(YAW, PITCH), windows_of(np.random.default_rng(4), 8)
    seen = observations(shown(MODEL.points, truth, windows))
    seen[3] = replace(seen[3], landmarks=None)
    solved = solve(seen, video=True, track=False)
    assert [i for i, source in enumerate(solved.source) if source == "none"] == [3]
    assert np.isnan(solved.cam2world[3]).all()
    assert solved.windows[3] is None
    assert np.isfinite(np.delete(solved.cam2world, 3, 0)).all()
    nothing = solve([replace(one, landmarks=None) for one in seen], video=True, track=False)
    assert nothing.source == ["none"] * 8
    assert np.isnan(nothing.cam2world).all()


def test_windows_turn_pixels_to_tangents_and_back():
    rng = np.random.default_rng(5)
    windows, pixels = windows_of(rng, 4), 500 + 100 * rng.standard_normal((4, 7, 2))
    np.testing.assert_allclose(to_pixels(to_tangents(pixels, windows), windows), pixels)
    # The window's edge is half a side from its middle, whose tangent is 1 / (2 focal).
    edge = np.array([[windows[0].center + [windows[0].side / 2, 0]]])
    np.testing.assert_allclose(
        to_tangents(edge, windows[:1])[0, 0], [0.5 / FFHQ_FOCAL, 0], atol=1e-12
    )


def test_cut_is_exact_at_the_pictures_own_scale_and_mirrors_its_border():
    pixels = np.random.default_rng(6).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    inside = cut(pixels, Window(np.array([20.0, 15.0]), 10.0), 10)
    np.testing.assert_array_equal(inside, pixels[10:20, 15:25])
    beyond = cut(pixels, Window(np.array([0.0, 15.0]), 10.0), 10)
    np.testing.assert_array_equal(beyond[:, :5], pixels[10:20, :5][:, ::-1])
    assert part_outside(Window(np.array([0.0, 15.0]), 10.0), 30, 40) == 0.5
    assert part_outside(Window(np.array([20.0, 15.0]), 10.0), 30, 40) == 0


def test_smoothing_keeps_a_straight_way_and_brings_a_lone_window_back():
    time = np.arange(30.0)
    straight = np.stack([3 * time, -time], -1)
    np.testing.assert_allclose(smooth(straight, strength=100, reach=1), straight, atol=1e-5)
    windows = [Window(np.array([500 + t, 300.0]), 200.0) for t in time]
    windows[15] = Window(np.array([560.0, 300.0]), 260.0)
    smoothed = smooth_windows(windows, strength=30)
    assert np.abs(smoothed[15].center[0] - 515) < 6  # a tenth of what it was off
    assert abs(smoothed[15].side - 200) < 6
    filled = smooth(straight, strength=1, reach=1, known=(time != 7))
    np.testing.assert_allclose(filled[7], straight[7], atol=1e-4)


def filmed(rng, focal_factor: float = 1.0):
    """A lens, true poses of 24 frames in it, points on a head and their tracks."""
    count = 24
    yaw = np.linspace(-60, 60, count)
    truth = poses_of(cameras(yaw, 5 * np.sin(yaw / 20)))
    windows = windows_of(rng, count)
    middle, sides = np.full((count, 2), 500.0), np.array([window.side for window in windows])
    lens = Lens(
        focal=focal_factor * FFHQ_FOCAL * 400,
        middle=middle,
        centers=np.stack([window.center for window in windows]),
        sides=sides,
    )
    translation = np.array(truth.translation)
    translation[:, 2] *= lens.pixels / PIXELS
    truth = replace(truth, translation=translation)
    directions = rng.standard_normal((150, 3))
    directions[:, 2] = np.abs(directions[:, 2])  # in front, where several frames see them
    points = 0.25 * directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    pixels = lens.project(np.tile(points, (count, 1, 1)), truth)
    # Points are seen from the side they are on.
    away = truth.cam2world[:, :3, 3] / np.linalg.norm(truth.cam2world[:, :3, 3], axis=-1)[:, None]
    frame, point = np.nonzero(away @ directions.T > 0.3)
    tracks = Tracks(frame=frame, point=point, pixels=pixels[frame, point], count=150)
    return lens, truth, points, tracks


def test_lens_projects_what_its_tangents_say_and_windows_are_consistent():
    lens, poses, points, tracks = filmed(np.random.default_rng(7), 0.8)
    tangents = lens.tangents(tracks.pixels, tracks.frame)
    seen = project(np.tile(points, (24, 1, 1)), poses)[tracks.frame, tracks.point]
    np.testing.assert_allclose(tangents, seen, atol=1e-12)
    windows = consistent(lens, poses)
    inside, turned = lens.look_into(windows, poses)
    np.testing.assert_allclose(inside.project(np.tile(points, (24, 1, 1)), turned),
                               lens.project(np.tile(points, (24, 1, 1)), poses))  # fmt: skip
    told = as_eg3d(inside, turned)
    np.testing.assert_allclose(np.linalg.norm(told.cam2world[:, :3, 3], axis=-1), RADIUS)
    middle = np.asarray(told.rotation) @ CENTER + np.asarray(told.translation)
    np.testing.assert_allclose(middle[:, :2], 0, atol=1e-12)


def test_another_worlds_cameras_see_the_head_turned_alike_and_as_large():
    """About the head's middle both see the same, and the other looks at its world's origin."""
    into, rng = into_world("embedded"), np.random.default_rng(0)
    given, middle = cameras(YAW, PITCH), into_world("embedded").move_points(CENTER)
    for pose, window in zip(given, windows_of(rng, len(given)), strict=True):
        other, moved = in_other_world(pose, window, into)
        np.testing.assert_allclose(np.linalg.norm(other[:3, 3]), RADIUS, rtol=1e-9)
        np.testing.assert_allclose(other[:3, :3] @ other[:3, :3].T, np.eye(3), atol=1e-9)
        # From where the camera stands, the origin is straight ahead and the head on the same side.
        np.testing.assert_allclose(other[:3, 2], -other[:3, 3] / RADIUS, atol=1e-9)
        to_camera = other[:3, 3] - middle
        np.testing.assert_allclose(
            to_camera / np.linalg.norm(to_camera),
            into.rotation @ (pose[:3, 3] - CENTER) / np.linalg.norm(pose[:3, 3] - CENTER),
            atol=1e-9,
        )
        around = middle + 0.003 * rng.standard_normal((20, 3))
        before = to_pixels(_seen(pose, into.inverse.move_points(around))[None], [window])[0]
        after = to_pixels(_seen(other, around)[None], [moved])[0]
        # From 2.0 or from 2.7: what is nearer by 0.01 grows by 0.0013 more.
        reach = np.linalg.norm(before - before.mean(0), axis=-1).max()
        np.testing.assert_allclose(after, before, atol=4e-3 * reach)
        there = to_pixels(_seen(pose, CENTER[None])[None], [window])[0, 0]
        np.testing.assert_allclose(
            to_pixels(_seen(other, middle[None])[None], [moved])[0, 0], there
        )


def _seen(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Tangents [K, 2] of points [K, 3] in a camera."""
    inside = (points - pose[:3, 3]) @ pose[:3, :3]
    return inside[:, :2] / inside[:, 2:]


def test_poses_are_carried_on_to_frames_that_only_tracks_reach():
    lens, truth, points, tracks = filmed(np.random.default_rng(8))
    used = np.abs(truth.yaw) < 25
    lost = replace(truth, rotation=np.where(used[:, None, None], truth.rotation, np.eye(3)))
    tangents = lens.tangents(tracks.pixels, tracks.frame)
    poses, reached = carry_on(tracks, tangents, lost, used)
    assert reached.all()
    assert turned_by(poses.cam2world, truth.cam2world).max() < 0.01
    found, known = triangulate(tracks, tangents, poses, reached)
    assert known.mean() > 0.8
    np.testing.assert_allclose(found[known], points[known], atol=1e-4)


def test_too_few_points_reach_no_frame():
    lens, truth, _, tracks = filmed(np.random.default_rng(8))
    few = tracks.point < 11
    tracks = Tracks(
        frame=tracks.frame[few], point=tracks.point[few], pixels=tracks.pixels[few], count=11
    )
    used = np.abs(truth.yaw) < 25
    _, reached = carry_on(tracks, lens.tangents(tracks.pixels, tracks.frame), truth, used)
    np.testing.assert_array_equal(reached, used)


@pytest.mark.parametrize("factor", [0.7, 1.0, 1.4])
def test_adjustment_recovers_cameras_points_and_the_focal_length(factor):
    rng = np.random.default_rng(9)
    lens, truth, points, tracks = filmed(rng, factor)
    # Found so far: EG3D's focal length, poses off by degrees and points by a few per cent.
    start_lens, start = lens.with_focal(FFHQ_FOCAL * 400, truth)
    start = replace(start, rotation=turn(0.03 * rng.standard_normal((24, 3))) @ start.rotation)
    found = points
    for _ in range(3):
        tangents = start_lens.tangents(tracks.pixels, tracks.frame)
        number = len(tangents)
        sightings = Sightings(
            frame=tracks.frame,
            point=tracks.point,
            tangents=tangents,
            weights=np.ones(number),
            reach=np.full(number, 20.0),
        )
        fixed = np.repeat(np.arange(24), 6)
        place = np.tile(points[:6], (24, 1))
        pixels = lens.project(np.tile(points[:6], (24, 1, 1)), truth).reshape(-1, 2)
        anchors = Anchors(
            frame=fixed,
            points=place,
            tangents=start_lens.tangents(pixels, fixed),
            weights=np.full(len(fixed), 0.1),
            reach=np.full(len(fixed), 20.0),
        )
        zoom = Zoom(pixels=start_lens.pixels, weight=1e-3)
        moved = points + 0.01 * rng.standard_normal(points.shape)
        start, found, zoomed = adjust(start, moved, sightings, anchors, zoom, num_steps=15)
        start_lens = replace(start_lens, focal=start_lens.focal * zoomed)
    np.testing.assert_allclose(start_lens.focal, lens.focal, rtol=1e-3)
    assert turned_by(start.cam2world, truth.cam2world).max() < 0.02
    often = np.bincount(tracks.point, minlength=150) >= 4
    assert often.mean() > 0.9
    np.testing.assert_allclose(found[often], points[often], atol=1e-3)


def test_pose_from_points_ignores_those_that_lie_off():
    rng = np.random.default_rng(10)
    truth = poses_of(cameras(np.array([30.0]), np.array([5.0])))
    points = rng.uniform(-0.3, 0.3, (60, 3))
    camera = points @ truth.rotation[0].T + truth.translation[0]
    tangents = camera[:, :2] / camera[:, 2:]
    tangents[:15] += 0.02 * rng.standard_normal((15, 2))  # some 40 pixels
    start = turn(np.array([0.02, 0.05, -0.02])) @ truth.rotation[0]
    rotation, translation, off = pose_from_points(points, tangents, start, truth.translation[0])
    # The quarter that lies off still pulls, by its reach over its distance.
    assert turned_by(rotation[None], truth.rotation).max() < 0.3
    np.testing.assert_allclose(translation, truth.translation[0], atol=0.02)
    assert np.median(off[15:]) < 1 < np.median(off[:15])


# Cameras of a video, steadied.


def film(count=60):
    """Cameras before which a head turns from side to side and nods."""
    time = np.linspace(0, 1, count)
    cameras = yaw_pitch_camera(0.8 * np.sin(5 * time), 0.2 * np.sin(7 * time))
    return np.asarray(cameras.cam2world, float)


def trembling(cam2world, degrees):
    """The same, each turned about the head by a vector of degrees [n, 3]."""
    turn = np.tile(np.eye(4), (len(cam2world), 1, 1))
    turn[:, :3, :3] = Rotation.from_rotvec(degrees, degrees=True).as_matrix()
    return turn @ cam2world


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_errors_independent_from_frame_to_frame_leave_a_video(seed):
    true = film()
    wrong = trembling(true, 0.2 * np.random.default_rng(seed).normal(size=(60, 3)))
    assert turned_by(steady(wrong, MODEL.points), true).mean() < 0.7 * turned_by(wrong, true).mean()


def test_frames_on_both_sides_of_a_gap_have_nothing_to_do_with_each_other():
    wrong = trembling(film(), 0.2 * np.random.default_rng(3).normal(size=(60, 3)))
    wrong[30] = np.nan
    found = steady(wrong, MODEL.points)
    for part in (slice(0, 30), slice(31, 60)):
        np.testing.assert_array_equal(found[part], steady(wrong[part], MODEL.points))
    assert np.isnan(found[30]).all()
    few = wrong[:6]
    np.testing.assert_allclose(steady(few, MODEL.points), few, atol=1e-6)


def test_a_head_that_is_shaken_stays_where_the_pictures_show_it():
    shaken = film()
    shaken[::2, :3, 3] += 0.03 * shaken[::2, :3, 0]
    np.testing.assert_array_equal(steady(shaken, MODEL.points), shaken)
