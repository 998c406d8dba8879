"""The mesh of glasses, in closed form; needs none of the extra's packages."""

from collections import Counter

import numpy as np
import pytest

from experiments.heads.glasses import Anchors, glasses, tube

RADIUS = 0.1


def volume(vertices, faces):
    """Positive if the faces of a closed mesh turn counter-clockwise seen from outside."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.einsum("nc,nc->", a, np.cross(b, c)) / 6


def is_closed(vertices, faces):
    """Every edge between two places is run along as often in one direction as in the other."""
    place = np.unique(vertices.round(6), axis=0, return_inverse=True)[1].reshape(-1)
    edges = place[np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])]
    edges = Counter(tuple(edge) for edge in edges.tolist() if edge[0] != edge[1])
    return edges == Counter({(b, a): count for (a, b), count in edges.items()})


@pytest.fixture
def anchors():
    return Anchors(
        eyes=np.array([[0.054, 0.024, 0.165], [-0.054, 0.024, 0.165]]),
        ears=np.array([[0.13, 0.03, 0.04], [-0.13, 0.03, 0.04]]),
        nose=0.205,
    )


@pytest.mark.parametrize("beside", [[1, 0, 0], [-1, 0.4, 0]])
def test_a_straight_tube_is_a_prism(beside):
    path = np.linspace([0, 0, 0], [0, 0, 2], 5)
    vertices, faces, normals = tube(path, beside, RADIUS)
    octagon = 2 * np.sqrt(2) * RADIUS**2
    assert volume(vertices, faces) == pytest.approx(2 * octagon, rel=1e-6)
    assert not is_closed(vertices, np.delete(faces, len(faces) // 2, 0))
    assert is_closed(vertices, faces)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, rtol=1e-6)


def test_a_closed_tube_is_a_torus():
    """Its volume is that of the cross-section times the way of its middle (Pappus)."""
    turn = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    path = np.stack([np.cos(turn), np.sin(turn), 0 * turn], -1)
    vertices, faces, normals = tube(path, [0, 0, 1], RADIUS, closed=True)
    octagon = 2 * np.sqrt(2) * RADIUS**2
    assert volume(vertices, faces) == pytest.approx(2 * np.pi * octagon, rel=1e-3)
    assert is_closed(vertices, faces)
    from_middle = vertices - np.repeat(path, len(vertices) // len(path), axis=0)
    np.testing.assert_allclose(from_middle, RADIUS * normals, atol=1e-9)


def test_glasses_are_closed_and_mirror_images_left_to_right(anchors):
    solid = glasses(anchors)
    assert is_closed(solid.vertices, solid.faces)
    assert volume(solid.vertices, solid.faces) > 0
    mirrored = solid.vertices * np.float32([-1, 1, 1])
    gaps = np.linalg.norm(mirrored[:, None] - solid.vertices, axis=-1).min(1)
    assert gaps.max() < 0.004  # vertices of the two halves lie elsewhere about the same tubes


def test_rims_surround_the_eyes_before_the_face_and_temples_reach_the_ears(anchors):
    vertices = glasses(anchors).vertices
    for eye, ear in zip(anchors.eyes, anchors.ears, strict=True):
        rim = vertices[(vertices[:, 2] > 0.19) & (np.sign(vertices[:, 0]) == np.sign(eye[0]))]
        assert np.all(np.hypot(*(rim[:, :2] - eye[:2]).T) > 0.02)  # nothing before the pupil
        for axis in (0, 1):
            assert rim[:, axis].min() < eye[axis] < rim[:, axis].max()
        assert np.linalg.norm(vertices - ear, axis=-1).min() < 0.01
    rims = vertices[vertices[:, 2] > eye[2] + 0.02]
    assert rims[:, 2].max() > anchors.nose


def test_glasses_grow_with_the_distance_of_the_eyes(anchors):
    wide = Anchors(eyes=1.2 * anchors.eyes, ears=1.2 * anchors.ears, nose=1.2 * anchors.nose)
    np.testing.assert_allclose(glasses(wide).vertices, 1.2 * glasses(anchors).vertices, atol=2e-6)
