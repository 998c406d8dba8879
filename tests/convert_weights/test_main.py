import hashlib
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from convert_weights.convert import LICENSE
from convert_weights.generator import count_parameters, to_torch_state
from convert_weights.main import Args, in_order, main
from eg3d_jax import checkpoint, errors
from eg3d_jax.config import tiny


@pytest.fixture
def run(tmp_path, capsys):
    """Convert a file of given content; status, and lines of the two streams."""

    def run(content, **keywords):
        path = tmp_path / "network.pkl"
        if content is not None:
            path.write_bytes(content)
        args = Args(source=path, output=tmp_path / "out" / "generator", **keywords)
        with pytest.raises(SystemExit) as ended:
            errors.run(main, lambda: args)
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def system():
    class Attack:
        def __reduce__(self):
            return os.system, ("touch attacked",)

    return pickle.dumps({"G_ema": Attack()})


def bad_files(writer):
    good = writer.checkpoint_bytes(tiny())
    state = writer.state_dict(tiny())
    state["backbone.mapping.fc1.weight"] = np.zeros((3, 3), np.float32)
    network = writer.Global("dnnlib.tflib.network", "Network")
    nothing = {name: np.zeros_like(array) for name, array in writer.state_dict(tiny()).items()}
    nothing |= {n: a for n, a in writer.state_dict(tiny()).items() if n.endswith("filter")}
    strange = {**writer.state_dict(tiny()), "backbone.other": np.zeros(2, np.float32)}
    return {
        "missing": (None, "there is no such file"),
        "empty": (b"", "empty"),
        "truncated": (good[: len(good) // 2], "truncated"),
        "truncated gzip": (b"\x1f\x8b\x08\x00", "gzip stream does not end"),
        "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "it is a picture (PNG)"),
        "text": (b"<html>404 not found</html>", "it is a web page"),
        "zip": (b"PK\x03\x04" + bytes(100), "truncated or damaged ZIP archive"),
        "another global": (system(), "posix.system"),
        "no generator": (pickle.dumps({"G": None}), "no generator under the name G_ema"),
        "a list": (pickle.dumps([1]), "no generator"),
        "TensorFlow": (writer.dumps((writer.Instance(network, {}),) * 3), "TensorFlow-era"),
        "TensorFlow's triple": (pickle.dumps((1, 2, 3)), "TensorFlow-era"),
        "wrong shape": (
            writer.checkpoint_bytes(tiny(), state),
            "fc1.weight is [3, 3], wanted [16, 16]",
        ),
        "a tensor too many": (writer.checkpoint_bytes(tiny(), strange), "backbone.other"),
        "unknown super-resolution": (
            writer.checkpoint_bytes(tiny(), variant="SuperresolutionHybrid32X"),
            "SuperresolutionHybrid32X",
        ),
        "a blank picture": (writer.checkpoint_bytes(tiny(), nothing), "blank picture"),
    }


def test_bad_files_give_one_sentence_status_2_and_no_output(run, writer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind, (content, cause) in bad_files(writer).items():
        status, out, err = run(content)
        assert status == 2, kind
        assert cause in err, (kind, err)
        assert "network.pkl" in err, (kind, err)
        assert err.count("\n") == 1, (kind, err)
        assert "Traceback" not in err + out
        assert {path.name for path in tmp_path.iterdir()} <= {"network.pkl"}, kind
    assert not (tmp_path / "attacked").exists()


def test_a_conversion_writes_generator_source_and_licence(run, writer, tmp_path):
    state = writer.state_dict(tiny())
    content = writer.checkpoint_bytes(tiny(), state)
    status, out, err = run(content)
    assert (status, err) == (0, "")
    assert "image_std" in out
    generator = checkpoint.load(tmp_path / "out" / "generator")
    metadata = generator.origin.metadata
    assert generator.config == tiny()
    for name, array in to_torch_state(generator).items():
        np.testing.assert_array_equal(array, state[name])
    assert metadata["source"] == {
        "file": "network.pkl",
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert metadata["license"] == LICENSE
    assert "NVIDIA Source Code License" in " ".join(LICENSE.split())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["generator"]

    status, _, err = run(content)
    assert status == 2
    assert "not empty" in err
    assert run(content, overwrite=True, license="mine", dtype="float16")[0] == 0
    metadata = checkpoint.load(tmp_path / "out" / "generator").origin.metadata
    assert (metadata["license"], metadata["dtype"]) == ("mine", "float16")


def test_what_training_left_behind_is_told_with_the_number_of_parameters(run, writer, tmp_path):
    state = writer.state_dict(tiny())
    spread = {"dataset_label_std": np.full(25, 0.5, np.float32)}
    status, out, err = run(writer.checkpoint_bytes(tiny(), state | spread))
    assert (status, err) == (0, "")
    trained, numbers = count_parameters(tiny())
    assert f"{numbers:,} parameters in {trained} tensors, and {len(state) - trained} buffers" in out
    assert "left out, as no picture depends on it: dataset_label_std [25]" in out
    generator = checkpoint.load(tmp_path / "out" / "generator")
    for name, array in to_torch_state(generator).items():
        np.testing.assert_array_equal(array, state[name])


@pytest.mark.slow
def test_the_mini_checkpoint_converts(run, mini_path, tmp_path):
    status, _, err = run(mini_path.read_bytes())
    assert (status, err) == (0, "")
    generator = checkpoint.load(tmp_path / "out" / "generator")
    assert generator.config.neural_side == 48


@pytest.mark.parametrize("form", ["{source} {output}", "--to {output} --from {source}"])
def test_the_command_line_reports_bad_input_with_status_2(tmp_path, form):
    words = form.format(source=tmp_path / "none.pkl", output=tmp_path / "out").split()
    done = subprocess.run(
        [sys.executable, "-m", "convert_weights", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"error: cannot read {tmp_path / 'none.pkl'}: there is no such file\n"
    assert not list(tmp_path.iterdir())


def test_a_folder_becomes_a_file_and_a_folder_again(run, writer, tmp_path, capsys):
    assert run(writer.checkpoint_bytes(tiny()), license="mine", dtype="float16")[0] == 0
    folder, file = tmp_path / "out" / "generator", tmp_path / "one.safetensors"
    for source, output in (
        (folder, file),
        (file, tmp_path / "back"),
        (file, tmp_path / "b.safetensors"),
    ):
        main(Args(source=source, output=output))
        assert "the same numbers" in " ".join(capsys.readouterr().out.split())
    assert file.read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    first, last = (checkpoint.load(at).origin.metadata for at in (folder, tmp_path / "back"))
    assert {**first, "files": 0} == {**last, "files": 0}
    main(Args(source=file, output=file, dtype="float32", license="other", overwrite=True))
    assert "the same numbers" in " ".join(capsys.readouterr().out.split())
    metadata = checkpoint.load(file).origin.metadata
    assert (metadata["dtype"], metadata["license"]) == ("float32", "other")
    assert (tmp_path / "b.safetensors").stat().st_size < 0.7 * file.stat().st_size


def test_a_pickle_becomes_a_file_at_once_and_others_are_refused(run, writer, tmp_path):
    path = tmp_path / "network.pkl"
    path.write_bytes(writer.checkpoint_bytes(tiny()))
    main(Args(source=path, output=tmp_path / "one.safetensors"))
    assert checkpoint.load(tmp_path / "one.safetensors").origin.metadata["license"] == LICENSE
    for source, focal, said in (
        (tmp_path / "one.safetensors", 4.0, "--focal 4.0 is for PyTorch checkpoints"),
        (tmp_path, None, "holds no checkpoint.json"),
        (tmp_path / "none.safetensors", None, "no such file"),
    ):
        with pytest.raises(errors.InputError, match=said):
            main(Args(source=source, output=tmp_path / "x", focal=focal))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("words", "paths"),
    [
        ("a.pkl b --seed 1", "a.pkl b --seed 1"),
        ("--to b --seed 1 --from a.pkl", "a.pkl --seed 1 b"),
        ("--to=b a.pkl --overwrite", "a.pkl --overwrite b"),
        ("--from a.pkl --to", "a.pkl"),
    ],
)
def test_both_paths_may_be_named(words, paths):
    assert in_order(words.split()) == paths.split()
