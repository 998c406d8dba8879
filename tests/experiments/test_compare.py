"""The command that compares methods, as a user runs it, on a generator small enough for a test."""

import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from experiments.compare import Args, main, run_state, runs_of
from experiments.compare_files import FILES, Compared
from experiments.errors import InputError
from experiments.evaluation_files import Evaluated
from experiments.runs import RunFolder
from experiments.tables import latex


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
    run = args.output / "runs" / "frames" / "single_view"
    measured = json.loads((run / "metrics.json").read_text())
    frames = measured["frames"]["1 view, latent"]["psnr"]
    everything = found["methods"]["single view"]["psnr"]["all"]
    # Rendered again from the stored result: float32 along another compiled path.
    assert everything["mean"] == pytest.approx(np.mean(frames), abs=0.01)
    assert everything["count"] == 1
    with (args.output / "table.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["method"] for row in table] == ["single view"]
    assert [row["identity"] for row in table] == ["no network given"]
    assert [row["path step"] == "-" for row in table] == [True]
    assert (args.output / "table.tex").read_text().count(r"\\") == 2
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
    heading, (row,) = compared.rows()
    found = dict(zip(heading, row, strict=True))
    assert len(found) == len(heading)
    assert (found["PSNR, dB"], found["PSNR, dB, unseen"]) == ("25.00", "30.00")
    known = {"identity": "0.500", "identity, unseen": "0.750"}
    wanted = {"identity": "no network given"} if identity is None else known
    assert {name: found[name] for name in found if name.startswith("identity")} == wanted
    assert (found["depth spread"], found["path step"], found["path angle"]) == (
        "0.0100",
        "5.0",
        "-",
    )


def test_a_run_without_its_report_goes_on(tmp_path):
    job = runs_of(Args(output=tmp_path))["demo_a", "multi-view"]
    assert run_state(job, {"views": 7}) == "new"
    RunFolder.create(job.run, {"views": 7}).close()
    assert run_state(job, {"views": 7}) == "begun"
    (job.run / "report.html").write_text("all of it")
    assert run_state(job, {"views": 7}) == "finished"
    with pytest.raises(InputError, match="views was 7, is 3"):
        run_state(job, {"views": 3})


def test_every_method_differs_in_the_settings_that_its_name_says(tmp_path):
    jobs = runs_of(Args(output=tmp_path))
    assert len(jobs) == 14
    assert len({job.run for job in jobs.values()}) == 14
    ways = {m: (j.views, j.latents, j.regularise) for (h, m), j in jobs.items() if h == "demo_a"}
    assert ways == {
        "single view": (1, 1, None),
        "multi-view": (7, 1, None),
        "multi-latent": (7, 4, ()),
        "+ distance": (7, 4, ("distance",)),
        "+ interpolation": (7, 4, ("interpolation",)),
        "+ depth": (7, 4, ("depth",)),
        "+ all": (7, 4, None),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("multi view",)}, "'multi view' is unknown"),
        ({"methods": ("multi-view", "multi-view")}, "name each once"),
        ({"methods": ()}, "one at least"),
        ({"frames": ()}, "none"),
        ({"views": 9, "methods": ("multi-view",)}, "fewer than the 9 views"),
        ({"latents": 4, "methods": ("+ depth",)}, "--latents 4"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(visible_inputs, tmp_path, changes, message):
    args = arguments(visible_inputs, tmp_path / "compare", **changes)
    with pytest.raises(InputError, match=message):
        main(args)
    assert not (tmp_path / "compare" / "runs").exists()


def test_heads_of_one_name_are_refused(visible_inputs, tmp_path):
    folder = visible_inputs / "frames"
    with pytest.raises(InputError, match="different names"):
        main(arguments(visible_inputs, tmp_path, frames=(folder, folder)))


def test_latex_escapes_what_it_would_read():
    text = latex(["a & b", "100 %"], [["x_y", "1"]])
    assert r"a \& b & 100 \%" in text
    assert r"x\_y & 1 \\" in text
