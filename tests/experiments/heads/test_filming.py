"""Raw videos of heads: their truth is that of the pictures."""

import dataclasses

import numpy as np
import pytest

from eg3d_jax.cameras import FFHQ_FOCAL
from eg3d_jax.errors import InputError
from experiments.heads import filming
from experiments.heads.filming import Args, moving_head, truth_of, turn_to
from experiments.subjects import DEMO

ARGS = Args(folder=DEMO, width=320, height=180, seconds=1.0, fps=24)


@pytest.fixture(scope="module")
def take():
    return moving_head(ARGS, np.random.default_rng(0))


def seen(cam2world, focal, middle, point):
    x, y, z = cam2world[:3, :3].T @ (point - cam2world[:3, 3])
    return middle + focal * np.array([x, y]) / z


def test_both_cameras_of_a_picture_see_the_head_in_one_place(take):
    """The picture's own and that of the window: exact in its middle, and near it as near it is."""
    for raw, pose, center, side in zip(
        take.raw, take.cam2world, take.centers, take.sides, strict=True
    ):
        for point, most in ((filming.MIDDLE, 1e-3), (filming.MIDDLE + [0.1, 0.1, 0], 0.02 * side)):
            own = seen(raw, take.focal, np.array([160, 90]), point)
            cut = seen(pose, FFHQ_FOCAL * side, center, point)
            assert np.abs(own - cut).max() < most
        assert np.linalg.norm(pose[:3, 3]) == pytest.approx(2.7)
        for matrix in (raw, pose):
            np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-6)


def test_the_head_turns_from_ear_to_ear(take):
    yaw = [frame["yaw"] for frame in truth_of(take, 24)["frames"]]
    assert len(yaw) == 24
    assert max(yaw) == pytest.approx(90, abs=15)
    assert min(yaw) == pytest.approx(-90, abs=15)


def test_turning_to_a_direction_is_the_smallest_rotation():
    direction = np.array([0.3, -0.2, 1.0])
    turn = turn_to(direction)
    np.testing.assert_allclose(turn @ [0, 0, 1], direction / np.linalg.norm(direction))
    angle = np.arccos(direction[2] / np.linalg.norm(direction))
    assert np.arccos((np.trace(turn) - 1) / 2) == pytest.approx(angle)


def test_a_folder_of_frames_is_pasted_where_its_truth_says():
    _, pictures, truth = filming.film_raw(str(DEMO), ARGS)
    picture, frame = next(pictures), truth["frames"][0]
    assert picture.shape == (180, 320, 3)
    assert len(truth["frames"]) == 60
    assert frame["yaw"] == pytest.approx(-75, abs=0.1)
    # Skin and hair have little green among the room's colours: there is a head in the window.
    x, y = np.round(frame["window"]["center"]).astype(int)
    skin = picture[y - 10 : y + 10, x - 10 : x + 10].reshape(-1, 3).mean(0)
    assert skin[0] > skin[1] > skin[2]


def test_what_is_no_head_is_refused(tmp_path):
    with pytest.raises(InputError, match="--heads nobody is no folder"):
        filming.film_raw("nobody", ARGS)
    with pytest.raises(InputError, match=r"dataset.json|mask.npz|labels"):
        filming.film_raw(str(tmp_path), dataclasses.replace(ARGS))
