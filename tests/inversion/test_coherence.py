"""The three regularisers in closed form, on a generator that shows one number of its latent."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_weights import drawn_generator
from flax import nnx
from one_number import Brightness, Painter

from eg3d_jax.cameras import azimuth, yaw_pitch_camera
from eg3d_jax.config import tiny
from inversion.config import InversionConfig, LossWeights, StageConfig
from inversion.fitting.steps import advance_latents, advance_pivots, start_latents, start_tuning
from inversion.latents import Latents, repeat_latents
from inversion.objectives import FeatureNetworks, Targets, tri_planes_of
from inversion.regularizers import (
    agree_in_depth,
    interpolate,
    objectives,
    share_step,
    split_targets,
)

KEY = jax.random.key(0)


PAINTER, NETWORKS = Painter(jnp.asarray(1.0)), FeatureNetworks(lpips=Brightness(jnp.asarray(1.0)))
CONFIG = InversionConfig(
    latents=StageConfig(num_steps=200, learning_rate=0.1, ramp_down=0.8),
    tuning=StageConfig(num_steps=4, learning_rate=1e-3),
    weights=LossWeights(pixel=0.0),
    random_rays=False,
)
YAWS = np.float32([0.8, 0.4, 0.0, -0.4, -0.8])  # ascending azimuth
VALUES = np.float32([1.0, 3.0, 2.0, 0.0, -1.0])


def latents_of(values):
    values = jnp.asarray(values, jnp.float32)
    w_plus = jnp.zeros((len(values), 3, 2)).at[:, 0, 0].set(values)
    cameras = yaw_pitch_camera(YAWS[:: 4 // (len(values) - 1)], 0.0)
    return Latents(w_plus=w_plus, azimuth=azimuth(cameras))


def targets_of(values=VALUES):
    values = jnp.asarray(values, jnp.float32)
    return Targets(
        images=jnp.zeros((len(values), 4, 4, 3)),
        cameras=yaw_pitch_camera(YAWS, 0.0),
        features=values[:, None],
        embeddings=None,
    )


def knot_targets():
    """Knots at 0, 2 and 4, frames 1 and 3 between them."""
    return split_targets(targets_of(), np.array([0, 2, 4]), np.array([1, 3]))


def number_of(latents_gradient):
    return np.asarray(latents_gradient)[:, 0, 0]


@pytest.mark.parametrize("views_at_once", [None, 1, 2])
def test_the_depth_term_is_the_variance_over_the_latents(views_at_once):
    config = dataclasses.replace(CONFIG, views_at_once=views_at_once)
    values = np.float32([1.0, 2.0, 6.0])

    def term(w_plus):
        planes = tri_planes_of(PAINTER, w_plus, config)
        cameras = knot_targets().knots.cameras
        return agree_in_depth(PAINTER, planes, cameras, config, KEY)["depth"]

    value, gradient = jax.value_and_grad(term)(latents_of(values).w_plus)
    assert float(value) == pytest.approx(np.var(values), rel=1e-6)
    # Each is pulled to the mean of all, which stays where it is.
    np.testing.assert_allclose(number_of(gradient), 2 * (values - values.mean()) / 3, rtol=1e-6)


def test_frames_between_the_knots_see_interpolated_latents():
    latents, between = latents_of([1.0, 2.0, 4.0]), knot_targets().between

    def term(w_plus):
        moved = dataclasses.replace(latents, w_plus=w_plus)
        return interpolate(PAINTER, moved, NETWORKS, between, CONFIG, KEY)["interpolation"]

    value, gradient = jax.value_and_grad(term)(latents.w_plus)
    middles, wanted = np.array([1.5, 3.0]), VALUES[[1, 3]]
    error = middles - wanted
    assert float(value) == pytest.approx(np.mean(error**2), rel=1e-5)
    # Half of each frame's pull goes to the knots on either side of it.
    pull = error * 2 / len(error) / 2
    np.testing.assert_allclose(
        number_of(gradient), [pull[0], pull[0] + pull[1], pull[1]], rtol=1e-5
    )


def test_each_regulariser_can_be_left_out():
    latents, reference = latents_of([1.0, 2.0, 4.0]), jnp.zeros((3, 2))
    images = {"pixel", "perceptual"}
    for chosen in ((), ("distance",), ("interpolation", "depth"), ("depth",)):
        config = dataclasses.replace(CONFIG, regularizers=chosen)
        (joint,) = objectives(NETWORKS, knot_targets(), config, reference)
        assert set(joint(PAINTER, latents, KEY)) == images | set(chosen)
        config = dataclasses.replace(config, update="alternating")
        parts = objectives(NETWORKS, knot_targets(), config, reference)
        terms = [set(part(PAINTER, latents, KEY)) for part in parts]
        assert terms[0] == images | ({"distance"} & set(chosen))
        assert terms[1:] == [{name} for name in ("depth", "interpolation") if name in chosen]


@pytest.mark.parametrize("update", ["joint", "alternating"])
@pytest.mark.parametrize(
    ("views_per_step", "knots", "between"),
    [(1, 1, 1), (2, 1, 1), (3, 2, 1), (4, 2, 2), (5, 3, 2), (None, 3, 2)],
)
def test_frames_between_the_knots_are_half_of_what_a_step_draws(
    views_per_step, knots, between, update
):
    config = dataclasses.replace(CONFIG, views_per_step=views_per_step, update=update)
    latents = latents_of([2.0, 5.0, 4.0])  # all off their targets, those between them, too

    def moved(term, config):
        """How many latents a term pulls at."""

        def value(w_plus):
            parts = objectives(NETWORKS, knot_targets(), config)
            terms = [part(PAINTER, dataclasses.replace(latents, w_plus=w_plus), KEY)
                     for part in parts]  # fmt: skip
            (found,) = [part[term] for part in terms if term in part]
            return found

        return np.count_nonzero(number_of(jax.grad(value)(latents.w_plus)))

    assert moved("perceptual", config) == knots
    assert moved("interpolation", config) == between + 1  # a frame pulls at both its neighbours
    alone = dataclasses.replace(config, regularizers=())
    assert moved("perceptual", alone) == min(views_per_step or 3, 3)


@pytest.mark.parametrize("knots", [2, 3, 5, 7])
@pytest.mark.parametrize("number", range(1, 11))
def test_a_step_draws_as_many_as_asked_for_of_however_many_of_a_kind(number, knots):
    between = 9 - knots
    drawn = share_step(number, knots, between)
    assert sum(drawn) == min(max(number, 2), 9)
    assert 1 <= drawn[0] <= knots
    assert 1 <= drawn[1] <= between
    if number // 2 < min(knots, between):
        assert drawn[0] - drawn[1] in (0, 1)


def test_distance_is_the_mean_square_to_the_latent_of_all_views():
    values, reference = np.float32([1.0, 2.0, 4.0]), jnp.full((3, 2), 0.5)
    (joint,) = objectives(NETWORKS, knot_targets(), CONFIG, reference)
    terms = joint(PAINTER, latents_of(values), KEY)
    squares = np.square(np.asarray(latents_of(values).w_plus) - 0.5)
    assert float(terms["distance"]) == pytest.approx(squares.mean(), rel=1e-6)


def test_knots_without_frames_between_them_have_no_interpolation():
    targets = split_targets(targets_of(), np.arange(5), np.array([], int))
    assert targets.between is None
    (joint,) = objectives(NETWORKS, targets, CONFIG, jnp.zeros((3, 2)))
    assert "interpolation" not in joint(PAINTER, latents_of(VALUES), KEY)


@pytest.mark.parametrize("update", ["joint", "alternating"])
def test_latents_move_to_their_own_views(update):
    """Without regularisers each latent ends at its target; with them, between it and the others."""

    def fit(**changes):
        config = dataclasses.replace(CONFIG, update=update, **changes)
        start = repeat_latents(jnp.full((3, 2), 1.0), latents_of(VALUES[::2]).azimuth)
        state, terms = advance_latents(
            start_latents(start, KEY), PAINTER, NETWORKS, knot_targets(), start,
            config=config, num_steps=200,
        )  # fmt: skip
        return number_of(state.variables), terms

    free, terms = fit(regularizers=())
    np.testing.assert_allclose(free, VALUES[::2], atol=0.05)
    assert terms["perceptual"].shape == (200,)
    held, _ = fit(regularizers=("depth",), weights=LossWeights(pixel=0.0, depth=3.0))
    assert np.ptp(held) < 0.6 * np.ptp(free)


def test_steps_in_chunks_equal_one_run():
    start = repeat_latents(jnp.full((3, 2), 1.0), latents_of(VALUES[::2]).azimuth)

    def run(*lengths):
        state = start_latents(start, KEY)
        for n in lengths:
            state, _ = advance_latents(
                state, PAINTER, NETWORKS, knot_targets(), start, config=CONFIG, num_steps=n
            )
        return state.variables

    np.testing.assert_allclose(run(4), run(1, 3), atol=1e-6)


@pytest.fixture(scope="module")
def generator():
    return drawn_generator(tiny())


def test_equal_latents_agree_in_depth_through_random_rays(generator):
    config = dataclasses.replace(CONFIG, random_rays=True, depth_side=4)
    ws = generator.map_to_ws(jnp.ones(generator.config.z_dim))
    planes = jnp.stack([generator.tri_planes(ws)] * 3)
    cameras = yaw_pitch_camera(YAWS, 0.0)
    term = jax.jit(lambda planes: agree_in_depth(generator, planes, cameras, config, KEY)["depth"])
    assert float(term(planes)) < 1e-10  # float32's 2e-7 of a depth of 2.7, squared
    other = planes.at[0].multiply(-1.0)
    assert float(term(other)) > 1e-6


def test_tuning_around_several_pivots_fits_the_generator_alone():
    """One gain cannot show all three knots: it ends at the least squares of their targets."""

    class Tunable(nnx.Module):
        def __init__(self):
            self.gain = nnx.Param(jnp.asarray(1.0))

        def __getattr__(self, name):
            return getattr(Painter(self.gain[...]), name)

    latents, wanted = latents_of([1.0, 2.0, 4.0]), VALUES[::2]
    config = dataclasses.replace(
        CONFIG, tuning=StageConfig(num_steps=200, learning_rate=0.05, ramp_down=0.8),
        regularizers=("distance",),
    )  # fmt: skip
    generator = Tunable()
    state, terms = advance_pivots(
        start_tuning(generator, KEY), generator, NETWORKS, knot_targets(), latents,
        config=config, num_steps=200,
    )  # fmt: skip
    assert set(terms) == {"pixel", "perceptual"}  # latents stay, so there is no distance to pull
    values = np.array([1.0, 2.0, 4.0])
    (gain,) = jax.tree.leaves(state.variables)
    assert float(gain) == pytest.approx(values @ wanted / (values @ values), abs=0.02)
    assert float(generator.gain[...]) == 1.0
