import numpy as np
import pytest

from eg3d_jax.cameras import yaw_pitch_camera
from experiments.heads.anatomy import EXPRESSION, IDENTITY, Z_DIM, normalize, sample_latents
from experiments.heads.appearance import Appearance
from experiments.heads.dataset import Args, main, render_shard, training_draws
from experiments.heads.scene import HALF_SIDE, camera_rays, render
from inversion.files import save_arrays


@pytest.fixture(scope="module")
def z():
    return sample_latents(np.random.default_rng(3), 4)


def test_latents_have_mean_square_one_and_come_from_the_seed(z):
    assert z.shape == (4, Z_DIM)
    np.testing.assert_allclose(np.mean(z**2, axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(z, sample_latents(np.random.default_rng(3), 4))
    np.testing.assert_allclose(normalize(3 * z), z, rtol=1e-5)


def test_shards_draw_different_heads():
    first, second = (training_draws(0, i, heads=2, views=3) for i in (0, 1))
    for a, b in zip(first, second, strict=True):
        assert not np.any(a == b)


def test_appearance_is_continuous_and_has_no_green_skin():
    rng = np.random.default_rng(0)
    for latent in sample_latents(rng, 200):
        look = Appearance.from_latent(latent)
        near = Appearance.from_latent(latent + 1e-3 * rng.standard_normal(Z_DIM))
        for name in ("skin", "hair", "lips", "iris", "clothes"):
            colour = getattr(look, name)
            assert np.all((colour >= 0) & (colour <= 1)), name
            np.testing.assert_allclose(getattr(near, name), colour, atol=5e-3)
        assert look.skin[0] > look.skin[1] > look.skin[2]


@pytest.mark.slow
def test_shape_labels_are_tied_left_to_right(maker):
    """Of a vertex and its mirror image the neutral shapes are mirror images."""
    template = maker.model.basis.template
    mirror = np.array([-1, 1, 1], np.float32)
    distance = np.linalg.norm(template[:, None, :] * mirror - template[None, ::9], axis=-1)
    twin = distance.argmin(0)
    paired = distance.min(0) < 1e-5
    assert paired.mean() > 0.9
    neutral = maker.model.neutral(sample_latents(np.random.default_rng(0), 1)[0])
    gap = np.abs(neutral[twin] * mirror - neutral[::9])[paired]
    assert np.quantile(gap, 0.99) < 5e-4  # metres; MakeHuman's targets are not exactly symmetric


@pytest.mark.slow
def test_mesh_is_continuous_in_the_latent(maker, z):
    step = 1e-3 * np.random.default_rng(1).standard_normal(Z_DIM).astype(np.float32)
    moved = np.abs(maker.model.mesh(z[0] + step)[0] - maker.model.mesh(z[0])[0])
    assert 0 < moved.max() < 1e-3


@pytest.mark.slow
def test_expression_leaves_the_neutral_shape_alone(maker, z):
    other = z[0].copy()
    other[EXPRESSION] = z[1][EXPRESSION]
    np.testing.assert_array_equal(maker.model.neutral(other), maker.model.neutral(z[0]))
    assert np.abs(maker.model.mesh(other)[0] - maker.model.mesh(z[0])[0]).max() > 5e-3


@pytest.mark.slow
def test_identity_changes_the_shape_more_than_a_millimetre(maker, z):
    other = z[0].copy()
    other[IDENTITY] = z[1][IDENTITY]
    assert np.abs(maker.model.neutral(other) - maker.model.neutral(z[0])).max() > 1e-3


@pytest.mark.slow
def test_depth_mask_and_image_agree(maker, z):
    """Points at the depth lie in the box, their pixels are covered, uncovered pixels are white."""
    camera = yaw_pitch_camera(np.float32([-0.8, 0.0, 1.3]), np.float32([0.2, 0.0, -0.4]))
    poses, lens = np.asarray(camera.cam2world), np.asarray(camera.intrinsics[0])
    pictures = render(maker.scene(z[2]), poses, lens, 64)
    depth = pictures.depth.astype(np.float32)
    directions = np.einsum("bij,hwj->bhwi", poses[:, :3, :3], camera_rays(lens, 64))
    points = poses[:, None, None, :3, 3] + depth[..., None] * directions
    hit = depth > 0
    assert np.abs(points[hit]).max() < HALF_SIDE + 2e-3  # half precision
    assert pictures.opacity[hit].min() > 0
    assert 0.3 < hit.mean() < 0.6
    assert np.all(pictures.image[pictures.opacity == 0] == 255)
    assert not np.any(hit & (pictures.opacity == 0))


@pytest.mark.slow
def test_shard_is_the_same_when_made_again(maker, tmp_path):
    draws = training_draws(5, 0, heads=1, views=3)
    first, second = (render_shard(maker, *draws, large_views=1) for _ in range(2))
    assert first["image64"].shape == (1, 3, 64, 64, 3)
    assert first["depth128"].shape == (1, 1, 128, 128)
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])
    save_arrays(tmp_path / "train_0000.npz", first)
    with np.load(tmp_path / "train_0000.npz") as saved:
        np.testing.assert_array_equal(saved["image64"], first["image64"])
    assert [path.name for path in tmp_path.iterdir()] == ["train_0000.npz"]


@pytest.mark.slow
def test_processes_write_what_is_missing(maker, tmp_path):
    args = Args(folder=tmp_path, shards=2, heads=1, views=2, large_views=0, held_out=1, workers=2)
    kept = tmp_path / "train_0001.npz"
    kept.write_bytes(b"there already")
    main(args)
    assert kept.read_bytes() == b"there already"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"held_out.npz", "train_0000.npz", "train_0001.npz"}
    expected = render_shard(maker, *training_draws(0, 0, heads=1, views=2), large_views=0)
    with np.load(tmp_path / "train_0000.npz") as shard:
        assert shard["image128"].shape == (1, 0, 128, 128, 3)
        for key, value in expected.items():
            np.testing.assert_array_equal(shard[key], value)
