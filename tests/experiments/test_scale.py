"""Costs worked out from measured steps, on steps whose costs are known."""

import json

import pytest

from eg3d_jax.errors import InputError
from experiments.benchmark import scale
from experiments.benchmark.scale import Steps, run_seconds, steps_of, subject_seconds

COUNTS = {"latent": 10, "tuning": 100}


def case(seconds, compiling=1.0):
    return {"seconds": [seconds, seconds * 3, seconds], "compile_seconds": compiling}


def test_the_fixed_part_and_a_view_are_told_apart():
    """A latent step of 2 + V seconds and a tuning step of 0.5 V."""
    cases = {
        "latent step, 1 view": case(3.0), "latent step, 9 views": case(11.0, 20.0),
        "tuning step, 1 view": case(0.5), "tuning step, 9 views": case(4.5, 30.0),
    }  # fmt: skip
    steps = steps_of(cases)
    assert steps["latent"] == Steps(fixed=2.0, each=1.0, compiling=20.0)
    assert steps["tuning"] == Steps(fixed=0.0, each=0.5, compiling=30.0)
    assert subject_seconds(steps, COUNTS, views=4) == 10 * 6 + 100 * 2
    # Seven videos on three devices are three rounds.
    found = run_seconds(steps, COUNTS, views=4, videos=7, devices=3)
    assert found == 50 + 3 * 260


def test_the_command_prints_both_tables(tmp_path, capsys):
    path = tmp_path / "bars.json"
    steps = {f"{stage} step, {views}": case(1.0) for stage in ("latent", "tuning")
             for views in ("1 view", "9 views")}  # fmt: skip
    path.write_text(json.dumps({"cases": steps}))
    scale.main(scale.Args(measured=path, views=(1, 2), videos=(1, 16), devices=(1, 4)))
    said = capsys.readouterr().out
    # Steps that take a second whatever the views: 1,000 steps and 2 s of compiling.
    assert "17 min" in said
    assert "4.4 h" in said
    assert "100%" in said


def test_what_cannot_be_worked_out_is_refused(tmp_path):
    path = tmp_path / "bars.json"
    path.write_text("{}")
    with pytest.raises(InputError, match="bars --out FILE"):
        scale.main(scale.Args(measured=path))
    with pytest.raises(InputError, match="--devices"):
        scale.main(scale.Args(measured=path, devices=(0,)))
