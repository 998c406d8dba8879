"""What a notebook writes is what the command runs."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from short_runs import STEPS, arguments

import eg3d_jax
import inversion
from eg3d_jax.cameras import yaw_pitch_camera
from experiments.invert.main import main
from inversion.config import changed
from inversion.files import entries


class Note(inversion.Monitor):
    """Counts what it is told."""

    def __init__(self):
        self.steps_of, self.tasks = {}, []

    def task(self, name, video=""):
        self.tasks.append((video, name))
        return super().task(name, video)

    def steps(self, video, stage, first, terms):
        assert first == self.steps_of.get((video, stage), 0)
        self.steps_of[video, stage] = first + len(terms["perceptual"])


@pytest.fixture(scope="module")
def config():
    return changed(inversion.quick(num_latents=2, views_per_step=2), STEPS)


@pytest.fixture(scope="module")
def generator(visible_inputs):
    return eg3d_jax.load(visible_inputs / "generator")


@pytest.fixture(scope="module")
def frames(visible_inputs, generator):
    return inversion.load_frames(visible_inputs / "frames", generator)


@pytest.fixture(scope="module")
def head(generator, frames, config):
    return inversion.invert(generator, frames.evenly(3), config, key=jax.random.key(0))


def same(one, other):
    ours, theirs = entries((one.latents, one.generator)), entries((other.latents, other.generator))
    assert [name for name, *_ in ours] == [name for name, *_ in theirs]
    for (name, _, a), (*_, b) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.slow
def test_the_library_finds_what_the_command_finds_bit_by_bit(
    visible_inputs, head, frames, tmp_path, capsys
):
    assert main(arguments(visible_inputs, tmp_path / "run", latents=2))
    capsys.readouterr()
    found = inversion.load(tmp_path / "run" / "result")
    same(found, head)
    assert found.names == head.names == ("3.png", "1.png", "0.png")
    np.testing.assert_array_equal(found.labels, head.labels)
    head.save(tmp_path / "again")
    files = [folder / "latents.npz" for folder in (tmp_path / "again", tmp_path / "run" / "result")]
    assert files[0].read_bytes() == files[1].read_bytes()  # the fingerprint of the weights, too
    evaluation = inversion.evaluate(head, frames)
    assert evaluation.fitted.tolist() == [True, True, False, True]
    assert evaluation.mean("psnr") == evaluation.columns["psnr"][2]
    shown = head.render(yaw_pitch_camera(np.array([-0.2, 0.0, 0.3]), 0.0))
    assert shown.image.shape == (3, 32, 32, 3)
    assert capsys.readouterr() == ("", "")


def test_all_that_was_found_is_told(head):
    several = "3 views, 2 latents"
    assert list(head.terms) == [f"{several}, latents", f"{several}, tuning"]
    assert {name: len(terms["depth"]) for name, terms in head.terms.items()} == {
        f"{several}, latents": 2, f"{several}, tuning": 2,
    }  # fmt: skip
    assert head.seconds.keys() == head.terms.keys()
    assert all(seconds > 0 for seconds in head.seconds.values())
    assert head.usable
    assert head.stopped == ()
    assert len(head.latents) == 2
    assert head.metadata["license"] == "of the weights"


def test_several_videos_are_each_what_they_are_alone(generator, frames, head, config):
    monitor = Note()
    videos = [frames.evenly(3), frames[np.array([0, 1, 2])]]
    found = inversion.invert_videos(
        generator, videos, config, key=jax.random.key(0), monitor=monitor
    )
    same(found[0], head)
    assert found[1].names == ("2.png", "1.png", "0.png")
    assert monitor.steps_of["1", "3 views, latent"] == 3
    assert monitor.steps_of["1", "3 views, 2 latents, tuning"] == 2
    assert ("", "compiling the steps") in monitor.tasks


def test_a_video_that_fails_leaves_the_others(generator, frames, config, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(frames.paths[0].read_bytes()[:40])
    spoilt = dataclasses.replace(frames, paths=(broken, *frames.paths[1:])).evenly(3)
    short = changed(config, {"latents.num_steps": 0, "tuning.num_steps": 0})
    found = inversion.invert_videos(
        generator, [spoilt, frames.evenly(3)], short, key=jax.random.key(0)
    )
    assert isinstance(found[0], eg3d_jax.InputError)
    assert "broken.png" in str(found[0])
    assert isinstance(found[1], inversion.Inversion)


def test_as_many_stores_as_videos_are_wanted(generator, frames, config, tmp_path):
    store = inversion.StateFolder(tmp_path)
    with pytest.raises(ValueError, match="longer|shorter"):
        inversion.invert_videos(
            generator, [frames, frames], config, key=jax.random.key(0), stores=[store]
        )


def test_a_stopped_inversion_goes_on_from_its_store(generator, frames, head, config, tmp_path):
    class Impatient(Note):
        def stop_requested(self):
            return self.steps_of.get(("", "3 views, 2 latents, latents")) == 1

    store = inversion.StateFolder(tmp_path)
    arguments = (generator, frames.evenly(3), config)
    with pytest.raises(inversion.Stopped):
        inversion.invert(*arguments, key=jax.random.key(0), store=store, monitor=Impatient())
    assert store.newest_step("3 views, 2 latents, latents") == 1
    same(inversion.invert(*arguments, key=jax.random.key(0), store=store), head)


def test_several_latents_start_from_an_inversion_given(generator, frames, head, config):
    one = changed(config, {"num_latents": 1, "tuning.num_steps": 0})
    views = frames.evenly(3)
    start = inversion.invert(generator, views, one, key=jax.random.key(0))
    same(inversion.invert(generator, views, config, key=jax.random.key(0), start=start), head)


def test_an_edited_head_is_another_and_has_a_surface(head):
    width = head.latents.w_plus.shape[-1]
    edited = inversion.edit(head, 0.5 * np.ones(width), layers=[0])
    moved = np.asarray(edited.latents.w_plus - head.latents.w_plus)
    np.testing.assert_allclose(moved[:, 0], 0.5, atol=1e-6)
    assert not moved[:, 1:].any()
    pytest.importorskip("skimage")
    surface = inversion.mesh(edited, resolution=12, level=0.0)
    assert surface.is_watertight
    assert surface.visual.vertex_colors.shape == (len(surface.vertices), 4)


def test_the_paper_and_its_steps():
    """Spec inversion 10: 500 steps a stage."""
    config = inversion.paper()
    assert {config.latent.num_steps, config.latents.num_steps, config.tuning.num_steps} == {500}
    assert inversion.paper(num_latents=4).num_latents == 4
    assert inversion.quick().tuning.num_steps < 500


def test_importing_prints_and_changes_nothing():
    code = (
        "import logging, os, warnings; before = dict(os.environ), warnings.formatwarning\n"
        "import eg3d_jax, inversion\n"
        "assert (dict(os.environ), warnings.formatwarning) == before\n"
        "assert not logging.getLogger('absl').filters\n"
        "import sys; loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'tyro', 'matplotlib', 'tensorboardX', 'experiments'}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
