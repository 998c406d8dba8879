"""`invert --start-from` and `invert(start=...)`: where stages begin, and what resuming wants."""

import dataclasses

import jax
import numpy as np
import pytest
from short_runs import STEPS, arguments

import eg3d_jax
import inversion
from eg3d_jax.cameras import FRONTAL
from eg3d_jax.errors import InputError
from experiments.invert.main import main
from inversion.config import changed
from inversion.latents import latents_at

NO_STEPS = dict.fromkeys(STEPS, 0)


@pytest.fixture(scope="module")
def generator(visible_inputs):
    return eg3d_jax.load(visible_inputs / "generator")


@pytest.fixture(scope="module")
def views(visible_inputs, generator):
    return inversion.load_frames(visible_inputs / "frames", generator).evenly(3)


@pytest.fixture(scope="module")
def ws(generator):
    shape = (2, generator.config.num_ws, generator.config.w_dim)
    return np.random.default_rng(5).standard_normal(shape).astype(np.float32)


def test_without_steps_what_comes_out_is_where_it_started(generator, views, ws, tmp_path):
    one = changed(inversion.quick(), NO_STEPS)
    several = dataclasses.replace(one, num_latents=2)
    begin = {"key": jax.random.key(0)}
    found = inversion.invert(generator, views, several, start=ws, **begin)
    np.testing.assert_array_equal(found.latents.w_plus, ws)
    found.save(tmp_path)
    again = inversion.invert(generator, views, several, start=tmp_path / "latents.npz", **begin)
    np.testing.assert_array_equal(again.latents.w_plus, ws)
    np.testing.assert_array_equal(again.latents.azimuth, found.latents.azimuth)
    single = inversion.invert(generator, views, one, start=found, **begin)
    frontal = latents_at(found.latents, FRONTAL)
    np.testing.assert_allclose(single.latents.w_plus, frontal[None], atol=1e-6)


def test_noise_maps_that_nothing_would_fit_are_refused(generator, views, ws):
    config = changed(inversion.quick(), {"num_latents": 2, "fit_noise_maps": True})
    with pytest.raises(InputError, match="leave fit_noise_maps or the start out"):
        inversion.invert(generator, views, config, start=ws, key=jax.random.key(0))


@pytest.mark.slow
def test_the_command_starts_from_a_file_and_resumes_with_no_other(
    visible_inputs, generator, views, ws, tmp_path, capsys
):
    np.savez(tmp_path / "a.npz", ws=ws)
    options = {"latents": 2, "start_from": tmp_path / "a.npz"}
    assert main(arguments(visible_inputs, tmp_path / "run", **options))
    config = changed(inversion.quick(num_latents=2, views_per_step=2), STEPS)
    same = inversion.invert(generator, views, config, start=ws, key=jax.random.key(0))
    found = inversion.load(tmp_path / "run" / "result")
    np.testing.assert_array_equal(found.latents.w_plus, same.latents.w_plus)
    assert list(same.terms) == ["3 views, 2 latents, latents", "3 views, 2 latents, tuning"]
    # The same content under another name is the same start.
    (tmp_path / "moved.npz").write_bytes((tmp_path / "a.npz").read_bytes())
    moved = options | {"start_from": tmp_path / "moved.npz", "resume": True}
    assert main(arguments(visible_inputs, tmp_path / "run", **moved))
    for other in (None, tmp_path / "b.npz"):
        np.savez(tmp_path / "b.npz", ws=ws + 1)
        again = options | {"start_from": other, "resume": True}
        with pytest.raises(InputError, match="other settings: .*start_from was"):
            main(arguments(visible_inputs, tmp_path / "run", **again))
    capsys.readouterr()


def test_a_start_that_does_not_fit_leaves_no_folder(visible_inputs, ws, tmp_path):
    np.savez(tmp_path / "a.npz", ws=np.tile(ws, (2, 1, 1))[:3])
    options = {"latents": 2, "start_from": tmp_path / "a.npz"}
    with pytest.raises(InputError, match=r"a.npz has 3 latents and no cameras, but 2 latents"):
        main(arguments(visible_inputs, tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()
