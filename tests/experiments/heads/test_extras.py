"""Each extra shows where it should, and leaves the rest of the head as it was.

A head of a sequence is rendered with and without its extra, from six sides.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from eg3d_jax.cameras import yaw_pitch_camera
from experiments.heads.anatomy import EXPRESSION
from experiments.heads.extras import EXTRAS
from experiments.heads.scene import Pictures, camera_rays, render
from experiments.heads.sequences import SETS, latents

YAWS, SIDE = (-75, -35, 0, 35, 75, 180), 96
EYES, NOSE_TIP, CHIN = 0.024, -0.035, -0.155  # heights in the box, world units
PAINTED, RAISED = ("birthmark", "scar", "tattoo"), ("headband", "beard")
# Pixels of 96 x 96 that an extra changes, at least, from each of the yaws; 0: at most a few.
SEEN = {
    "birthmark": (0, 20, 90, 140, 120, 0),
    "headband": (700, 600, 500, 600, 700, 600),
    "glasses": (60, 90, 100, 90, 60, 0),
    "scar": (55, 75, 60, 25, 0, 0),
    "beard": (190, 280, 300, 280, 190, 0),
    "tattoo": (150, 180, 170, 130, 100, 150),
}
FEW = 5


@dataclass(frozen=True)
class Pair:
    """Renders of a head as it is and with its extra; where the first is hit, [6, S, S, 3]."""

    plain: Pictures
    dressed: Pictures
    points: np.ndarray

    @property
    def changed(self):
        """[6, S, S] by more than rounding."""
        difference = np.abs(self.plain.image.astype(int) - self.dressed.image)
        return difference.max(-1) > 2

    @property
    def nearer(self):
        """[6, S, S] in how far the surface came towards the camera, world units; 0 where new."""
        both = (self.plain.depth > 0) & (self.dressed.depth > 0)
        return np.where(both, self.plain.depth.astype(float) - self.dressed.depth, 0)


def pose_and_lens():
    cameras = yaw_pitch_camera(np.radians(np.float32(YAWS)), np.zeros(len(YAWS), np.float32))
    return np.asarray(cameras.cam2world), np.asarray(cameras.intrinsics[0])


@pytest.fixture(scope="module")
def pairs(maker):
    poses, lens = pose_and_lens()
    directions = np.einsum("bij,hwj->bhwi", poses[:, :3, :3], camera_rays(lens, SIDE))
    made = {}
    for name, sequence in SETS["benchmark"].items():
        z = latents(sequence.seed, np.zeros((1, 8), np.float32))[0]
        plain = render(maker.scene(z), poses, lens, SIDE)
        dressed = render(maker.scene(z, EXTRAS[sequence.extra]), poses, lens, SIDE)
        points = poses[:, None, None, :3, 3] + plain.depth[..., None] * directions
        made[name] = Pair(plain, dressed, points)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", list(EXTRAS))
def test_it_is_seen_from_the_sides_where_it_is(pairs, name):
    counts = pairs[name].changed.sum((1, 2))
    for yaw, count, least in zip(YAWS, counts, SEEN[name], strict=True):
        assert (count >= least) if least else (count <= FEW), (yaw, count)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAINTED)
def test_what_is_painted_changes_neither_depth_nor_mask(pairs, name):
    plain, dressed = pairs[name].plain, pairs[name].dressed
    np.testing.assert_array_equal(dressed.depth, plain.depth)
    np.testing.assert_array_equal(dressed.opacity, plain.opacity)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("birthmark", lambda x, y, z: (x > 0.05) & (np.abs(y - EYES) < 0.12) & (z > 0.09)),
        ("headband", lambda x, y, z: (y > EYES) & (y < EYES + 0.18)),
        ("scar", lambda x, y, z: (x < -0.04) & (np.abs(y - EYES) < 0.15) & (z > 0.14)),
        ("beard", lambda x, y, z: (np.abs(x) < 0.08) & (y < NOSE_TIP) & (z > 0.05)),
        ("tattoo", lambda x, y, z: (y < CHIN + 0.03) | ((x < -0.05) & (y < EYES))),
    ],
)
def test_the_head_is_as_it_was_elsewhere(pairs, name, where):
    """Pixels whose centre hits the plain head far from the extra keep their colour and depth."""
    pair = pairs[name]
    hit = pair.plain.depth > 0
    at = where(*np.moveaxis(pair.points, -1, 0))
    assert not np.any(pair.changed & hit & ~at)
    assert np.all(pair.dressed.depth[hit & ~at] == pair.plain.depth[hit & ~at])
    assert np.any(hit & ~at)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*RAISED, "glasses"])
def test_what_has_a_thickness_comes_nearer_and_covers_more(pairs, name):
    pair = pairs[name]
    assert np.all(pair.dressed.opacity >= pair.plain.opacity)
    assert pair.dressed.opacity.sum(dtype=int) > pair.plain.opacity.sum(dtype=int)
    assert pair.nearer.min() >= -2e-3  # half precision at 2.5
    assert pair.nearer.max() > 4e-3


@pytest.mark.slow
def test_glasses_are_dark_and_leave_what_lies_between_their_tubes(pairs):
    """Where the centre ray meets no tube the depth is the head's own, to the bit."""
    pair = pairs["glasses"]
    tube = pair.nearer > 4e-3
    assert tube[:5].sum((1, 2)).min() > 25
    assert np.quantile(pair.dressed.image[tube].max(-1), 0.5) < 90
    untouched = ~pair.changed
    np.testing.assert_array_equal(pair.dressed.depth[untouched], pair.plain.depth[untouched])
    assert untouched[2, 40:60, 40:56].mean() > 0.4  # lenses are clear


@pytest.mark.slow
def test_no_expression_moves_the_glasses(maker):
    sequence = SETS["benchmark"]["glasses"]
    z = latents(sequence.seed, np.float32([[0] * 8, [2, 2, 0, 1, 2, 2, 0, 1]]))
    assert not np.array_equal(*z[:, EXPRESSION])
    rest, moved = (maker.anchors(latent) for latent in z)
    for name in ("eyes", "ears", "nose"):
        np.testing.assert_array_equal(getattr(rest, name), getattr(moved, name))


@pytest.mark.slow
def test_the_beard_sinks_with_the_jaw(maker):
    sequence = SETS["benchmark"]["beard"]
    poses, lens = pose_and_lens()
    rows = []
    for jaw in (0.0, 2.2):
        z = latents(sequence.seed, np.float32([[jaw, *[0] * 7]]))[0]
        plain, dressed = (
            render(maker.scene(z, extra), poses[2:3], lens, SIDE).image.astype(int)
            for extra in (None, EXTRAS["beard"])
        )
        changed = np.abs(plain - dressed).max(-1)[0] > 20
        rows.append(np.nonzero(changed)[0].mean())
    assert rows[1] > rows[0] + 1
