"""The command that inverts a head, as a user runs it, on a generator small enough for a test."""

import contextlib
import csv
import dataclasses
import errno
import io
import json
import re

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from short_runs import STEPS, VIEWS, arguments

import inversion
from eg3d_jax import checkpoint
from eg3d_jax.errors import DiskFullError, InputError
from experiments.invert.args import Args, choose_config
from experiments.invert.execute import advise_resume
from experiments.invert.main import main
from experiments.invert.plan import RunOptions
from experiments.subjects import EMBEDDED
from inversion.config import quick
from inversion.monitor import Stopped

NUM_FRAMES = 4
REGULARIZERS = ("distance", "interpolation", "depth")


@pytest.fixture(scope="module")
def inputs(visible_inputs):
    """A generator's folder, and frames."""
    return visible_inputs


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "whole"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        main(arguments(inputs, run))
    (run.parent / "said.txt").write_text(said.getvalue())
    return run


@pytest.mark.slow
def test_a_run_leaves_pictures_video_numbers_report_and_state(finished):
    for name in ("config.json", "report.html", "turntable.mp4", "pictures/views.png", "log.csv"):
        assert (finished / name).stat().st_size > 0
    assert list((finished / "tensorboard").glob("events*"))
    metrics = json.loads((finished / "metrics.json").read_text())
    assert [m["method"] for m in metrics["methods"]] == ["3 views, latent", "3 views, tuned"]
    groups = metrics["methods"][1]["groups"]
    assert groups["fitted"]["frames"] + groups["not fitted"]["frames"] == NUM_FRAMES
    assert "Between the latents" not in (finished / "report.html").read_text()
    for name in ("3 views, latent", "3 views, tuning"):
        psnr = np.array(metrics["frames"][name]["psnr"])
        assert psnr.shape == (NUM_FRAMES,)
        assert np.isfinite(psnr).all()


def test_the_memory_of_the_steps_is_planned(finished):
    said = (finished.parent / "said.txt").read_text()
    planned = re.search(r"memory: ([\d.]+) GB planned", said)
    assert planned is not None
    assert float(planned[1]) > 0  # tens of megabytes; the generator alone has less than ten


def test_the_result_loads_with_the_labels_of_the_fitted_views(finished, inputs):
    result = inversion.load(finished / "result")
    generator, config = result.generator, result.generator.config
    assert result.latents.w_plus.shape == (1, config.num_ws, config.w_dim)
    assert result.labels.shape == (VIEWS, 25)
    original = checkpoint.load(inputs / "generator")
    changed = [
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(generator), jax.tree.leaves(original), strict=True)
    ]
    assert any(changed)


def test_a_latent_beside_another_generator_is_refused(finished, inputs, tmp_path):
    original = checkpoint.load(inputs / "generator")
    checkpoint.save(tmp_path / "generator", original)
    latents = (finished / "result" / "latents.npz").read_bytes()
    (tmp_path / "latents.npz").write_bytes(latents)
    with pytest.raises(InputError, match="another generator"):
        inversion.load(tmp_path)


@pytest.mark.slow
def test_several_latents_start_from_the_one_of_all_views(inputs, tmp_path):
    run = tmp_path / "several"
    args = arguments(inputs, run, latents=2)
    main(args)
    result = inversion.load(run / "result")
    config = result.generator.config
    assert result.latents.w_plus.shape == (2, config.num_ws, config.w_dim)
    assert result.latents.azimuth[0] < result.latents.azimuth[1]
    assert not np.array_equal(*result.latents.w_plus)
    metrics = json.loads((run / "metrics.json").read_text())
    names = ["3 views, latent", "3 views, tuned"]
    names += ["3 views, 2 latents, latents", "3 views, 2 latents, tuned"]
    assert [m["method"] for m in metrics["methods"]] == names
    assert "2 latents instead of one" in metrics["summary"][-1]
    page = (run / "report.html").read_text()
    assert "<h2>Between the latents</h2>" in page
    assert page.count('alt="maps"') == 1
    with (run / "log.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["stage"].endswith(", latents")]
    assert len(rows) == STEPS["latents.num_steps"]
    assert all(float(row[name]) >= 0 for row in rows for name in REGULARIZERS)
    assert float(rows[0]["distance"]) == 0.0  # all start where the single one ended
    with pytest.raises(InputError, match="regularizers"):
        main(dataclasses.replace(args, resume=True, regularise=("depth",)))


def test_resuming_a_finished_run_changes_no_number(finished, inputs):
    before = (finished / "metrics.json").read_text()
    main(arguments(inputs, finished, resume=True))
    after = json.loads((finished / "metrics.json").read_text())
    assert after["frames"] == json.loads(before)["frames"]


def test_resuming_with_other_settings_names_them(finished, inputs):
    with pytest.raises(InputError, match="views was 3, is 2"):
        main(arguments(inputs, finished, resume=True, views=2))


def test_a_taken_folder_is_not_overwritten(finished, inputs):
    with pytest.raises(InputError, match="--resume"):
        main(arguments(inputs, finished))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": 7}, "fewer than the 7 views"),
        ({"views": 0}, "at least 1"),
        ({"latents": 4}, "at most the number of views, 3"),
        ({"latent_steps": -1}, "must not be negative"),
        ({"target_lpips": 0.0}, "--target-lpips 0.0 must be positive"),
        ({"pixel_weight": -1.0}, "--pixel-weight -1.0 must be 0 or a positive number"),
        ({"pixel_weight": float("nan")}, "--pixel-weight nan must be"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(inputs, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        main(arguments(inputs, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_generator_is_named(inputs, tmp_path):
    with pytest.raises(InputError, match=r"checkpoint\.json"):
        main(arguments(inputs, tmp_path / "run", generator=tmp_path))


@pytest.mark.parametrize(
    ("option", "value", "field"),
    [
        ("latent_steps", 7, "latent.num_steps"),
        ("latents_steps", 7, "latents.num_steps"),
        ("tuning_steps", 7, "tuning.num_steps"),
        ("pixel_weight", 10.0, "weights.pixel"),
        ("regularise", ("depth",), "regularizers"),
        ("update", "alternating", "update"),
        ("views_per_step", 2, "views_per_step"),
        ("views_at_once", 2, "views_at_once"),
        ("rays_at_once", 64, "rays_at_once"),
        ("latent_space", "w", "latent_space"),
        ("fit_noise_maps", True, "fit_noise_maps"),
        ("target_lpips", 0.1, "target_lpips"),
        ("mask_background", True, "mask_background"),
        ("latents", 3, "num_latents"),
        ("knots", "change", "knots"),
    ],
)
def test_an_option_changes_the_one_setting_it_names(option, value, field):
    configs = [choose_config(args, EMBEDDED) for args in (Args(), Args(**{option: value}))]
    usual, given = (flatten_dict(dataclasses.asdict(config), sep=".") for config in configs)
    assert {key for key in usual if usual[key] != given[key]} == {field}
    assert given[field] == value


def test_without_options_the_presets_hold():
    assert choose_config(Args(), EMBEDDED) == quick()
    assert choose_config(Args(preset="paper"), EMBEDDED).weights.pixel == 0.1  # spec inversion 10


@pytest.mark.parametrize("again", ["--resume", "the same command"])
def test_a_full_disk_and_ctrl_c_say_how_the_run_goes_on(tmp_path, again):
    options = RunOptions(run=tmp_path, config=quick(), views=1, again=again)
    for raised, said in (
        (OSError(errno.ENOSPC, "No space", "a.png"), "while writing a.png; free some space"),
        (DiskFullError("the disk is full: step 4 is there"), "step 4 is there"),
    ):
        with (
            pytest.raises(DiskFullError, match=f"{said}, and continue with {again}"),
            advise_resume(options),
        ):
            raise raised
    for raised in (Stopped("as asked"), KeyboardInterrupt()):
        with pytest.raises(KeyboardInterrupt, match=again), advise_resume(options):
            raise raised
