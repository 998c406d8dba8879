import dataclasses
import errno
import json
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from drawn_weights import drawn_generator
from flax import nnx

from eg3d_jax import checkpoint
from eg3d_jax.config import RenderConfig, afhq_512, ffhq_512, shapenet_128, tiny


@pytest.fixture(scope="module")
def generator():
    return drawn_generator(tiny(), seed=3)


def arrays(generator):
    return jax.tree.leaves(nnx.state(generator))


CONFIGS = {
    "ffhq": ffhq_512(),
    "afhq": afhq_512(),
    "shapenet": shapenet_128(),
    "tiny": tiny(),
    "auto": dataclasses.replace(
        tiny(), render=RenderConfig(ray_start=None, ray_end=None), conv_clamp=256.0
    ),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_configuration_survives_json(config):
    text = json.dumps(checkpoint.config_to_json(config))
    back = checkpoint.config_from_json(json.loads(text))
    assert back == config
    assert hash(back) == hash(config)


def test_a_configuration_with_other_fields_is_refused():
    values = checkpoint.config_to_json(tiny())
    with pytest.raises(ValueError, match="shininess"):
        checkpoint.config_from_json(values | {"shininess": 1})
    del values["render"]["box_warp"]
    with pytest.raises(ValueError, match="box_warp"):
        checkpoint.config_from_json(values)


def test_a_generator_survives(generator, tmp_path):
    source = {"file": "x.pkl", "sha256": "0" * 64}
    saved = checkpoint.save(tmp_path / "a" / "b", generator, source=source, license="free")
    back = checkpoint.load(tmp_path / "a" / "b")
    metadata = back.origin.metadata
    assert metadata == saved
    assert (metadata["source"], metadata["license"]) == (source, "free")
    assert back.config == generator.config
    assert jax.tree.structure(back) == jax.tree.structure(generator)
    for ours, theirs in zip(arrays(back), arrays(generator), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert checkpoint.fingerprint(back) == metadata["fingerprint"]
    assert checkpoint.fingerprint(generator) == metadata["fingerprint"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_float16_halves_the_numbers_and_loads_as_float32(generator, tmp_path):
    metadata = checkpoint.save(tmp_path / "half", generator, dtype=np.float16)
    back = checkpoint.load(tmp_path / "half")
    for ours, theirs in zip(arrays(back), arrays(generator), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)
    assert checkpoint.fingerprint(back) == metadata["fingerprint"]


def test_numbers_beyond_float16_are_refused(generator, tmp_path):
    graph, state = nnx.split(generator)
    large = nnx.merge(graph, jax.tree.map(lambda x: x * 0 + 1e6, state))
    with pytest.raises(ValueError, match="cannot be stored as float16"):
        checkpoint.save(tmp_path / "x", large, dtype=np.float16)
    with pytest.raises(ValueError, match="none of float32"):
        checkpoint.save(tmp_path / "x", generator, dtype=np.int8)
    assert not list(tmp_path.iterdir())


def test_a_fingerprint_tells_generators_apart(generator):
    graph, state = nnx.split(generator)
    prints = {checkpoint.fingerprint(generator)}
    other = nnx.merge(graph, state)
    other.decoder.hidden.bias[...] = other.decoder.hidden.bias[...].at[0].add(1e-6)
    prints.add(checkpoint.fingerprint(other))
    other = nnx.merge(graph, state)
    other.config = dataclasses.replace(other.config, neural_side=9)
    prints.add(checkpoint.fingerprint(other))
    assert len(prints) == 3
    assert checkpoint.fingerprint(nnx.merge(graph, state)) in prints


def test_a_folder_is_replaced_only_when_asked(generator, tmp_path):
    checkpoint.save(tmp_path / "x", generator, license="old")
    with pytest.raises(ValueError, match="not empty"):
        checkpoint.save(tmp_path / "x", generator)
    checkpoint.save(tmp_path / "x", generator, license="new", overwrite=True)
    assert checkpoint.load(tmp_path / "x").origin.metadata["license"] == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file"):
        checkpoint.save(tmp_path / "file", generator)


def test_only_checkpoints_are_overwritten(generator, tmp_path):
    folder = tmp_path / "x"
    (folder / "arrays").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"x holds no checkpoint\.json.*another folder"):
        checkpoint.save(folder, generator, overwrite=True)
    (folder / "checkpoint.json").touch()
    (folder / "thesis").mkdir()
    (folder / "thesis" / "chapter.tex").touch()
    with pytest.raises(ValueError, match=r"x holds thesis, .* move that away"):
        checkpoint.save(folder, generator, overwrite=True)
    assert (folder / "thesis" / "chapter.tex").exists()


def test_what_was_there_comes_back_if_its_successor_cannot_be_moved(
    generator, tmp_path, monkeypatch
):
    checkpoint.save(tmp_path / "x", generator, license="old")
    rename = Path.rename

    def fail(path, target):
        if ".partial-" in path.name:
            raise OSError("no space left")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(tmp_path / "x", generator, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert checkpoint.load(tmp_path / "x").origin.metadata["license"] == "old"


def test_an_interrupted_save_leaves_what_was_there(generator, tmp_path, monkeypatch):
    checkpoint.save(tmp_path / "x", generator, license="old")

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ocp.StandardCheckpointer, "save", fail)
    for name in ("x", "y"):
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(tmp_path / name, generator, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert checkpoint.load(tmp_path / "x").origin.metadata["license"] == "old"


@pytest.mark.usefixtures("no_thread_stays")
def test_a_save_that_fails_leaves_no_thread_behind(generator, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ocp.StandardCheckpointHandler, "async_save", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save(tmp_path / "x", generator)
    assert list(tmp_path.iterdir()) == []


def test_errors_name_the_folder_the_file_and_what_to_do(generator, tmp_path):
    folder = tmp_path / "x"
    with pytest.raises(ValueError, match=r"x holds no checkpoint\.json.*eg3d-jax convert"):
        checkpoint.load(folder)
    checkpoint.save(folder, generator)
    text = (folder / "checkpoint.json").read_text()
    changes = {
        "damaged": text[:50],
        "has format 99": text.replace('"format": 1', '"format": 99'),
        "incomplete": text.replace('"fingerprint"', '"nothing"'),
        "no configuration": text.replace('"z_dim"', '"y_dim"'),
        "cannot be read": text.replace('"mapping_layers": 2', '"mapping_layers": 3'),
        "arrays and checkpoint.json do": text.replace('"w_dim": 16', '"w_dim": 32'),
        "do not belong together": text.replace('"neural_side": 8', '"neural_side": 4'),
    }
    for cause, changed in changes.items():
        assert changed != text
        (folder / "checkpoint.json").write_text(changed)
        with pytest.raises(ValueError, match=cause) as error:
            checkpoint.load(folder)
        assert str(folder) in str(error.value)
        assert "convert" in str(error.value)


@pytest.mark.parametrize("damage", ["changed", "cut", "missing"])
def test_damaged_files_are_noticed(generator, tmp_path, damage):
    checkpoint.save(tmp_path / "x", generator)
    for path in sorted((tmp_path / "x" / "arrays").rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        changed = {"changed": data[:-1] + bytes([data[-1] ^ 1]), "cut": data[:-1]}
        path.write_bytes(changed.get(damage, b""))
        if damage == "missing":
            path.unlink()
        with pytest.raises(ValueError, match="files in arrays are missing or damaged"):
            checkpoint.load(tmp_path / "x")
        path.write_bytes(data)
    checkpoint.load(tmp_path / "x")


def test_no_file_names_a_folder_of_this_machine(generator, tmp_path):
    checkpoint.save(tmp_path / "x", generator)
    for path in (tmp_path / "x").rglob("*"):
        if path.is_file():
            assert tmp_path.name.encode() not in path.read_bytes(), path
