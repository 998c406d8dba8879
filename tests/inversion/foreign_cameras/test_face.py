"""The face in pictures brings their cameras into EG3D's world."""

import numpy as np
import pytest
from foreign_scenes import random_similarity
from synthetic_faces import cameras

from inversion.footage.face_model import load_face_model
from inversion.foreign_cameras.face import from_faces
from inversion.frames.scene import Lens


def pictures(yaw, *, distance=1.0, noise=0.0, seed=0, expressions=0.0):
    """Cameras in EG3D's world at a multiple of its distance, their lenses and landmarks."""
    rng, model = np.random.default_rng(seed), load_face_model()
    truth = cameras(np.asarray(yaw, float), np.linspace(-8, 12, len(yaw)))
    truth[:, :3, 3] *= distance
    focal = 900 * distance
    lenses = [Lens(width=640, height=480, fx=focal, fy=focal, cx=320, cy=240)] * len(yaw)
    moves = rng.normal(size=(len(yaw), len(model.expressions))) * expressions
    faces = model.points + np.tensordot(moves, model.expressions, 1)
    seen = (faces - truth[:, None, :3, 3]) @ truth[:, :3, :3]
    tangents = seen[..., :2] / seen[..., 2:]
    tangents += rng.normal(size=tangents.shape) * noise / focal
    depths = focal * (seen[..., 2] / seen[..., 2].mean(1, keepdims=True) - 1)
    return truth, lenses, tangents, depths


def errors(found, truth):
    """Degrees, and parts of the distance, by which cameras are off."""
    relative = found[:, :3, :3].swapaxes(1, 2) @ truth[:, :3, :3]
    cosine = (np.trace(relative, axis1=1, axis2=2) - 1) / 2
    shift = np.linalg.norm(found[:, :3, 3] - truth[:, :3, 3], axis=-1)
    distance = np.linalg.norm(truth[:, :3, 3], axis=-1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1))).max(), (shift / distance).max()


@pytest.mark.parametrize("distance", [1.0, 0.6, 3.0])
@pytest.mark.parametrize(
    ("noise", "expressions", "most"),
    [
        # From 0.6 of the distance the first guess is worst, and the rounds leave 0.3 degrees of it.
        (0.0, 0.0, 0.4),
        # Five pictures' mean expression is part of the person's face, and pixels are coarse: 2.5 of
        # a window of 512. The bar is a degree or two.
        (1.0, 0.3, 2.0),
    ],
)
def test_cameras_of_any_world_are_those_that_saw_the_face(distance, noise, expressions, most):
    truth, *seen = pictures(
        [-45, -20, 0, 15, 40], distance=distance, noise=noise, expressions=expressions
    )
    moved = random_similarity(round(10 * distance)).move(truth)
    found = from_faces(moved, *seen)
    assert found is not None
    assert found.used.all()
    degrees, shift = errors(found.similarity.move(moved), truth)
    assert degrees < most
    assert shift < np.radians(most) + 0.002


def test_a_picture_with_another_face_is_left_out():
    truth, lenses, tangents, depths = pictures([-30, -15, 0, 15, 30])
    tangents[1] = tangents[4] + 0.1
    moved = random_similarity(3).move(truth)
    found = from_faces(moved, lenses, tangents, depths)
    assert found is not None
    assert found.used.tolist() == [True, False, True, True, True]
    degrees, _ = errors(found.similarity.move(moved), truth)
    assert degrees < 0.5


def test_cameras_that_do_not_fit_the_faces_are_not_aligned():
    truth, *seen = pictures([-60, -30, 0, 30, 60])
    assert from_faces(np.linalg.inv(truth), *seen) is None
    assert from_faces(truth[:1], *(part[:1] for part in seen)) is None
