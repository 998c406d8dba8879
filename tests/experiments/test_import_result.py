"""Results of the authors' PyTorch code become run folders."""

import dataclasses
import json

import numpy as np
import pytest

from convert_weights.generator import to_torch_state
from eg3d_jax.cameras import to_label, yaw_pitch_camera
from eg3d_jax.config import tiny
from experiments.errors import InputError
from experiments.import_result import Args, main
from experiments.results import load_result

CONFIG = dataclasses.replace(
    tiny(), render=dataclasses.replace(tiny().render, ray_start=2.35)
)  # the authors' code sets it
SHAPE = (1, CONFIG.num_ws, CONFIG.w_dim)
YAW = np.radians([10.0, -40.0, 60.0])


@pytest.fixture(scope="module")
def state(writer):
    return writer.state_dict(CONFIG, seed=3)


@pytest.fixture(scope="module")
def pickle(writer, state, tmp_path_factory):
    path = tmp_path_factory.mktemp("authors") / "fintuned_generator.pkl"
    path.write_bytes(writer.checkpoint_bytes(CONFIG, state))
    return path


def labels():
    return np.asarray(to_label(yaw_pitch_camera(YAW, 0.0)))[:, None]


def several():
    ws = np.random.default_rng(0).standard_normal((3, *SHAPE), np.float32)
    return {"ws": ws, "cs": labels()}


@pytest.fixture
def import_(pickle, tmp_path):
    def run(arrays, **keywords):
        path = tmp_path / "499_projected_w_mult.npz"
        np.savez(path, **arrays)
        main(Args(pickle=pickle, latents=path, run=tmp_path / "run", **keywords))
        return load_result(tmp_path / "run" / "result")

    return run


def test_several_latents_are_sorted_by_azimuth(import_, state):
    arrays = several()
    result = import_(arrays)
    # Azimuth is pi / 2 - yaw, so the largest yaw comes first.
    np.testing.assert_allclose(result.latents.azimuth, np.pi / 2 - YAW[[2, 0, 1]], atol=1e-6)
    np.testing.assert_array_equal(result.latents.w_plus, arrays["ws"][[2, 0, 1], 0])
    np.testing.assert_array_equal(result.labels, arrays["cs"][[2, 0, 1], 0])
    assert result.generator.config == CONFIG
    for name, array in to_torch_state(result.generator).items():
        np.testing.assert_array_equal(array, state[name])


def test_training_s_bookkeeping_is_left_out_and_told(writer, state, tmp_path, capsys):
    path = tmp_path / "network-snapshot.pkl"
    spread = np.full(25, 0.5, np.float32)
    path.write_bytes(writer.checkpoint_bytes(CONFIG, {**state, "dataset_label_std": spread}))
    np.savez(tmp_path / "w.npz", w=np.ones(SHAPE))
    main(Args(pickle=path, latents=tmp_path / "w.npz", run=tmp_path / "run"))
    told = capsys.readouterr().out
    assert "network-snapshot.pkl: " in told
    assert " parameters in " in told
    assert "left out, as no picture depends on it: dataset_label_std [25]" in told
    result = load_result(tmp_path / "run" / "result")
    assert result.generator.config == CONFIG


def test_one_latent_for_all_views_is_frontal_and_has_no_labels(import_):
    w = np.ones(SHAPE)  # float64 is taken too
    result = import_({"w": w})
    np.testing.assert_array_equal(result.latents.w_plus, w)
    np.testing.assert_allclose(result.latents.azimuth, [np.pi / 2])
    assert result.labels.shape == (0, 25)


def test_source_and_licence_are_kept(import_, tmp_path):
    result = import_(several())
    assert result.metadata["source"]["original"]["file"] == "fintuned_generator.pkl"
    assert "NVIDIA" in result.metadata["license"]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["settings"]["imported_latents"]["file"] == "499_projected_w_mult.npz"


def changed(**arrays):
    return several() | arrays


@pytest.mark.parametrize(
    ("arrays", "cause"),
    [
        ({"ws": np.ones((3, *SHAPE))}, r"must hold .* but of these it has {'ws': \[3, 1, 6, 16\]}"),
        ({"latent": np.ones(SHAPE)}, "but of these it has none"),
        ({"w": np.ones(SHAPE[1:])}, r"it has {'w': \[6, 16\]}"),
        (changed(w=np.ones(SHAPE)), "must hold"),
        (changed(ws=np.ones((2, *SHAPE))), "2 latents and 3 cameras"),
        (changed(cs=np.zeros((0, 1, 25))), "3 latents and 0 cameras"),
        (changed(ws=np.ones((3, 1, 14, 512))), r"latents \[14, 512\] do not fit the generator"),
        (changed(ws=np.full((3, *SHAPE), np.nan)), "finite numbers"),
        (changed(ws=np.array(["x"])), "finite numbers"),
        (changed(cs=np.zeros((3, 1, 25))), r"cs\[0\]: the last row of cam2world"),
    ],
)
def test_other_latents_are_refused_before_anything_is_written(import_, tmp_path, arrays, cause):
    with pytest.raises(InputError, match=cause) as error:
        import_(arrays)
    assert "499_projected_w_mult.npz" in str(error.value)
    assert not (tmp_path / "run").exists()


def test_damaged_files_are_named(pickle, tmp_path):
    broken = tmp_path / "broken"
    broken.write_bytes(b"PK\x03\x04 and no more")
    np.savez(tmp_path / "good.npz", **several())
    for files in (
        {"pickle": pickle, "latents": broken},
        {"pickle": pickle, "latents": tmp_path / "none.npz"},
        {"pickle": broken, "latents": tmp_path / "good.npz"},
    ):
        with pytest.raises(InputError, match=r"broken|none\.npz"):
            main(Args(**files, run=tmp_path / "run"))


def test_an_earlier_run_is_replaced_on_request_only(import_):
    import_(several())
    with pytest.raises(InputError, match="holds a run already"):
        import_(several())
    import_({"w": np.ones(SHAPE)}, overwrite=True)
