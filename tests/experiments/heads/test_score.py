"""The score of held-out heads: its own pictures score best, and the worst heads are shown first."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from drawn_weights import drawn_generator
from PIL import Image

from eg3d_jax import checkpoint
from eg3d_jax.cameras import to_label, yaw_pitch_camera
from experiments.heads.anatomy import Z_DIM
from experiments.heads.network import embedded_config
from experiments.heads.score import Args, main, render_head
from experiments.media.pictures import to_uint8

YAWS = np.linspace(-0.6, 0.6, 3)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Of three heads the first two are what the generator shows, the third the negative of that."""
    folder = tmp_path_factory.mktemp("score")
    usual = embedded_config(Z_DIM)
    render = dataclasses.replace(usual.render, coarse_samples=4, fine_samples=4)
    config = dataclasses.replace(usual, plane_side=8, channel_base=64, w_dim=16, render=render)
    generator = drawn_generator(config)
    checkpoint.save(folder / "generator", generator)
    cameras = yaw_pitch_camera(YAWS, 0 * YAWS)
    z = np.asarray(jax.random.normal(jax.random.key(0), (3, Z_DIM)))
    shown = [render_head(generator, one, cameras) for one in z]
    images = np.stack([to_uint8(out.image) for out in shown])
    images[2] = 255 - images[2]
    opacity, depth = (
        np.stack([np.asarray(getattr(out, name)) for out in shown]).repeat(2, -2).repeat(2, -1)
        for name in ("opacity", "depth")
    )
    np.savez(
        folder / "held_out.npz",
        z=z,
        yaw=np.tile(YAWS, (3, 1)),
        label=np.tile(np.asarray(to_label(cameras)), (3, 1, 1)),
        image128=images,
        opacity128=np.maximum(255 * opacity, 128).astype(np.uint8),  # the head is everywhere
        depth128=depth.astype(np.float32) + 0.01,
    )
    main(Args(data=folder / "held_out.npz", generator=folder / "generator", out=folder / "out"))
    return folder / "out", images


@pytest.mark.slow
def test_scores_are_means_over_heads_and_over_those_of_each_yaw(scored):
    result = json.loads((scored[0] / "scores.json").read_text())
    assert result["heads"] == 3
    assert list(result["by_yaw"]) == ["-34", "0", "34"]
    for name, mean in result["mean"].items():
        values = [scores[name] for scores in result["by_yaw"].values()]
        assert mean == pytest.approx(np.mean(values), rel=1e-5)
    assert result["mean"]["depth_error"] == pytest.approx(0.01, abs=1e-4)


def test_the_worst_head_is_the_first_of_its_sheet(scored):
    out, images = scored
    sheets = [np.asarray(Image.open(out / f"{name}.png")) for name in ("sheet", "worst")]
    first, worst = (sheet[:128, :128] for sheet in sheets)
    np.testing.assert_array_equal(first, images[0, 0])
    np.testing.assert_array_equal(worst, images[2, 0])
