"""The command that edits, as a user runs it, on a generator small enough for a test."""

import dataclasses
import json

import numpy as np
import pytest
import tyro
from PIL import Image

import inversion
from eg3d_jax.errors import InputError
from experiments.edit import Args, main
from experiments.subjects import load_subjects
from inversion.direction_files import load_directions, save_directions
from inversion.editing import Directions


def arguments(inputs, output, **changes) -> Args:
    args = Args(run=inputs / "run", which=(0,), strengths=(-1.0, 0.0, 2.0), yaws=(-30.0, 30.0),
                samples=2000, output=output)  # fmt: skip
    return dataclasses.replace(args, **changes)


def test_strips_and_directions_of_a_run(inputs, tmp_path):
    main(arguments(inputs, tmp_path / "edit", which=(0, 2)))
    found = json.loads((tmp_path / "edit" / "edit.json").read_text())
    assert sorted(path.name for path in (tmp_path / "edit").iterdir()) == [
        "direction_000.png", "direction_002.png", "directions.npz", "edit.json",
    ]  # fmt: skip
    assert found["head"] == "run"
    widths = found["standard_deviations"]
    assert widths["0"] > widths["2"] > 0
    picture = np.asarray(Image.open(tmp_path / "edit" / "direction_000.png"))
    rows = np.array_split(picture, 3)
    assert not np.array_equal(rows[0], rows[2])


def test_the_saved_head_is_moved_by_the_strength_in_the_chosen_layers(inputs, tmp_path):
    main(arguments(inputs, tmp_path / "edit", strengths=(2.0,), layers=(0, 1), save=True))
    before, after = (
        inversion.load(inputs / "run" / "result"),
        inversion.load(tmp_path / "edit" / "result"),
    )
    path = tmp_path / "edit" / "directions.npz"
    directions = load_directions(path, before.generator, before.metadata, pytest.fail)
    change = np.asarray(after.latents.w_plus - before.latents.w_plus)[0]
    want = 2.0 * directions.std[0] * directions.components[0]
    # Differences of float32 latents of order 1 to 10.
    np.testing.assert_allclose(change[:2], [want] * 2, atol=2e-6)
    np.testing.assert_array_equal(change[2:], 0)
    assert load_subjects(tmp_path / "edit", None, (), 1.0).names == ("edit",)


def test_directions_of_others_count_in_units_of_w(inputs, tmp_path):
    width = inversion.load(inputs / "run" / "result").generator.config.w_dim
    boundary = np.random.default_rng(0).standard_normal((1, width))
    np.save(tmp_path / "smile.npy", boundary)
    changes = {"directions": tmp_path / "smile.npy", "strengths": (0.5,), "save": True}
    main(arguments(inputs, tmp_path / "edit", **changes))
    before, after = (
        inversion.load(inputs / "run" / "result"),
        inversion.load(tmp_path / "edit" / "result"),
    )
    change = np.asarray(after.latents.w_plus - before.latents.w_plus)
    np.testing.assert_allclose(change, np.broadcast_to(0.5 * boundary, change.shape), atol=2e-6)


def test_directions_of_w_plus_move_each_layer_by_its_own_offset(inputs, tmp_path):
    before = inversion.load(inputs / "run" / "result")
    direction = np.random.default_rng(0).standard_normal((1, *before.latents.w_plus.shape[1:]))
    np.save(tmp_path / "smile.npy", direction)
    args = arguments(inputs, tmp_path / "edit", directions=tmp_path / "smile.npy", yaws=(0.0,))
    args = dataclasses.replace(args, strengths=(0.5,), layers=(1, 3), save=True)
    main(args)
    # The copy beside the strips is as good.
    copy = tmp_path / "edit" / "directions.npz"
    main(dataclasses.replace(args, directions=copy, output=tmp_path / "again"))
    for output in ("edit", "again"):
        after = inversion.load(tmp_path / output / "result")
        change = np.asarray(after.latents.w_plus - before.latents.w_plus)[0]
        # Differences of float32 latents of order 1 to 10.
        np.testing.assert_allclose(change[[1, 3]], 0.5 * direction[0, [1, 3]], atol=2e-6)
        np.testing.assert_array_equal(change[[0, 2, 4, 5]], 0)


def save_named(path, result, names=("jaw", "smile")):
    """Two directions of these names, as `python -m experiments.heads.directions` writes."""
    width = result.generator.config.w_dim
    components = np.eye(width, dtype=np.float32)[:2]
    std, mean = np.float32([1.5, 0.5]), np.zeros(width, np.float32)
    found = Directions(components=components, std=std, mean=mean, names=names)
    return save_directions(path, found, result.metadata)


def test_directions_with_names_are_found_by_them(inputs, tmp_path):
    before = inversion.load(inputs / "run" / "result")
    path = save_named(tmp_path / "named.npz", before)
    args = arguments(inputs, tmp_path / "edit", directions=path, strengths=(2.0,), yaws=(0.0,))
    main(dataclasses.replace(args, which=("smile",), save=True))
    assert (tmp_path / "edit" / "direction_smile.png").is_file()
    change = inversion.load(tmp_path / "edit" / "result").latents.w_plus - before.latents.w_plus
    # 2 * 0.5 along the second axis, added to latents of order 1.
    np.testing.assert_allclose(change, np.broadcast_to(np.eye(16)[1], change.shape), atol=1e-6)
    assert json.loads((tmp_path / "edit" / "edit.json").read_text())["standard_deviations"] == {
        "smile": 0.5
    }
    # The copy beside the strips keeps the names, and numbers are as good.
    copy = tmp_path / "edit" / "directions.npz"
    main(dataclasses.replace(args, which=(1, "jaw"), directions=copy, output=tmp_path / "again"))
    assert sorted(path.name for path in (tmp_path / "again").glob("*.png")) == [
        "direction_jaw.png", "direction_smile.png",
    ]  # fmt: skip
    with pytest.raises(InputError, match="--which grin.*0 to 1 and the names jaw, smile"):
        main(dataclasses.replace(args, which=("grin",), output=tmp_path / "none"))


def test_numbers_and_names_are_told_apart_on_the_command_line():
    assert tyro.cli(Args, args=["--which", "1", "smile", "0"]).which == (1, "smile", 0)


@pytest.mark.parametrize("names", [("jaw", "jaw"), ("jaw",), ("jaw", "../smile"), ("jaw", "12")])
def test_names_that_are_no_words_or_not_one_each_are_refused(inputs, tmp_path, names):
    path = save_named(tmp_path / "named.npz", inversion.load(inputs / "run" / "result"), names)
    with pytest.raises(InputError, match="by a word each"):
        main(arguments(inputs, tmp_path / "edit", directions=path))


def test_directions_of_another_generator_are_refused(inputs, tmp_path):
    main(arguments(inputs, tmp_path / "first"))
    path, spoiled = tmp_path / "first" / "directions.npz", tmp_path / "other.npz"
    with np.load(path) as file:
        np.savez(spoiled, **(dict(file) | {"fingerprint": np.array("another")}))
    with pytest.raises(InputError, match="directions of generator another"):
        main(arguments(inputs, tmp_path / "second", directions=spoiled))
    assert not (tmp_path / "second").exists()
    main(arguments(inputs, tmp_path / "second", directions=path))


@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY no", np.zeros((2, 3)), np.full((1, 8), np.nan)]
)
def test_files_that_hold_no_directions_are_refused(inputs, tmp_path, content):
    path = tmp_path / "bad.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        width = inversion.load(inputs / "run" / "result").generator.config.w_dim
        np.save(path, np.resize(content, (1, width)) if np.isnan(content).any() else content)
    with pytest.raises(InputError, match=r"bad\.npy"):
        main(arguments(inputs, tmp_path / "edit", directions=path))
    assert not (tmp_path / "edit").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"which": ()}, "one number each"),
        ({"which": (-1,)}, "from 0"),
        ({"which": (10_000,)}, "directions 0 to"),
        ({"which": ("smile",)}, "without names"),
        ({"strengths": (float("nan"),)}, "finite"),
        ({"samples": 1}, "--samples 1"),
        ({"layers": (0, 99)}, "--layers"),
        ({"save": True}, "one of --strengths"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_written(
    inputs, tmp_path, changes, message
):
    with pytest.raises(InputError, match=message):
        main(arguments(inputs, tmp_path / "edit", **changes))
    assert not (tmp_path / "edit").exists()


def test_an_earlier_edit_is_kept_unless_told_otherwise(inputs, tmp_path):
    main(arguments(inputs, tmp_path / "edit"))
    with pytest.raises(InputError, match="--overwrite"):
        main(arguments(inputs, tmp_path / "edit"))
    main(arguments(inputs, tmp_path / "edit", overwrite=True))
