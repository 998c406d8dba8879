"""Training of the embedded generator: its draws, and that a stopped run ends as any other."""

import dataclasses
import json
import shutil
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_weights import drawn_generator
from flax import nnx
from PIL import Image

from eg3d_jax import checkpoint
from eg3d_jax.cameras import to_label, yaw_pitch_camera
from eg3d_jax.errors import InputError
from experiments.heads.anatomy import Z_DIM
from experiments.heads.network import embedded_config
from experiments.heads.optimizers import make_optimizer
from experiments.heads.pretrain import SETTINGS_FILE, Args, main
from experiments.heads.score import held_out_sheet
from experiments.heads.training_data import Shards, draw_pictures, draw_rays, pixel_chances

HEADS, VIEWS = 3, 3


def shard():
    """Heads that are discs: red ones in front of the cameras, 2.6 units away."""
    rng = np.random.default_rng(0)
    labels = to_label(yaw_pitch_camera(np.linspace(-0.6, 0.6, VIEWS), np.zeros(VIEWS)))
    arrays = {
        "z": rng.standard_normal((HEADS, Z_DIM)).astype(np.float32),
        "label": np.tile(np.asarray(labels), (HEADS, 1, 1)),
    }
    for side, views in ((64, VIEWS), (128, 1)):
        v, u = (np.mgrid[:side, :side] + 0.5) / side - 0.5
        disc = np.hypot(u, v) < 0.3
        image = np.where(disc[..., None], [200, 40, 40], 255).astype(np.uint8)
        arrays[f"image{side}"] = np.tile(image, (HEADS, views, 1, 1, 1))
        arrays[f"opacity{side}"] = np.tile(np.uint8(255) * disc, (HEADS, views, 1, 1))
        depth = np.where(disc, 2.6, 0).astype(np.float16)
        arrays[f"depth{side}"] = np.tile(depth, (HEADS, views, 1, 1))
    return arrays


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    np.savez(folder / "train_0000.npz", **shard())
    held_out = shard()
    held_out["image128"] = np.repeat(held_out["image128"], VIEWS, axis=1)
    np.savez(folder / "held_out.npz", **held_out)
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A generator of the embedded one's pictures with the fewest layers, to train on."""
    usual = embedded_config(Z_DIM)
    render = dataclasses.replace(usual.render, coarse_samples=4, fine_samples=4)
    config = dataclasses.replace(usual, plane_side=8, channel_base=64, w_dim=16, render=render)
    folder = tmp_path_factory.mktemp("start")
    checkpoint.save(folder, drawn_generator(config), overwrite=True)
    return folder


@pytest.fixture
def shards(data):
    shards = Shards(data)
    shards.refresh()
    return shards


def test_outlines_and_faces_are_drawn_more_often_but_count_as_they_should(shards):
    chance, importance = (np.int32(shards.arrays[0][key][0, 1]) for key in ("chance", "importance"))
    side = 64
    chance, importance = chance.reshape(side, side), importance.reshape(side, side)
    assert (chance[0, 0], importance[0, 0]) == (1, 2)
    # The middle of the frontal disc lies within the face's ball, its border does not.
    assert (chance[32, 32], importance[32, 32]) == (5, 5)
    border = np.flatnonzero(np.diff(chance[32])).max()
    assert chance[32, border - 1] > chance[0, 0]
    # Half of the discs' outline lies outside, where a pixel counts no more than any other.
    outside = shard()["depth64"][0, 1] == 0
    assert np.all(importance[outside] == 2)
    assert chance[outside].max() == 5


def test_weighted_rays_are_a_fair_sample_of_what_counts(shards):
    batch = draw_rays(shards, np.random.default_rng(0), heads=8, views=3, rays=2000)
    weight, hit = batch["weight"], batch["depth"] > 0
    importance = shards.arrays[0]["importance"].astype(float)
    hit_pixels = (shard()["depth64"] > 0).reshape(importance.shape)
    wanted = (importance * hit_pixels).sum() / importance.sum()
    # The mean over 48,000 rays, whose weights differ by a factor of ten, is known to a percent.
    assert (weight * hit).sum() / weight.sum() == pytest.approx(wanted, rel=0.03)


def test_a_ray_has_the_colour_opacity_and_depth_of_its_pixel(shards):
    batch = draw_rays(shards, np.random.default_rng(0), heads=2, views=3, rays=200)
    inside = np.hypot(batch["u"] - 0.5, batch["v"] - 0.5) < 0.3
    np.testing.assert_array_equal(batch["depth"] > 0, inside)
    np.testing.assert_array_equal(batch["opacity"], inside)
    colours = batch["colour"][inside]
    np.testing.assert_allclose(colours, [np.array([200, 40, 40]) / 127.5 - 1] * len(colours))
    np.testing.assert_allclose(batch["colour"][~inside], 1.0)


def test_pictures_come_with_what_is_enlarged(shards):
    pictures = draw_pictures(shards, np.random.default_rng(0), 2)
    assert {key: value.shape[1:] for key, value in pictures.items()} == {
        "z": (Z_DIM,),
        "label": (25,),
        "image": (128, 128, 3),
        "raw": (64, 64, 3),
        "opacity": (128, 128),
    }


def test_no_shards_are_told(tmp_path):
    with pytest.raises(InputError, match=r"experiments\.heads\.dataset"):
        Shards(tmp_path).refresh()


def test_chances_fit_in_a_byte():
    chance, importance = pixel_chances(shard())
    assert chance.dtype == importance.dtype == np.uint8
    assert chance.min() >= 1


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_steps_go_along_the_gradient_and_spare_the_mean_latent(start, name):
    _, trained = nnx.split(checkpoint.load(start))
    gradient = jax.tree.map(lambda x: jax.random.normal(jax.random.key(x.size), x.shape), trained)
    optimizer = make_optimizer(trained, name)
    update, _ = jax.jit(optimizer.update)(gradient, optimizer.init(trained), trained)
    assert not np.any(update["mapping"]["w_avg"][...])

    def size(tree) -> float:
        return float(jnp.sqrt(jnp.mean(jnp.square(tree["kernel"][...]))))

    blocks = update["backbone"]["blocks"]
    # Adam's first step is the sign; Muon's have a mean square of 0.2 if all singular values are 1,
    # which its five Newton-Schulz steps bring to between 0.68 and 1.13.
    wanted, tolerance = {"adam": (1.0, 1e-3), "muon": (0.2, 0.33)}[name]
    within = partial(pytest.approx, rel=tolerance)
    assert size(blocks[1]["conv1"]) == within(wanted)
    # As much of the mapping's kernels, which are a hundred times as large.
    assert size(trained["mapping"]["layers"][1]) == pytest.approx(100.0, rel=0.2)
    assert size(update["mapping"]["layers"][1]) == within(100.0 * wanted)
    superresolution = update["superresolution"]["blocks"][0]
    assert size(superresolution["conv1"]) == within(0.3 * wanted)
    for part in jax.tree.leaves(jax.tree.map(lambda u, g: jnp.sum(u * g), update, gradient)):
        assert part >= 0


@pytest.mark.slow
def test_a_stopped_run_ends_as_one_that_was_not(data, start, tmp_path):
    args = Args(data=data, run=tmp_path / "run", start=start, steps=4, heads=1, views=2, rays=8,
                pictures=0, save_every=2, sheet_every=4)  # fmt: skip
    main(args)
    whole = checkpoint.load(args.run / "generator")
    before = checkpoint.load(start)
    for part in ("backbone", "decoder", "mapping"):
        pairs = zip(jax.tree.leaves(getattr(whole, part)), jax.tree.leaves(getattr(before, part)),
                    strict=True)  # fmt: skip
        assert any(not np.array_equal(*pair) for pair in pairs), part
    assert np.any(whole.mapping.w_avg[...])
    assert whole.origin.metadata["source"]["name"] == "synthetic heads"
    settings = json.loads((args.run / SETTINGS_FILE).read_text())
    assert (settings["steps"], settings["learning_rate"]) == (4, args.learning_rate)
    with (args.run / "log.csv").open() as log:
        assert log.readline().startswith("stage,step,colour,")
        assert log.readline().startswith("training,3,")
    assert list((args.run / "tensorboard").glob("events*"))
    sheet = np.asarray(Image.open(args.run / "sheets" / "step000004.png"))
    with np.load(data / "held_out.npz") as held_out:
        # The generator was written in half precision: a level of 255 here and there.
        np.testing.assert_allclose(sheet, held_out_sheet(whole, held_out), atol=2)
        # A row as the heads are and one as they are generated, for each of them.
        np.testing.assert_array_equal(sheet[:128, :128], held_out["image128"][0, 0])
    assert sheet.shape == (2 * HEADS * 128, VIEWS * 128, 3)
    newest = max((args.run / "state").iterdir(), key=lambda path: path.name)
    shutil.rmtree(newest)
    main(args)
    again = checkpoint.load(args.run / "generator")
    chex.assert_trees_all_equal(nnx.state(again), nnx.state(whole))
