"""Results of the authors' PyTorch code become run folders."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch_files

import inversion
from convert_weights.generator import to_torch_state
from eg3d_jax.cameras import nearest_camera, to_label, yaw_pitch_camera
from eg3d_jax.config import tiny
from eg3d_jax.errors import InputError
from experiments.import_result import Args, main
from inversion.latent_files import read_latents

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
def read():
    """The latents of a file as the tiny generator takes them, and their labels."""

    def read_file(path):
        file = read_latents(path)
        return file.w_plus(CONFIG), file.labels

    return read_file


@pytest.fixture
def import_(pickle, tmp_path):
    def run(arrays, **keywords):
        path = tmp_path / "499_projected_w_mult.npz"
        np.savez(path, **arrays)
        main(Args(pickle=pickle, latents=path, run=tmp_path / "run", **keywords))
        return inversion.load(tmp_path / "run" / "result")

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
    result = inversion.load(tmp_path / "run" / "result")
    assert result.generator.config == CONFIG


def test_one_latent_for_all_views_is_frontal_and_has_no_labels(import_):
    w = np.ones(SHAPE)  # float64 is taken too
    result = import_({"w": w})
    np.testing.assert_array_equal(result.latents.w_plus, w)
    np.testing.assert_allclose(result.latents.azimuth, [np.pi / 2])
    assert result.labels.shape == (0, 25)


def test_cameras_that_were_optimised_become_the_nearest_cameras(import_):
    free = labels().astype(np.float64)
    free += np.random.default_rng(0).uniform(-0.02, 0.02, free.shape)
    # What the pictures do not depend on, the authors' optimiser does not move.
    free[..., [12, 13, 14, 15, 19, 22, 23, 24]] = [0, 0, 0, 1, 0, 0, 0, 1]
    with pytest.warns(UserWarning, match=r"w_mult.npz: 3 of 3 .* degrees \(cs\[\d\]\)"):
        result = import_(changed(cs=free.astype(np.float32)))
    order = np.argsort(result.latents.azimuth)  # ascending already, and so by falling yaw
    np.testing.assert_array_equal(order, [0, 1, 2])
    np.testing.assert_allclose(result.labels, nearest_camera(free)[[2, 0, 1], 0], atol=1e-6)


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
        ({"ws": np.ones((3, *SHAPE))}, "3 latents and no cameras"),
        ({"w": np.ones((5, 16))}, "5 latents and no cameras"),
        ({"one": np.ones(SHAPE), "two": np.ones(SHAPE)}, r"holds one \[1, 6, 16\], two .* must"),
        (changed(w=np.ones(SHAPE)), "must hold"),
        (changed(labels=labels()), "must hold"),
        (changed(cs=np.ones((3, 16))), r"cs is \[3, 16\]; cameras are \[N, 25\]"),
        ({"w": np.ones((0, *SHAPE))}, "holds no latent"),
        ({"w": np.float32(1)}, "do not fit the generator"),
        ({"w": np.ones((1, 18, 16))}, r"latents \[1, 18, 16\] do not fit the generator"),
        ({"w": np.array([{}], object)}, "w holds pickled objects"),
        ({"w": np.ones(SHAPE, np.complex64)}, "w is of type complex64; it must be real numbers"),
        (changed(ws=np.ones((2, *SHAPE))), "2 latents and 3 cameras"),
        (changed(cs=np.zeros((0, 1, 25))), "3 latents and no cameras"),
        (
            changed(ws=np.ones((3, 1, 14, 512))),
            r"latents \[3, 1, 14, 512\] do not fit the gen.* takes \[6, 16\]",
        ),
        (changed(ws=np.full((3, *SHAPE), np.nan)), "ws holds numbers that are not finite"),
        (changed(ws=np.full((3, *SHAPE), 1e300)), "ws holds numbers that are not finite"),
        (changed(ws=np.array(["x"])), "ws is of type <U1; it must be real numbers"),
        (changed(cs=np.zeros((3, 1, 25))), r"cs\[0\]: the last row of cam2world"),
    ],
)
def test_other_latents_are_refused_before_anything_is_written(import_, tmp_path, arrays, cause):
    with pytest.raises(InputError, match=cause) as error:
        import_(arrays)
    assert "499_projected_w_mult.npz" in str(error.value)
    assert not (tmp_path / "run").exists()


def written(folder, kind, arrays):
    """A file of these arrays as its kind has them; of a lone one without its name."""
    lone = next(iter(arrays.values()))
    if kind == "npz":
        np.savez(folder / "file.npz", **arrays)
    elif kind == "npy":
        np.save(folder / "file.npy", lone)
    else:
        write = torch_files.zip_file if kind == "pt" else torch_files.legacy_file
        (folder / f"file.{kind}").write_bytes(write(arrays))
    return folder / f"file.{kind}"


W_PLUS = np.random.default_rng(1).standard_normal(SHAPE[1:]).astype(np.float32)


_NAMES = ("w", "latent", "latents", "w_pivots", "photo.png.latent", "any")


@pytest.mark.parametrize(
    ("kind", "name"), [("npy", ""), *itertools.product(["npz", "pt", "pth"], _NAMES)]
)
def test_one_latent_of_any_kind_of_file_and_name(read, tmp_path, kind, name):
    for shape in (SHAPE, SHAPE[1:], (1, *SHAPE), (-1,), (1, -1)):
        w_plus, labels = read(written(tmp_path, kind, {name: W_PLUS.reshape(shape)}))
        np.testing.assert_array_equal(w_plus, W_PLUS[None])
        assert labels.shape == (0, 25)


@pytest.mark.parametrize("kind", ["npz", "npy", "pt", "pth"])
@pytest.mark.parametrize("shape", [(1, 1, 16), (1, 16), (16,), (1, 1, 1, 16)])
def test_a_latent_of_w_is_repeated_for_all_layers(read, tmp_path, kind, shape):
    w_plus, _ = read(written(tmp_path, kind, {"w": W_PLUS[0].reshape(shape)}))
    np.testing.assert_array_equal(w_plus, np.tile(W_PLUS[0], (1, 6, 1)))


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_latents_of_other_types_become_float32(read, tmp_path, dtype):
    w_plus, _ = read(written(tmp_path, "npz", {"w": W_PLUS.astype(dtype)}))
    assert w_plus.dtype == np.float32
    np.testing.assert_array_equal(w_plus[0], W_PLUS.astype(dtype))


# In W [1, 3, D] would be three layers of another generator, as far as can be seen.
@pytest.mark.parametrize(
    ("axes", "in_w"),
    [((3, 1), True), ((3,), True), ((3, 1), False), ((3,), False), ((1, 3), False)],
)
def test_several_latents_with_cameras_need_no_axis_between(read, tmp_path, axes, in_w):
    ws = several()["ws"][:, 0, :1] if in_w else several()["ws"][:, 0]
    arrays = {"ws": ws.reshape(*axes, *ws.shape[1:]), "cs": labels().reshape(*axes, 25)}
    w_plus, found = read(written(tmp_path, "npz", arrays))
    np.testing.assert_array_equal(w_plus, np.broadcast_to(ws, (3, 6, 16)))
    np.testing.assert_array_equal(found, labels()[:, 0])


def test_an_array_of_layers_is_one_latent_unless_there_are_as_many_cameras(read, tmp_path):
    cameras = np.asarray(to_label(yaw_pitch_camera(np.linspace(-0.5, 0.5, 6), 0.0)))
    assert len(read(written(tmp_path, "npz", {"w": W_PLUS}))[0]) == 1
    w_plus, _ = read(written(tmp_path, "npz", {"ws": W_PLUS, "cs": cameras}))
    np.testing.assert_array_equal(w_plus, np.repeat(W_PLUS[:, None], 6, axis=1))


def test_one_latent_keeps_the_cameras_that_it_was_fitted_to(import_):
    result = import_({"w": W_PLUS, "cs": labels()})
    np.testing.assert_array_equal(result.latents.w_plus[0], W_PLUS)
    np.testing.assert_array_equal(result.labels, labels()[:, 0])
    np.testing.assert_allclose(result.latents.azimuth, [np.pi / 2])


def test_it_is_said_when_a_latent_was_repeated(import_, capsys):
    import_({"w": W_PLUS[:1]})
    assert "1 latent of W, repeated for all layers\n" in capsys.readouterr().out
    import_({"w": W_PLUS}, overwrite=True)
    assert "a generator and 1 latent\n" in capsys.readouterr().out


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
