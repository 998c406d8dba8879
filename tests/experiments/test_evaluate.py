"""The command that measures runs, as a user runs it, on a generator small enough for a test."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from saved_results import save_result

import inversion
from eg3d_jax.errors import InputError
from experiments.evaluate.files import Evaluated
from experiments.evaluate.main import Args, main, prepare
from inversion.evaluation import fitted_frames
from inversion.files import fingerprint
from inversion.frames.folder import read_frames


@pytest.fixture
def run(visible_inputs, tmp_path):
    """A run of the four frames that was fitted to the second and third."""
    shutil.copytree(visible_inputs / "run", tmp_path / "run")
    result = inversion.load(tmp_path / "run" / "result")
    labels = np.asarray(result.labels)
    save_result(
        tmp_path / "run" / "result", result.generator, result.latents, labels[1:3], result.metadata
    )
    config = {
        "format": "eg3d_jax run 1",
        "frames_folder": str(visible_inputs / "frames"),
        "settings": {"frame_labels": fingerprint({"labels": labels}), "identity": None},
    }
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    return tmp_path / "run"


def test_numbers_tables_and_curves_of_a_run(run):
    main(Args(runs=(run,)))
    folder = run / "evaluation"
    assert sorted(path.name for path in folder.iterdir()) == [
        "by_yaw.csv", "curves.png", "curves.svg", "frames.csv", "metrics.json", "table.md",
    ]  # fmt: skip
    found = json.loads((folder / "metrics.json").read_text())
    with (folder / "frames.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["group"] for row in rows] == ["beyond", "fitted", "fitted", "beyond"]
    psnr = [float(row["psnr"]) for row in rows]
    means = found["metrics"]["psnr"]
    assert means["all"]["mean"] == pytest.approx(np.mean(psnr))
    assert means["fitted"]["mean"] == pytest.approx(np.mean(psnr[1:3]))
    assert means["beyond"]["count"] == 2
    assert means["in between"] is None
    assert found["metrics"]["identity"] == "no network given"
    assert found["between_latents"]["depth_spread"] is None
    assert found["generator"]["license"] == "of the weights"
    with (folder / "by_yaw.csv").open(newline="") as file:
        bins = [row for row in csv.DictReader(file) if row["metric"] == "psnr"]
    assert [float(row["yaw_degrees"]) for row in bins] == [-30, -10, 10, 30]
    assert np.asarray(Image.open(folder / "curves.png")).std() > 0
    assert "| identity | no network given |" in (folder / "table.md").read_text()


def test_frames_between_the_fitted_angles_are_told_from_those_beyond():
    run = Evaluated(
        name="run", names=tuple("0123"), yaw_degrees=np.array([-30.0, -10.0, 10.0, 30.0]),
        fitted=np.array([True, False, True, False]), columns={}, latents={}, count=1,
        identity_network=None, provenance={},
    )  # fmt: skip
    assert run.group_names() == ["fitted", "in between", "fitted", "beyond"]
    groups = {name: np.flatnonzero(chosen).tolist() for name, chosen in run.groups.items()}
    assert groups == {"all": [0, 1, 2, 3], "fitted": [0, 2], "in between": [1], "beyond": [3]}


def test_of_two_frames_with_one_camera_the_one_fitted_is_known_by_name(visible_inputs):
    frames = read_frames(visible_inputs / "frames", image_side=32)
    twice = frames[np.array([0, 1, 1, 2])]
    twice = dataclasses.replace(twice, names=("a.png", "b.png", "c.png", "d.png"))
    head = inversion.load(visible_inputs / "run" / "result")
    named = dataclasses.replace(head, cameras=twice.cameras[1:3], names=("b.png", "x.png"))
    assert fitted_frames(named, twice).tolist() == [False, True, False, False]
    # Without names, or with those of another folder, cameras alone can tell.
    for names in ((), ("y.png", "z.png")):
        found = fitted_frames(dataclasses.replace(named, names=names), twice)
        assert found.tolist() == [False, True, True, False]


def test_several_runs_count_once_each(run, visible_inputs, tmp_path):
    shutil.copytree(run, tmp_path / "other")
    result = inversion.load(run / "result")
    latents = dataclasses.replace(result.latents, w_plus=2 * result.latents.w_plus)
    save_result(
        tmp_path / "other" / "result", result.generator, latents, result.labels, result.metadata
    )
    main(Args(runs=(run, tmp_path / "other"), output=tmp_path / "both"))
    found = json.loads((tmp_path / "both" / "metrics.json").read_text())
    means = [found["runs"][name]["metrics"]["psnr"]["fitted"]["mean"] for name in ("run", "other")]
    assert means[0] != means[1]
    overall = found["mean_over_runs"]["fitted"]["psnr"]
    assert overall["mean"] == pytest.approx(np.mean(means))
    assert overall["count"] == 2
    text = (tmp_path / "both" / "table.md").read_text()
    assert text.count("| mean of 2 |") == 4
    assert (tmp_path / "other" / "evaluation" / "metrics.json").is_file()


def test_nothing_is_replaced_unless_asked(run):
    main(Args(runs=(run,)))
    before = (run / "evaluation" / "metrics.json").read_bytes()
    with pytest.raises(InputError, match="--overwrite"):
        main(Args(runs=(run,)))
    main(Args(runs=(run,), overwrite=True))
    assert (run / "evaluation" / "metrics.json").read_bytes() == before


def test_frames_that_changed_are_refused_unless_named(run, visible_inputs, tmp_path):
    shutil.copytree(visible_inputs / "frames", tmp_path / "frames")
    path = tmp_path / "frames" / "dataset.json"
    pairs = json.loads(path.read_text())["labels"]
    path.write_text(json.dumps({"labels": pairs[:3]}))
    (tmp_path / "frames" / "3.png").unlink()
    config = json.loads((run / "config.json").read_text())
    config["frames_folder"] = str(tmp_path / "frames")
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="has changed"):
        main(Args(runs=(run,)))
    main(Args(runs=(run,), frames=tmp_path / "frames"))
    assert json.loads((run / "evaluation" / "metrics.json").read_text())["run"] == "run"


def test_other_pictures_are_refused_unless_named(run, visible_inputs):
    config = json.loads((run / "config.json").read_text())
    config["settings"]["frame_pictures"] = "of others"
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="its pictures are others"):
        prepare(run, Args())
    prepare(run, Args(frames=visible_inputs / "frames"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: shutil.rmtree(run / "result"), "no complete result"),
        (lambda run: (run / "config.json").write_text("{"), "cannot be read"),
        (lambda run: (run / "config.json").write_text("[]"), "not of a run"),
        (lambda run: (run / "config.json").unlink(), "--frames"),
    ],
)
def test_damaged_runs_are_refused_before_anything_is_written(run, spoil, message):
    spoil(run)
    with pytest.raises(InputError, match=message):
        main(Args(runs=(run,)))
    assert not (run / "evaluation").exists()


def test_runs_that_do_not_exist_or_share_a_name_are_refused(run, tmp_path):
    with pytest.raises(InputError, match="no folder"):
        main(Args(runs=(tmp_path / "nothing",)))
    with pytest.raises(InputError, match="differ in their folders' names"):
        main(Args(runs=(run, run)))


def test_the_network_of_the_loss_does_not_mark_its_own_work(run, tmp_path):
    from eg3d_jax.folders import sha256

    weights = tmp_path / "faces.pth"
    weights.write_bytes(b"some weights")
    config = json.loads((run / "config.json").read_text())
    config["settings"]["identity"] = sha256(weights)
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="mark its own work"):
        main(Args(runs=(run,), identity=weights))
    # Allowed, it goes on to what the small pictures forbid.
    with pytest.raises(InputError, match="compared in 256"):
        main(Args(runs=(run,), identity=weights, same_network=True))
