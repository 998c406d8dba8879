"""The command that compares methods, as a user runs it, on a generator small enough for a test."""

import csv
import dataclasses
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from eg3d_jax.errors import InputError
from experiments.compare import main as compare
from experiments.compare.claims import claims, claims_table
from experiments.compare.files import FILES, Compared
from experiments.compare.jobs import run_state
from experiments.compare.main import Args, jobs_of, main
from experiments.evaluate.files import Evaluated
from experiments.report.tables import latex
from experiments.runs.folder import RunFolder


def arguments(inputs, output, **changes) -> Args:
    args = Args(frames=(inputs / "frames",), generator=inputs / "generator", output=output,
                methods=("single view",), views=3, latents=2, preset="quick",
                latent_steps=1, latents_steps=1, tuning_steps=0)  # fmt: skip
    return dataclasses.replace(args, **changes)


@pytest.mark.slow
def test_tables_curves_pictures_and_what_is_kept(visible_inputs, tmp_path):
    args = arguments(visible_inputs, tmp_path / "compare")
    main(args)
    assert all((args.output / name).stat().st_size > 0 for name in FILES)
    found = json.loads((args.output / "comparison.json").read_text())
    run = args.output / "runs" / "single_view" / "frames"
    measured = json.loads((run / "metrics.json").read_text())
    frames = measured["frames"]["1 view, latent"]["psnr"]
    everything = found["methods"]["single view"]["psnr"]["all"]
    # Rendered again from the stored result: float32 along another compiled path.
    assert everything["mean"] == pytest.approx(np.mean(frames), abs=0.01)
    assert everything["count"] == 1
    with (args.output / "numbers.csv").open(newline="") as file:
        numbers = list(csv.DictReader(file))
    assert [row["frames"] for row in numbers] == ["all", "fitted", "unseen"]
    assert float(numbers[0]["psnr"]) == everything["mean"]
    assert numbers[0]["identity"] == numbers[0]["path_distance"] == "nan"
    assert "no network given" in (args.output / "table.md").read_text()
    assert (args.output / "table.tex").read_text().count(r"\\") == 4
    assert np.asarray(Image.open(args.output / "views.png")).std() > 0

    # Called again it measures anew and inverts nothing.
    before = (run / "report.html").stat().st_mtime_ns
    main(args)
    assert (run / "report.html").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="other settings"):
        main(dataclasses.replace(args, seed=1))


@pytest.mark.parametrize("identity", [None, 0.75])
def test_every_number_stands_below_its_heading(identity):
    columns = {"psnr": np.array([20.0, 30.0])}
    columns |= {} if identity is None else {"identity": np.array([0.25, identity])}
    run = Evaluated(
        name="run", names=("0.png", "1.png"), yaw_degrees=np.array([0.0, 20.0]),
        fitted=np.array([True, False]), columns=columns, count=2, identity_network=None,
        latents={"depth_spread": 0.01, "path_distance": 5.0, "path_angle": None}, provenance={},
    )  # fmt: skip
    compared = Compared(
        heads=("a",), methods=("m",), evaluated={("a", "m"): run}, runs={}, frames={}
    )
    heading, rows = compared.rows()
    assert all(len(row) == len(heading) for row in rows)
    found = {row[0]: dict(zip(heading, row, strict=True)) for row in rows}
    assert list(found) == ["all", "fitted", "unseen"]
    assert [row["PSNR, dB"] for row in found.values()] == ["25.00", "20.00", "30.00"]
    wanted = ["no network given"] * 3 if identity is None else ["0.500", "0.250", "0.750"]
    assert [row["identity"] for row in found.values()] == wanted
    latents = [found["all"][name] for name in ("depth spread", "path step", "path angle")]
    assert latents == ["0.0100", "5.0", "-"]
    assert found["unseen"]["path step"] == ""


def test_a_claim_is_judged_by_the_ratios_of_the_heads():
    numbers = {
        ("multi-view", "mse"): (1.0, 2.0, 4.0),
        ("multi-latent", "mse"): (0.9, 1.7, 3.7),  # less for every head
        ("multi-view", "lpips"): (1.0, 1.0, 1.0),
        ("multi-latent", "lpips"): (1.2, 0.7, 0.9),  # less on average, but not clearly
        ("multi-latent", "depth_spread"): (1.0, 1.0, 1.0),
        ("+ depth", "depth_spread"): (0.8, 0.9, 0.9),  # less, but not by as much as claimed
    }

    def value(head, method, metric, frames):
        return numbers.get((method, metric), (np.nan,) * 3)[int(head)]

    found = claims(("multi-view", "multi-latent", "+ depth"), "012", value)
    assert [(c.metric, c.frames, c.verdict, c.heads) for c in found] == [
        ("mse", "fitted", "holds", (3, 3)),
        ("lpips", "fitted", "not clear", (2, 3)),
        ("mse", "all", "holds", (3, 3)),
        ("lpips", "all", "not clear", (2, 3)),
        ("depth_spread", "all", "does not hold", (0, 3)),
    ]
    assert found[0].ratio == pytest.approx((0.9 + 0.85 + 0.925) / 3)
    table = claims_table(found)
    assert table.count("holds") == 2
    assert claims(("single view",), "012", value) == []


def test_a_run_without_its_report_goes_on(tmp_path):
    video = SimpleNamespace(run=tmp_path / "run", settings={"views": 7})
    assert run_state(video) == "new"
    RunFolder.create(video.run, video.settings).close()
    assert run_state(video) == "begun"
    (video.run / "report.html").write_text("all of it")
    assert run_state(video) == "finished"
    video.settings = {"views": 3}
    with pytest.raises(InputError, match="views was 7, is 3"):
        run_state(video)


def test_every_method_differs_in_the_settings_that_its_name_says(tmp_path):
    jobs = jobs_of(Args(output=tmp_path))
    assert len({run for job in jobs.values() for run in job.runs.values()}) == 14
    ways = {
        method: (job.options.views, job.options.config.num_latents, job.options.config.regularizers)
        for method, job in jobs.items()
    }
    all_three = ("distance", "interpolation", "depth")
    assert ways == {
        "single view": (1, 1, all_three),
        "multi-view": (7, 1, all_three),
        "multi-latent": (7, 7, ()),
        "+ distance": (7, 7, ("distance",)),
        "+ interpolation": (7, 4, ("interpolation",)),
        "+ depth": (7, 7, ("depth",)),
        "+ all": (7, 4, all_three),
    }
    assert {m for m, job in jobs.items() if job.start == "multi-view"} == {*list(ways)[2:]}
    alone = jobs_of(Args(output=tmp_path, methods=("+ all",)))
    assert alone["+ all"].start is None


@pytest.mark.parametrize(
    ("changes", "drawn"),
    [
        ({}, 2),  # 'quick' draws one, and interpolation could not take part of that
        ({"views_per_step": 1}, 1),
        ({"views_per_step": 4}, 4),
        ({"preset": "paper"}, None),
        ({"generator": Path("weights/ffhq")}, None),
    ],
)
def test_every_method_sees_as_many_pictures_a_step(tmp_path, changes, drawn):
    jobs = jobs_of(Args(output=tmp_path, **changes))
    assert {job.options.config.views_per_step for job in jobs.values()} == {drawn}


@pytest.mark.skipif(
    not os.environ.get("EG3D_JAX_LONG_TESTS"),
    reason="half a minute; set EG3D_JAX_LONG_TESTS=1",
)
def test_several_latents_of_several_heads_start_from_what_multi_view_found(
    visible_inputs, tmp_path
):
    other = tmp_path / "other"
    shutil.copytree(visible_inputs / "frames", other)
    frames = (visible_inputs / "frames", other)
    args = arguments(visible_inputs, tmp_path / "compare", frames=frames, latent_steps=2,
                     methods=("+ distance", "multi-view"))  # fmt: skip
    main(args)
    found = json.loads((args.output / "comparison.json").read_text())
    assert list(found["methods"]) == ["multi-view", "+ distance"]
    runs = args.output / "runs"
    for head in ("frames", "other"):
        one, several = (runs / m / head / "state" for m in ("multi-view", "with_distance"))
        name = "3-views-latent"
        copied = (several / name / "00000002" / "manifest" / "metadata").read_text()
        assert copied == (one / name / "00000002" / "manifest" / "metadata").read_text()
        with (runs / "with_distance" / head / "log.csv").open(newline="") as file:
            stages = [row["stage"] for row in csv.DictReader(file)]
        assert stages == ["3 views, latent"] * 2 + ["3 views, 3 latents, latents"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("multi view",)}, "'multi view' is unknown"),
        ({"methods": ("multi-view", "multi-view")}, "name each once"),
        ({"methods": ()}, "one at least"),
        ({"frames": ()}, "--frames names nothing"),
        ({"views": 9, "methods": ("multi-view",)}, "fewer than the 9 views"),
        ({"latents": 4, "methods": ("+ all",)}, "--latents 4"),
        ({"latents": 0}, "--latents 0 must be at least 1"),
        ({"views_per_step": 0}, "--views-per-step 0 must be at least 1"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(visible_inputs, tmp_path, changes, message):
    args = arguments(visible_inputs, tmp_path / "compare", **changes)
    with pytest.raises(InputError, match=message):
        main(args)
    assert not (tmp_path / "compare" / "runs").exists()


def test_a_head_named_twice_is_refused(visible_inputs, tmp_path):
    folder = visible_inputs / "frames"
    with pytest.raises(InputError, match="twice"):
        main(arguments(visible_inputs, tmp_path, frames=(folder, folder)))


def test_a_foreign_table_is_found_before_the_first_inversion(visible_inputs, tmp_path, monkeypatch):
    (tmp_path / "table.md").write_text("mine")
    monkeypatch.setattr(compare, "run_jobs", lambda *_: pytest.fail("heads were inverted"))
    with pytest.raises(InputError, match="table.md already, not made by this command"):
        main(arguments(visible_inputs, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]
    assert (tmp_path / "table.md").read_text() == "mine"


def test_a_pattern_stands_for_the_heads_that_it_matches(tmp_path):
    folders = [tmp_path / name for name in ("a/x", "a/y", "b/x")]
    for folder in folders:
        folder.mkdir(parents=True)
    patterns = (tmp_path / "a" / "*", tmp_path / "b" / "*")
    args = Args(output=tmp_path, frames=patterns, methods=("multi-view",))
    job = jobs_of(args)["multi-view"]
    home = tmp_path / "runs" / "multi-view"
    assert job.runs == {name: home / name for name in ("a-x", "y", "b-x")}
    assert job.frames == tuple(folders)


def test_latex_escapes_what_it_would_read():
    text = latex(["a & b", "100 %"], [["x_y", "1"]])
    assert r"a \& b & 100 \%" in text
    assert r"x\_y & 1 \\" in text
