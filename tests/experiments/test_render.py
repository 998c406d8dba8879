"""The command that renders, as a user runs it, on a generator small enough for a test."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from saved_results import save_result

from eg3d_jax.errors import InputError
from experiments.render import Args, main
from experiments.subjects import load_subjects
from inversion import result
from inversion.latents import Latents, repeat_latents

NUM_FRAMES = 4


def arguments(inputs, output, **changes) -> Args:
    args = Args(run=inputs / "run", num_frames=result.BATCH + 2, output=output)
    return dataclasses.replace(args, **changes)


def numbers(folder):
    return json.loads((folder / "render.json").read_text())


def test_an_orbit_of_a_run_leaves_a_video_and_numbers(inputs, tmp_path):
    main(arguments(inputs, tmp_path / "a", png=True))
    assert (tmp_path / "a" / "video.mp4").stat().st_size > 0
    pictures = sorted((tmp_path / "a" / "frames").iterdir())
    assert [p.name for p in pictures] == [f"{i:04d}.png" for i in range(result.BATCH + 2)]
    first, *_, last = (np.asarray(Image.open(p)) for p in pictures)
    assert first.shape[1] > 3 * 256  # colour, depth and normals
    content = numbers(tmp_path / "a")
    assert content["frames"] == result.BATCH + 2
    assert content["frames_per_second"] > 0
    assert content["generator"]["license"] == "of the weights"
    assert 0 <= content["flicker"]["image"] < 2
    # The path is symmetric and the sampling draws nothing: the way back is the way there.
    second = np.asarray(Image.open(pictures[1])).astype(int)
    assert np.abs(second - last)[:, :256].max() <= 1
    assert np.abs(second - first)[:, :256].max() > 1


def test_by_default_it_goes_into_the_run_and_is_not_replaced(inputs):
    few = {"num_frames": 2, "show": ("raw",)}
    main(arguments(inputs, None, **few))
    folder = inputs / "run" / "render" / "orbit"
    before = (folder / "video.mp4").read_bytes()
    with pytest.raises(InputError, match="--overwrite"):
        main(arguments(inputs, None, **few))
    assert (folder / "video.mp4").read_bytes() == before
    main(arguments(inputs, None, **few, fps=10, overwrite=True))
    assert numbers(folder)["settings"]["fps"] == 10


def test_files_of_others_are_not_overwritten(inputs, tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "0000.png").write_bytes(b"mine")
    with pytest.raises(InputError, match="not made by this command"):
        main(arguments(inputs, tmp_path, overwrite=True))
    assert (tmp_path / "frames" / "0000.png").read_bytes() == b"mine"


def test_the_cameras_of_frames_show_the_target_beside(inputs, tmp_path):
    changes = {"path": "frames", "frames": inputs / "frames", "show": ("colour",), "png": True}
    main(arguments(inputs, tmp_path, **changes))
    pictures = [np.asarray(Image.open(p)) for p in sorted((tmp_path / "frames").iterdir())]
    assert len(pictures) == NUM_FRAMES
    for i, picture in enumerate(pictures):
        height = picture.shape[0]
        assert picture[height // 2, 128].tolist() == [40 * i, 0, 0]
    # The same cameras from a file, as a path, show the same without the target.
    main(arguments(inputs, tmp_path / "b", **changes | {
        "path": str(inputs / "frames" / "dataset.json"), "frames": None}))  # fmt: skip
    alone = np.asarray(Image.open(tmp_path / "b" / "frames" / "0002.png"))
    side = alone.shape[1]
    np.testing.assert_array_equal(alone[-side:], pictures[2][-side:, -side:])


def test_a_walk_between_seeds_starts_at_the_first(inputs, tmp_path):
    seeds = {"run": None, "generator": inputs / "generator", "png": True, "show": ("raw",),
             "truncation": 1.0}  # fmt: skip
    main(arguments(inputs, tmp_path / "a", **seeds, seeds=(0, 5), path="walk"))
    main(arguments(inputs, tmp_path / "b", **seeds, seeds=(0,), max_yaw=0.0, num_frames=2))
    first = np.asarray(Image.open(tmp_path / "a" / "frames" / "0000.png")).astype(int)
    still = np.asarray(Image.open(tmp_path / "b" / "frames" / "0000.png"))
    side = 256
    assert np.abs(first[-side:, :side] - still[-side:, :side]).max() <= 1
    middle = np.asarray(
        Image.open(tmp_path / "a" / "frames" / f"{(result.BATCH + 2) // 2:04d}.png")
    )
    assert np.abs(first - middle).max() > 1
    assert numbers(tmp_path / "a")["heads"] == ["seed 0", "seed 5"]


def test_a_run_with_two_latents_shows_each_on_its_side(inputs, tmp_path):
    run = load_subjects(inputs / "run", None, (), 1.0)
    keys = jax.random.normal(jax.random.key(1), (2, *run.latents[0].w_plus.shape[1:]))
    runs = {
        "left": repeat_latents(keys[1], [0.0]),
        "right": repeat_latents(keys[0], [0.0]),
        "both": Latents(w_plus=keys, azimuth=np.pi / 2 + np.float32([-0.5, 0.5])),
    }
    films = {}
    for name, latents in runs.items():
        folder = tmp_path / name / "result"
        folder.mkdir(parents=True)
        save_result(folder, run.generator, latents, run.labels, run.metadata)
        main(arguments(inputs, tmp_path / name / "a", run=tmp_path / name, show=("colour",),
                       num_frames=4, png=True))  # fmt: skip
        paths = sorted((tmp_path / name / "a" / "frames").iterdir())
        films[name] = [np.asarray(Image.open(path), int) for path in paths]
    # From -70 degrees of yaw, which is beyond the last azimuth, to 70 and back.
    assert np.abs(films["both"][0] - films["left"][0]).max() <= 1
    assert np.abs(films["both"][2] - films["right"][2]).max() <= 1
    for name in ("left", "right"):  # half way it is a mixture
        assert np.abs(films["both"][1] - films[name][1]).max() > 8


def test_seeds_are_those_of_numpy(inputs):
    subjects = load_subjects(None, inputs / "generator", (7,), 1.0)
    z = np.random.RandomState(7).randn(1, subjects.generator.config.z_dim)[0]
    ws = jax.jit(lambda g, z: g.map_to_ws(z))(subjects.generator, jnp.asarray(z, jnp.float32))
    np.testing.assert_allclose(subjects.latents[0].w_plus[0], ws, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "frames"}, "add --frames"),
        ({"frames": "frames"}, "for --path frames only"),
        ({"path": "circle"}, "circle is no file"),
        ({"path": "walk"}, "two or more seeds"),
        ({"num_frames": 1}, "--num-frames 1"),
        ({"max_yaw": 200.0}, "0 to 180"),
        ({"max_yaw": float("nan")}, "0 to 180"),
        ({"pitch": 90.0}, "-85 to 85"),
        ({"fps": 0}, "1 to 240"),
        ({"show": ()}, "--show is empty"),
        ({"generator": "generator"}, "not both"),
        ({"seeds": (1,)}, "add --generator"),
        ({"run": None, "generator": "generator", "seeds": (-1,)}, "seed -1"),
        ({"run": None, "generator": "generator", "truncation": float("nan")}, "--truncation"),
        ({"run": "frames"}, "no complete result"),
        ({"run": "nowhere"}, "nowhere is no folder"),
        ({"run": None, "generator": "frames"}, r"checkpoint\.json"),
        ({"output": "frames/0.png"}, "is a file"),
        ({"finer": 0}, "--finer 0"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(inputs, tmp_path, changes, message):
    paths = {key: inputs / changes[key] for key in ("run", "generator", "frames", "output")
             if changes.get(key)}  # fmt: skip
    with pytest.raises(InputError, match=message):
        main(dataclasses.replace(arguments(inputs, tmp_path / "a"), **changes | paths))
    assert not (tmp_path / "a").exists()
