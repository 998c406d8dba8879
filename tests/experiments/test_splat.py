"""`eg3d-jax splat`: files that hold the fitted Gaussians, their measures, and its mistakes."""

import dataclasses
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import pytest

import inversion
from eg3d_jax.errors import InputError
from experiments.splat import Args, main
from inversion.splats.fit import SplatSettings, measure_splat

QUICK = {"steps": 3, "views": 4, "count": 150}


def arguments(inputs: Path, output: Path, **changes) -> Args:
    return dataclasses.replace(Args(run=inputs / "run", output=output, **QUICK), **changes)


@pytest.fixture(scope="module")
def made(visible_inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("splat")
    main(arguments(visible_inputs, folder, degree=1))
    return folder


def test_both_files_hold_what_was_fitted_and_the_numbers_tell_of_it(made, visible_inputs):
    numbers = json.loads((made / "splat.json").read_text())
    ply, spz = (inversion.load_gaussians(made / f"splat.{kind}") for kind in ("ply", "spz"))
    assert len(ply) == len(spz) == numbers["gaussians"] <= QUICK["count"]
    assert ply.degree == spz.degree == 1
    np.testing.assert_allclose(ply.centres, spz.centres, atol=1e-5)
    assert numbers["bytes"] == {
        kind: (made / f"splat.{kind}").stat().st_size for kind in ("ply", "spz")
    }
    assert numbers["generator"]["license"] == "of the weights"
    assert numbers["psnr_least"] <= numbers["psnr"]
    # What it measured is what the library measures on the file.
    head = inversion.load(visible_inputs / "run" / "result")
    settings = SplatSettings(**QUICK, degree=1)
    again = measure_splat(ply, head.generator, head.latents, settings)
    for name, value in again.items():
        assert math.isclose(value, numbers[name], rel_tol=1e-3), name


def test_the_library_fits_what_the_command_does(made, visible_inputs):
    head = inversion.load(visible_inputs / "run" / "result")
    fitted = inversion.splat(head, inversion.SplatSettings(**QUICK, degree=1))
    ply = inversion.load_gaussians(made / "splat.ply")
    np.testing.assert_allclose(fitted.centres, ply.centres, atol=1e-6)
    np.testing.assert_allclose(fitted.harmonics, ply.harmonics, atol=1e-6)


def test_an_earlier_splat_is_not_replaced_unasked(made, visible_inputs):
    with pytest.raises(InputError, match="--overwrite"):
        main(arguments(visible_inputs, made))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 5}, "--count 5"),
        ({"degree": 4}, "--degree 4"),
        ({"steps": 0}, "--steps 0"),
        ({"views": 1}, "--views 1"),
        ({"max_pitch": 89.0}, "--max-pitch 89"),
        ({"yaw": float("nan")}, "--yaw nan"),
        ({"formats": ()}, "--formats is empty"),
        ({"generator": Path("embedded")}, "not both"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(visible_inputs, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        main(arguments(visible_inputs, tmp_path / "a", **changes))
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
@pytest.mark.compiled_in_full
@pytest.mark.skipif(
    not os.environ.get("EG3D_JAX_LONG_TESTS"), reason="minutes; set EG3D_JAX_LONG_TESTS=1"
)
def test_a_head_of_the_embedded_generator_is_shown_within_the_promises(tmp_path):
    """Other heads than the demo's, from 24 cameras never fitted; seconds of two idle cores."""
    started = time.process_time()
    main(Args(generator=Path("embedded"), seed=3, output=tmp_path))
    seconds = time.process_time() - started
    numbers = json.loads((tmp_path / "splat.json").read_text())
    assert numbers["psnr"] >= 30
    assert numbers["lpips"] <= 0.03
    assert numbers["gaussians"] <= 60_000
    assert max(numbers["bytes"].values()) <= 8e6
    assert seconds <= 2 * 300
