"""Directions of the heads' parameters: they change theirs, leave others, and hold from all sides.

The truth is known: the embedded generator's z are the parameters. No mesh is needed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eg3d_jax.cameras import azimuth, yaw_pitch_camera
from eg3d_jax.errors import InputError
from experiments.heads.anatomy import (
    APPEARANCE,
    EXPRESSION,
    IDENTITY,
    PARAMETERS,
    PHENOTYPE,
    sample_latents,
)
from experiments.heads.directions import ORDER, Args, head_directions, main
from experiments.subjects import EMBEDDED, load_generator
from inversion.direction_files import load_directions
from inversion.editing import shift
from inversion.latents import Latents, latents_at, repeat_latents

_ULP = 2.0**-23


@pytest.fixture(scope="module")
def generator():
    return load_generator(EMBEDDED)


@pytest.fixture(scope="module")
def heads(generator):
    """The function from a seed and a count to parameters [n, 37] and latents [n, D]."""
    mapped = jax.jit(lambda z: generator.mapping(z))

    def draw(seed, count):
        z = sample_latents(np.random.default_rng([seed, 99]), count)
        return z, np.asarray(mapped(z))

    return draw


@pytest.fixture(scope="module")
def directions(generator):
    return head_directions(generator, num_samples=50_000)


@pytest.fixture(scope="module")
def steps(directions):
    """[37, D] offsets of strength 1, in the order of z."""
    return directions.steps[np.argsort(ORDER)]


def test_every_parameter_has_a_name_and_a_direction(directions):
    assert len(set(PARAMETERS)) == 37
    assert sorted(directions.names) == sorted(PARAMETERS)
    assert directions.names[:2] == ("jaw", "smile")
    assert PARAMETERS[PHENOTYPE] == ("age", "gender", "weight")
    assert PARAMETERS[EXPRESSION][1] == "smile"
    assert PARAMETERS[APPEARANCE][2] == "hair_darkness"


def test_strength_one_is_one_standard_deviation_of_the_parameter(heads, steps):
    z, w = heads(1, 50_000)
    # Latents of heads one or more above the mean less those below, over the difference of their
    # parameters: the same slope from other samples, if the dependence is about straight.
    for k in (19, 20, 16, 29, 0):
        high, low = z[:, k] > 1, z[:, k] < -1
        slope = (w[high].mean(0) - w[low].mean(0)) / (z[high, k].mean() - z[low, k].mean())
        # w is sqrt(128) = 11.3 from its mean (root mean square), so that a mean over a sixth of
        # 50,000 has an error of 11.3 / sqrt(8000) = 0.13, the slope of two such, 3 apart, of 0.06;
        # the fit's is 11.3 / sqrt(50000) = 0.05. Steps are 0.8 to 2.9 long.
        assert np.linalg.norm(slope - steps[k]) < 3 * np.hypot(0.06, 0.05)


def test_identity_leaves_expression_alone_and_the_other_way_round(heads, steps):
    """Seen by a nonlinear predictor of the parameters, fitted to other heads, on held-out ones."""
    rng = np.random.default_rng(0)
    (z, w), (z_unseen, unseen) = heads(2, 10_000), heads(3, 500)
    weights, bias = 0.15 * rng.standard_normal((w.shape[1], 400)), rng.standard_normal(400)

    def features(w):
        return np.concatenate(
            [np.maximum((w - w_mean) @ weights + bias, 0), w - w_mean, np.ones((len(w), 1))], 1
        )

    w_mean = w.mean(0)
    known = features(w)
    ridge = 0.1 * np.eye(known.shape[1])
    predictor = np.linalg.solve(known.T @ known + ridge, known.T @ z)
    # What it sees of a parameter, as w does not tell all of it: the slope of predicted over true.
    seen = np.mean(features(unseen) @ predictor * z_unseen, axis=0) / np.mean(z_unseen**2, axis=0)

    def shares(offset):
        """Root mean square change of each parameter over the heads, and each one's share [37]."""
        change = (features(unseen + offset) - features(unseen)) @ predictor
        energy = np.mean(change**2, axis=0)
        return np.sqrt(energy), energy / energy.sum()

    lengths = np.linalg.norm(steps, axis=1)
    for own, other in ((IDENTITY, EXPRESSION), (EXPRESSION, IDENTITY)):
        chance = []
        for k in range(own.start, own.stop):
            moved, share = shares(steps[k])
            # Chance would give the others a share in proportion to their number; half of that is
            # more than is left to them, and less than a predictor's normals take (up to 0.8 of it).
            assert share[other].sum() < 0.5 * (other.stop - other.start) / 37, PARAMETERS[k]
            assert moved.argmax() == k
            # One standard deviation, as is asked for; 500 heads tell slopes to a twentieth.
            assert moved[k] == pytest.approx(seen[k], rel=0.15)
            mixed = rng.standard_normal(37) @ steps
            chance.append(shares(lengths[k] * mixed / np.linalg.norm(mixed))[1][other].sum())
        # Directions of the same length anywhere in what the heads span do behave like chance.
        assert np.mean(chance) > 0.75 * (other.stop - other.start) / 37


@pytest.fixture(scope="module")
def planes(generator):
    """The function from latents [n, D] to every seventh value of their feature planes, [n, P].

    Planes belong to the space around a head; all that any camera sees is rendered from them.
    """
    num_ws = generator.config.num_ws

    @jax.jit
    def paint(generator, w):
        return jax.lax.map(
            lambda w: generator.tri_planes(jnp.broadcast_to(w, (num_ws, *w.shape))).ravel()[::7], w
        )

    return lambda w: np.asarray(paint(generator, jnp.asarray(w, jnp.float32)), np.float64)


def length(x):
    return np.linalg.norm(x, axis=-1)


def rms(x):
    return np.sqrt(np.mean(np.square(x), axis=-1))


@pytest.fixture(scope="module")
def smoothness(heads, steps, planes):
    """How fast planes, and changes of planes by edits, differ between heads, a unit of W apart.

    With f the planes, w and w + u two heads and d an edit, the largest found of
    |f(w + u) - f(w)| / |u| and of |f(w+u+d) - f(w+u) - f(w+d) + f(w)| / (|u| |d|).
    """
    rng = np.random.default_rng(5)
    _, w = heads(6, 16)
    d = 2 * steps[rng.integers(0, 37, 16)]
    u = rng.standard_normal((16, 37)) @ steps
    u *= 0.5 / length(u)[:, None]
    both, near, edited, plain = (planes(x) for x in (w + u + d, w + u, w + d, w))
    return (
        np.max(rms(near - plain) / length(u)),
        np.max(rms(both - near - edited + plain) / (length(u) * length(d))),
    )


def edits_seen(latents, offset, yaws, planes):
    """Latents [V, D] of the cameras at those yaws before and after an edit, and their planes."""
    angles = azimuth(yaw_pitch_camera(np.radians(yaws), 0.0))
    at = jax.jit(jax.vmap(latents_at, in_axes=(None, 0)))
    seen = [np.asarray(at(x, angles)[:, 0]) for x in (latents, shift(latents, offset))]
    return *seen, *map(planes, seen)


@pytest.mark.parametrize("name", ["smile", "jaw", "age"])
def test_an_edit_is_the_same_change_of_the_head_from_every_view(
    generator, heads, directions, planes, smoothness, name
):
    _, w = heads(7, 1)
    rng, yaws = np.random.default_rng(8), (0.0, -70.0, -25.0, 10.0, 50.0)
    keys = np.sort(azimuth(yaw_pitch_camera(np.radians([-60, -30, 0, 30, 60]), 0.0)))
    offset = 2 * directions.steps[directions.names.index(name)]
    first, second = smoothness
    one = repeat_latents(jnp.broadcast_to(w, (generator.config.num_ws, w.shape[1])), keys)

    # (1 - m) a + m b rounds 1 - m, both products and the sum, the edit once more and the difference
    # taken here: six roundings of half an ulp of the largest entry, before and after.
    before, after, plain, edited = edits_seen(one, offset, yaws, planes)
    rounding = 6 * _ULP / 2 * np.abs([before, after]).max()
    np.testing.assert_allclose(after - before, np.tile(offset, (5, 1)), atol=2 * rounding)
    # Planes change by `first` a unit of W, doubled as it was measured on other heads, before and
    # after the edit; and float32 convolutions have errors of their own, 1e-5 of the values.
    far = 2 * (2 * first * rounding * np.sqrt(w.shape[1])) + 1e-5 * rms(plain).max()
    changes = edited - plain
    assert np.all(rms(changes - changes[0]) <= far)

    # A latent for each key, in all layers 0.5 from the one above: a twentieth of the spread of W.
    apart = rng.standard_normal((5, 37)) @ directions.steps
    apart *= 0.5 / length(apart)[:, None]
    several = Latents(w_plus=one.w_plus + apart[:, None].astype(np.float32), azimuth=one.azimuth)
    before, after, plain, edited = edits_seen(several, offset, yaws, planes)
    np.testing.assert_allclose(after - before, np.tile(offset, (5, 1)), atol=2 * rounding)
    # f(w1 + d) - f(w1) - f(w0 + d) + f(w0) is the integral of f's second derivative over the
    # parallelogram of w1 - w0 and d, hence at most sup |H| |w1 - w0| |d|; sup |H| is doubled, too.
    # Had the edit moved the latents differently, changes would differ by their own size.
    changes = edited - plain
    bound = 2 * second * length(before - before[0]) * np.linalg.norm(offset)
    found = rms(changes - changes[0])
    assert np.all(found <= bound)
    assert np.all(bound < rms(changes[0]) / 2)
    # So views agree as well after the edit as before it, up to the bound.
    assert np.all(rms(edited - edited[0]) <= rms(plain - plain[0]) + bound)
    # Unlike latents do see changes that differ, by far more than rounding.
    assert found[1:].min() > 10 * far


def test_the_command_writes_directions_that_edits_find_by_name(tmp_path, capsys):
    path = tmp_path / "new" / "directions.npz"
    main(Args(output=path, samples=1000))
    assert "jaw, smile" in capsys.readouterr().out
    generator = load_generator(EMBEDDED)
    found = load_directions(path, generator, generator.origin.metadata, pytest.fail)
    assert found.names[8] == "age"
    with pytest.raises(InputError, match="--overwrite"):
        main(Args(output=path, samples=1000))
    with pytest.raises(InputError, match="--samples 37 must be from 38"):
        main(Args(output=tmp_path / "few.npz", samples=37))


def test_generators_of_other_heads_are_refused(inputs, tmp_path):
    path = tmp_path / "directions.npz"
    with pytest.raises(InputError, match="has 8 numbers.*leave --generator out"):
        main(Args(generator=inputs / "generator", output=path))
    assert not path.exists()
