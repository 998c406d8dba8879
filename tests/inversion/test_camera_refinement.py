"""All cameras of a folder of frames are refined, told to a monitor, and stopped by it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dot_scene import Dots, Plain, random_motion
from PIL import Image

from eg3d_jax.cameras import to_label, yaw_pitch_camera
from eg3d_jax.errors import InputError
from inversion.camera_refinement.joint import RefinementConfig
from inversion.camera_refinement.motion import CameraPrior, pose_errors, transform
from inversion.camera_refinement.refine import LEAST_SIDE, refine_cameras
from inversion.config import StageConfig
from inversion.frames.folder import read_frames
from inversion.latents import WStatistics
from inversion.monitor import Monitor, Stopped
from inversion.objectives import FeatureNetworks

TRUE = yaw_pitch_camera(jnp.linspace(-0.6, 0.6, 3), jnp.array([0.1, -0.1, 0.0]))
CONFIG = RefinementConfig(
    num_views=2,
    joint=StageConfig(num_steps=6, learning_rate=0.1),
    latent=StageConfig(num_steps=4, learning_rate=0.05),
    align_prior=1e-5,
    latent_prior=0.0,
)
STAGES = {
    "a latent and some cameras": 6,
    "each camera, roughly": 3,
    "the latent of all frames": 4,
    "each camera": 3,
}


class Note(Monitor):
    """Keeps what it is told; asks to stop in one stage."""

    def __init__(self, stop_in=None):
        self.told, self.now, self.stop_in = {}, None, stop_in

    def stages(self, videos, stages, num_steps, done):
        assert (list(videos), list(done)) == ([""], [0])
        self.now = stages[0]
        self.told[self.now] = (num_steps, [])
        return super().stages(videos, stages, num_steps, done)

    def steps(self, video, stage, first, terms):
        assert (video, stage) == ("", self.now)
        lengths = {len(values) for values in terms.values()}
        assert len(lengths) == 1
        self.told[stage][1].append((first, *lengths))

    def stop_requested(self):
        return self.now == self.stop_in


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Dots from three sides, with labels that are a little wrong."""
    folder, dots = tmp_path_factory.mktemp("frames"), Dots()
    labels = np.asarray(to_label(transform(TRUE, random_motion(2, count=3), CameraPrior())))
    for i in range(3):
        seen = dots.render(dots.tri_planes(jnp.zeros((2, 3))), TRUE[i], side=64, draws=None)
        pixels = np.clip(np.asarray(seen.features) * 127.5 + 127.5, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    pairs = [[f"{i}.png", label.tolist()] for i, label in enumerate(labels)]
    (folder / "dataset.json").write_text(json.dumps({"labels": pairs}))
    return read_frames(folder, image_side=64)


def refined(frames, generator=None, **more):
    return refine_cameras(
        generator or Dots(), frames, CONFIG, key=jax.random.key(0),
        networks=FeatureNetworks(lpips=Plain()),
        w_statistics=WStatistics(mean=jnp.zeros(3), std=jnp.ones(())), **more,
    )  # fmt: skip


def test_cameras_of_all_frames_come_nearer_and_every_step_is_told(frames, capsys):
    monitor = Note()
    found = refined(frames, monitor=monitor)
    assert capsys.readouterr() == ("", "")
    (turn, _), (turn_before, _) = (pose_errors(c, TRUE) for c in (found.cameras, frames.cameras))
    assert np.all(turn < turn_before / 2)
    np.testing.assert_array_equal(
        found.cameras.cam2world,
        transform(frames.cameras, found.motion, CONFIG.prior).cam2world,
    )
    assert list(monitor.told) == list(STAGES)
    for name, (num_steps, calls) in monitor.told.items():
        assert num_steps == STAGES[name]
        firsts, counts = zip(*calls, strict=True)
        assert sum(counts) == num_steps
        assert list(firsts) == [sum(counts[:i]) for i in range(len(counts))]


@pytest.mark.parametrize("stage", ["a latent and some cameras", "each camera, roughly"])
def test_a_monitor_stops_it_after_the_steps_just_taken(frames, stage):
    monitor = Note(stop_in=stage)
    with pytest.raises(Stopped):
        refined(frames, monitor=monitor)
    assert list(monitor.told)[-1] == stage
    assert len(monitor.told[stage][1]) == 1


class Broken(Dots):
    """No number is finite."""

    def tri_planes(self, ws):
        return super().tri_planes(ws) * jnp.nan


def test_a_loss_that_is_not_finite_is_told(frames):
    with pytest.raises(InputError, match="the loss is not finite after step 0"):
        refined(frames, Broken())


def test_pictures_are_large_enough_for_lpips(frames):
    class Sides(Plain):
        def features(self, image):
            assert image.shape[0] >= LEAST_SIDE > Dots().config.neural_side
            return super().features(image)

    with pytest.raises(Stopped):
        refine_cameras(
            Dots(), frames, CONFIG, key=jax.random.key(0), networks=FeatureNetworks(lpips=Sides()),
            w_statistics=WStatistics(mean=jnp.zeros(3), std=jnp.ones(())),
            monitor=Note(stop_in="a latent and some cameras"),
        )  # fmt: skip
