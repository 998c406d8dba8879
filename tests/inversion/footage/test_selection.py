"""Which frames of footage are kept, and the one reason of each that is not."""

import dataclasses
import math

import numpy as np
import pytest

from inversion.footage.selection import (
    FootageFrame,
    advice,
    by_time,
    is_spare,
    reasons,
    spread_by_yaw,
)
from inversion.footage.windows import Window

USUAL = {"video": True, "max_yaw": 90.0, "fps": None, "count": None, "keep_all": False}


def pose(yaw, pitch=0.0):
    """A camera at so many degrees; only where it stands matters here."""
    yaw, pitch = np.radians([yaw, pitch])
    found = np.eye(4)
    found[:3, 3] = np.cos(pitch) * np.sin(yaw), np.sin(pitch), np.cos(pitch) * np.cos(yaw)
    return found


def frame(index, yaw=0.0, pitch=0.0, **changes):
    usual = FootageFrame(
        index=index,
        source="head.mp4",
        seconds=index / 30,
        turns=0,
        height=1080,
        width=1920,
        window=Window(center=np.array([900.0, 500.0]), side=400.0),
        cam2world=pose(yaw, pitch),
        reached="landmarks",
        residual=1.0,
        sharpness=1.0,
        mirror_gap=0.006,
        presence=1.0,
        hidden=False,
        outside=0.0,
    )
    return dataclasses.replace(usual, **changes)


def clip(count=40, **changes):
    """A head that turns from -40 to 40 degrees; the frame in the middle is changed."""
    frames = [frame(i, yaw) for i, yaw in enumerate(np.linspace(-40, 40, count))]
    frames[count // 2] = dataclasses.replace(frames[count // 2], **changes)
    return frames


NO_POSE = {"window": None, "cam2world": np.full((4, 4), np.nan), "reached": "none"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({**NO_POSE, "presence": 0.1}, "no face was found"),
        ({**NO_POSE, "hidden": True}, "half hidden"),
        (NO_POSE, "could not be tracked"),
        ({"window": Window(center=np.zeros(2), side=127.0)}, "127 pixels of the 128 needed"),
        ({"outside": 0.36}, "36 % of the head's window lie outside"),
        ({"hidden": True}, "the face is hidden, or half of it"),
        ({"presence": 0.1, "reached": "tracked"}, "the face is hidden, or half of it"),
        ({"residual": 4.5}, "do not fit the face: they are 4.5 pixels off, usually 1.0"),
        ({"sharpness": 0.4}, "blurred: 40 % as sharp as the best"),
        ({"cam2world": pose(97)}, "turned by 97 degrees"),
        ({"reason": "before a cut"}, "before a cut"),
    ],
)
def test_each_defect_has_its_reason(changes, reason):
    found = reasons(clip(**changes), **USUAL)
    assert reason in found[20]
    assert not is_spare(found[20])
    assert not any(found[:20] + found[21:])


@pytest.mark.parametrize(
    "changes",
    [
        {"outside": 0.34},
        {"residual": 3.9},
        {"residual": math.nan, "sharpness": math.nan},
        {"cam2world": pose(80), "presence": 0.0, "reached": "tracked", "sharpness": math.nan},
        {"sharpness": 0.5},
        {"window": Window(center=np.zeros(2), side=128.0)},
    ],
)
def test_what_is_good_enough_is_kept(changes):
    assert not any(reasons(clip(**changes), **USUAL))


def test_a_face_from_the_side_is_neither_hidden_nor_blurred():
    """There half of it is out of sight, less detail shows, and landmarks fit less well."""
    frames = [
        frame(
            i, yaw, hidden=yaw > 50, residual=1 + 0.06 * max(yaw - 20, 0), sharpness=1 - yaw / 150
        )
        for i, yaw in enumerate(np.linspace(0, 85, 60))
    ]
    assert not any(reasons(frames, **USUAL))


def test_keep_all_keeps_every_pose():
    frames = clip(outside=0.5, sharpness=0.1, residual=20.0)
    frames[3] = dataclasses.replace(frames[3], **NO_POSE)
    found = reasons(frames, **USUAL | {"keep_all": True})
    assert [i for i, reason in enumerate(found) if reason] == [3]


def test_frames_are_spread_by_yaw_however_long_the_head_rested():
    yaw = np.concatenate([np.zeros(200), np.linspace(0, 60, 61), np.linspace(60, -60, 121)])
    frames = [frame(i, y) for i, y in enumerate(yaw)]
    found = reasons(frames, **USUAL | {"count": 13})
    kept = sorted(frames[i].yaw for i, reason in enumerate(found) if not reason)
    np.testing.assert_allclose(kept, np.linspace(-60, 60, 13), atol=1.0)
    assert all(is_spare(reason) for reason in found if reason)


def test_of_like_frames_the_better_one_is_chosen():
    frames = [frame(i, yaw, sharpness=0.5 + 0.5 * (i % 2)) for i, yaw in
              enumerate(np.repeat([-30, 0, 30], 2))]  # fmt: skip
    assert spread_by_yaw(frames, 3) == {1, 3, 5}
    assert by_time(frames, 15) == {1, 3, 5}


@pytest.mark.parametrize("count", [1, 2, 7, 39, 40, 41])
def test_as_many_are_chosen_as_are_asked_for(count):
    assert len(spread_by_yaw(clip(), count)) == min(count, 40)


def test_usually_sixty_frames_of_a_video_and_all_photos():
    frames = clip(100)
    assert sum(not r for r in reasons(frames, **USUAL)) == 60
    assert not any(reasons(frames, **USUAL | {"video": False}))
    assert sum(not r for r in reasons(frames, **USUAL | {"fps": 3.0})) == 10


@pytest.mark.parametrize(
    ("yaws", "said"),
    [
        (np.linspace(-45, 45, 20), []),
        (np.linspace(-45, 12, 20), ["left cheek beyond 12 degrees: turn the head further to its "
                                    "own right"]),
        (np.linspace(0, 45, 20), ["right cheek at all"]),
        ([-45, -30, -20, 15, 30, 45], ["nothing between -20 and 15 degrees"]),
    ],
)  # fmt: skip
def test_missing_directions_are_told(yaws, said):
    frames = [frame(i, yaw, pitch=10 * (i % 2)) for i, yaw in enumerate(yaws)]
    found = advice(frames)
    for words in said:
        assert any(words in text for text in found), found
    assert bool(found) == bool(said)


def test_one_height_alone_is_told():
    assert (
        "nod a little"
        in advice([frame(i, yaw) for i, yaw in enumerate([-45, -30, -15, 0, 15, 30, 45])])[0]
    )
