"""What torch 1.7 to 2.13 have written is read alike; a README beside the files tells of them."""

from pathlib import Path

import numpy as np
import pytest

from convert_weights.generator import left_out, read_generator
from convert_weights.pickle_reader import read_pickle
from convert_weights.state_dict import read_tensors

FOLDER = Path(__file__).parent / "torch_versions"
VERSIONS = ("1.7.1", "1.12.1", "1.13.1", "2.0.1", "2.13.0")
CHECKPOINTS = sorted(FOLDER.glob("[0-9]*.pkl.gz"))
SAVED = sorted(FOLDER.glob("*.pt.gz"))


def kind_of(path):
    return path.name.partition("_")[2].split(".")[0]


def test_there_are_files_of_every_version():
    assert {path.name.split("_")[0] for path in CHECKPOINTS} == set(VERSIONS)
    assert {path.name.split("_")[0] for path in SAVED} == set(VERSIONS)
    kinds = {kind_of(path) for path in CHECKPOINTS}
    assert kinds >= {"plain", "changed", "data_parallel", "distributed", "averaged", "compiled"}


@pytest.fixture(scope="module")
def source():
    return read_generator(read_pickle(FOLDER / "source.pkl.gz"))


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.name)
def test_a_checkpoint_of_any_version_holds_the_same_generator(path, source):
    tree = read_pickle(path)
    config, state = read_generator(tree)
    assert config == source[0]
    assert list(state) == list(source[1])
    for name, array in source[1].items():
        np.testing.assert_array_equal(state[name], array, err_msg=name)
    rest = {"changed": ["dataset_label_std [25]"], "averaged": ["n_averaged []"]}
    assert left_out(tree) == rest.get(kind_of(path), [])
    assert tree["D"].class_name == "torch.nn.modules.container.Sequential"
    assert tree["training_set_kwargs"]["path"] == "faces.zip"


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.name)
def test_tensors_of_any_version_have_the_same_values(path):
    found = read_tensors(path)
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4, 1)
    wanted = {
        "base": base,
        "view": base[1:, ::2],
        "turned": base.swapaxes(0, 2),
        "channels_last": base,
        "half": base.astype(np.float16),
        "brain": base,
        "long": base.astype(np.int64),
        "flag": base > 3,
        "scalar": np.float32(3.5),
        "empty": np.zeros((0, 4), np.float32),
        "parameter": np.ones(2, np.float32),
        "number": np.float64(0.25),
        "inner.list": np.ones(3, np.float32),
        "array": np.arange(3.0),
    }
    if path.name.startswith("2.13"):
        wanted["uint16"] = np.uint16([1, 65535])
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
