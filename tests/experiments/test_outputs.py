"""What is shown and measured of a finished run is what it says it is."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_inversion
from matplotlib.figure import Figure

from eg3d_jax.config import tiny
from eg3d_jax.generator import Renders
from experiments.compare import pictures
from experiments.invert import outputs
from experiments.report import figures, latent_pictures
from experiments.report.summary import Comparison, MethodResult
from inversion.frames.folder import read_frames
from inversion.latents import Latents
from inversion.methods import Method
from inversion.monitor import Monitor
from inversion.noise_maps import own_noise_maps, with_noise_maps
from inversion.result import Inversion


def renders(depth, opacity, side=16):
    count = len(depth)
    image = np.zeros((count, side, side, 3), np.float32)
    return Renders(image=image, raw=image, depth=np.float32(depth), opacity=np.float32(opacity))


@pytest.mark.parametrize("tuning_steps", [0, 1])
def test_the_latent_alone_is_measured_with_its_noise_maps(monkeypatch, tuning_steps):
    loaded = toy_inversion.NoisyPainter()
    maps = jax.tree.map(lambda x: -x, own_noise_maps(loaded))
    tuned = with_noise_maps(loaded, maps)
    tuned.gain = tuned.gain.replace(jnp.asarray(2.0))
    monkeypatch.setattr(outputs, "render_views", lambda generator, *_: generator)
    monkeypatch.setattr(outputs, "measure_frames", lambda networks, frames, seen, **_: seen)
    stage = SimpleNamespace(num_steps=tuning_steps)
    fitter = SimpleNamespace(
        generator=loaded,
        config=SimpleNamespace(tuning=stage),
        networks=SimpleNamespace(lpips=None),
    )
    method, frames = Method(name="m", frames=np.arange(1)), SimpleNamespace(cameras=None)
    job = SimpleNamespace(method=method, video=SimpleNamespace(name=""))
    fitted = Inversion(latents=None, generator=tuned, noise_maps=maps, cameras=None)
    found = outputs.measure(fitter, job, fitted, frames, str, Monitor())
    gains = {name: float(generator.gain[...]) for name, generator in found.scores.items()}
    assert gains == {"latent": 1.0} | ({"tuning": 2.0} if tuning_steps else {})
    for generator in found.scores.values():
        np.testing.assert_array_equal(generator.backbone.noise_map[...], maps["backbone"])


def test_pictures_say_which_frames_the_last_method_was_fitted_to(frames_folder, tmp_path):
    frames = read_frames(frames_folder, image_side=16)
    seen = renders(np.full((12, 8, 8), 2.7), np.ones((12, 8, 8)))
    items = [
        SimpleNamespace(method=Method(name=name, frames=np.array(fitted)), renders=seen)
        for name, fitted in (("1 view", [4]), ("2 views", [2, 7]))
    ]
    rows = outputs.write_pictures(SimpleNamespace(pictures=tmp_path), frames, items)
    labels = [row.label for row in rows]
    assert len(labels) == 7
    # Of twelve frames from -60 to 60 degrees the third and the eighth.
    assert [label for label in labels if "fitted" in label] == ["-38° (fitted)", "+16° (fitted)"]


def test_dots_of_a_curve_are_at_the_fitted_frames(monkeypatch):
    axes = Figure().subplots(1, 2)
    monkeypatch.setattr(figures, "svg", lambda draw, **_: draw(axes))
    method = MethodResult(
        name="m", fitted=frozenset({0, 3}), tuned=True, psnr=np.arange(4.0), lpips=np.arange(4.0)
    )
    yaw = np.array([30.0, -30.0, 10.0, -10.0])
    figures.yaw_curves(Comparison(yaw_degrees=yaw, methods=[method]))
    for axis in axes:
        (dots,) = (line for line in axis.lines if line.get_marker() == "o")
        assert dots.get_xydata().tolist() == [[-10.0, 3.0], [30.0, 0.0]]


@pytest.mark.parametrize(
    ("unseen", "chosen"),
    [
        (np.isin(np.arange(12), [1, 5, 6]), [1, 5, 6]),
        (np.arange(12) % 2 == 1, [1, 3, 5, 9, 11]),  # evenly, if there are more than five
        (np.zeros(12, bool), [0, 3, 6, 8, 11]),  # of all, if each was fitted
    ],
)
def test_a_comparison_shows_frames_that_no_method_was_fitted_to(
    monkeypatch, frames_folder, tmp_path, unseen, chosen
):
    frames, said = read_frames(frames_folder, image_side=16), []
    monkeypatch.setattr(pictures, "grid", lambda rows, labels, **_: said.append(labels))
    monkeypatch.setattr(pictures, "save_png", lambda *_: None)
    head = pictures.ShownHead(frames=frames, runs=(), unseen=unseen)
    pictures.write_pictures(tmp_path, (), [head])
    yaws = [int(label.split()[-1].rstrip("°")) for label in said[0]]
    np.testing.assert_allclose(yaws, frames.yaw_degrees[chosen], atol=0.5)


def test_maps_of_several_latents_show_how_their_depths_differ(monkeypatch):
    side, config = 16, tiny()
    assert config.image_side == side
    # The second latent's is thinner above, further away at the right, and nothing below.
    depth, opacity = np.full((2, side, side), 2.7), np.ones((2, side, side))
    opacity[1, :4] = 0.5
    depth[1, :, 8:] += 0.06
    opacity[1, 12:] = 0.0

    def seen(generator, latents, cameras):
        picked = np.arange(len(cameras)) % 2
        return renders(depth[picked], opacity[picked])

    monkeypatch.setattr(latent_pictures, "render_views", seen)
    monkeypatch.setattr(latent_pictures, "render_each_in_batches", lambda *args: [seen(*args)])
    w_plus = jnp.arange(2.0)[:, None, None] * jnp.ones((config.num_ws, config.w_dim))
    latents = Latents(w_plus=w_plus, azimuth=jnp.array([1.2, 1.9]))
    fit = Inversion(latents=latents, generator=SimpleNamespace(config=config), cameras=None)
    picture = latent_pictures.latent_pictures(fit).maps[-side:, -side:].astype(int).sum(axis=-1)
    black, white = 0 + 0 + 3, 252 + 253 + 191  # the ends of magma
    assert (picture[:, :8] == black).all()  # all agree
    assert (picture[12:] == black).all()  # nothing there
    # The deviation, 0.03, is the brightest colour's.
    assert (picture[4:12, 8:] >= white - 10).all()
    assert (picture[:4, 8:] > black).all()
    assert (picture[:4, 8:] < white - 100).all()
