"""Inversions that start from given latents: which, for which knots, and what is refused."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_weights import drawn_generator

import inversion
from eg3d_jax.cameras import to_label, yaw_pitch_camera
from eg3d_jax.config import tiny
from eg3d_jax.errors import InputError
from eg3d_jax.generator import Origin
from inversion.latents import Latents, latents_at
from inversion.result import lineage
from inversion.warm_start import Start, start_of

CONFIG = tiny()
SIZE = (CONFIG.num_ws, CONFIG.w_dim)
ONE = np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)
THREE = np.random.default_rng(1).standard_normal((3, *SIZE)).astype(np.float32)
YAW = np.radians([30.0, 0.0, -20.0])
ANGLES = np.pi / 2 - YAW  # ascending


@pytest.fixture(scope="module")
def generator():
    return drawn_generator(CONFIG)


@pytest.fixture(scope="module")
def head(generator):
    """An inversion with three latents, made of parts."""
    return inversion.Inversion(
        generator=generator,
        latents=Latents(w_plus=jnp.asarray(THREE), azimuth=jnp.asarray(ANGLES, jnp.float32)),
        cameras=yaw_pitch_camera(np.linspace(0.5, -0.5, 5), 0.0),
        names=tuple(f"{i}.png" for i in range(5)),
        metadata={"fingerprint": "a" * 64},
    )


def test_the_file_of_a_result_is_read_by_numpy_alone_and_its_page_names_each_field(head, tmp_path):
    head.save(tmp_path)
    with np.load(tmp_path / "latents.npz", allow_pickle=False) as file:
        found = dict(file)
    page = (Path(__file__).parents[2] / "docs" / "latents.md").read_text()
    described = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert sorted(found) == sorted(described)
    np.testing.assert_array_equal(found["w_plus"], THREE)
    np.testing.assert_array_equal(found["labels"], np.asarray(to_label(head.cameras)))
    assert found["names"].tolist() == list(head.names)
    assert found["tuned_from"].tolist() == ["a" * 64]
    for name in found.keys() - {"convention"}:
        assert name in str(found["convention"])
    loaded = inversion.load(tmp_path)
    assert loaded.metadata["fingerprint"] == str(found["fingerprint"])
    loaded.save(tmp_path / "again")  # the chain of origins is kept
    with np.load(tmp_path / "again" / "latents.npz") as again:
        assert "a" * 64 in again["tuned_from"].tolist()


def test_files_of_earlier_versions_load(head, tmp_path):
    head.save(tmp_path)
    path = tmp_path / "latents.npz"
    with np.load(path) as file:
        old = {n: file[n] for n in ("fingerprint", "w_plus", "azimuth", "labels")}
    np.savez(path, **old)
    assert inversion.load(tmp_path).names == ()
    start = start_of(path, head.generator)
    np.testing.assert_array_equal(start.w_plus, THREE)


def test_a_chain_of_tunings_is_one_origin():
    root = {"fingerprint": "root", "source": {"file": "x.pkl"}}
    tuned = {"fingerprint": "b", "source": {"tuned_from": "root", "original": root["source"]}}
    again = {"fingerprint": "c", "source": {"tuned_from": "b", "original": tuned["source"]}}
    assert lineage(again) == ("c", "b", "root")
    assert lineage({}) == ()


def test_each_kind_of_start_is_the_same_one(head, generator, tmp_path):
    head.save(tmp_path)
    np.savez(tmp_path / "authors.npz", ws=THREE[::-1, None],
             cs=np.asarray(to_label(yaw_pitch_camera(YAW[::-1], 0.0)))[:, None])  # fmt: skip
    given = [head, head.latents, tmp_path / "latents.npz", str(tmp_path / "authors.npz")]
    for start in (start_of(one, generator) for one in given):
        np.testing.assert_array_equal(start.w_plus, THREE)
        np.testing.assert_allclose(start.azimuth, ANGLES, atol=1e-6)
        np.testing.assert_allclose(start.at(ANGLES), THREE, atol=1e-5)
        middle = start.at([(ANGLES[0] + ANGLES[1]) / 2])
        np.testing.assert_allclose(middle[0], THREE[:2].mean(0), atol=1e-5)
        np.testing.assert_array_equal(
            start.at([0.0, 3.0])[1], latents_at(head.latents, jnp.asarray(3.0))
        )


@pytest.mark.parametrize("shape", [SIZE, (1, *SIZE), (1, 1, *SIZE), (-1,)])
def test_one_latent_serves_every_knot(generator, tmp_path, shape):
    np.save(tmp_path / "w.npy", ONE.reshape(shape))
    for given in (ONE.reshape(shape), tmp_path / "w.npy"):
        start = start_of(given, generator)
        np.testing.assert_array_equal(start.at([1.0, 2.0]), np.tile(ONE, (2, 1, 1)))


def test_a_latent_of_w_counts_for_all_layers(generator):
    np.testing.assert_array_equal(start_of(ONE[0], generator).w_plus[0], np.tile(ONE[0], (6, 1)))


def test_several_latents_without_cameras_start_as_many_knots(generator):
    start = start_of(THREE, generator)
    start.check(3)
    np.testing.assert_array_equal(start.at(ANGLES), THREE)
    for count in (1, 2):
        with pytest.raises(InputError, match="has 3 latents and no cameras, but .* fitted; give"):
            start.check(count)


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (np.ones((2, 3)), r"the start: latents \[2, 3\] do not fit the generator, .* \[6, 16\]"),
        (np.ones((1, 14, 512)), r"\[1, 14, 512\] do not fit"),
        (np.full(SIZE, np.nan), "must be finite"),
        (np.zeros((0, *SIZE)), "must be finite numbers"),
        (Latents(w_plus=jnp.ones((1, 5, 16)), azimuth=jnp.ones(1)), r"\[1, 5, 16\] do not fit"),
        ("missing.npz", "missing.npz: there is no such file"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_size(generator, given, cause):
    with pytest.raises(InputError, match=cause):
        start_of(given, generator)


def test_files_that_contradict_themselves_are_refused(head, generator, tmp_path):
    head.save(tmp_path)
    with np.load(tmp_path / "latents.npz") as file:
        good = dict(file)
    for change in ({"azimuth": np.zeros(2)}, {"azimuth": good["azimuth"][::-1]}):
        np.savez(tmp_path / "bad.npz", **(good | change))
        with pytest.raises(InputError, match=r"bad.npz: azimuth .* must be 3 ascending"):
            start_of(tmp_path / "bad.npz", generator)
    np.savez(tmp_path / "bad.npz", ws=THREE, cs=good["labels"][:2])
    with pytest.raises(InputError, match="3 latents and 2 cameras"):
        start_of(tmp_path / "bad.npz", generator)


def test_latents_of_another_origin_are_taken_with_a_warning(head, tmp_path):
    head.save(tmp_path)
    other = drawn_generator(CONFIG, seed=1)
    other.origin = Origin({"fingerprint": "b" * 64})
    with pytest.warns(UserWarning, match="was fitted with another generator"):
        start_of(tmp_path / "latents.npz", other)
    other.origin = Origin({"fingerprint": "c", "source": {"tuned_from": "a" * 64}})
    start_of(tmp_path / "latents.npz", other)


def test_a_start_is_where_stages_begin(head):
    """Without steps, what comes out is what went in."""
    start = Start.of(head)
    assert start.noise_maps == {}
    one = dataclasses.replace(start, w_plus=start.w_plus[:1], azimuth=None)
    one.check(5)
    assert one.at(np.zeros(5)).shape == (5, *SIZE)
    assert jax.eval_shape(lambda: start.at(ANGLES)).shape == (3, *SIZE)
