"""A file that is something else is called by its name, with what to do."""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from torch_files import MAGIC, archive, pickled, saved

from convert_weights.array_pickle import CheckpointError, read_array_pickle
from convert_weights.file_kinds import recognize
from convert_weights.generator import read_generator
from convert_weights.pickle_reader import read_pickle
from convert_weights.state_dict import read_state_dict, read_tensors
from eg3d_jax.config import tiny

READERS = (read_pickle, read_state_dict, read_tensors, read_array_pickle)
ONES = np.ones(4, np.float32)


def zipped(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, raw in members.items():
            file.writestr(name.replace("__", "/"), raw)
    return out.getvalue()


def tarred(name):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        info = tarfile.TarInfo(name)
        info.size = 4
        file.addfile(info, io.BytesIO(b"1234"))
    return out.getvalue()


def npy(array):
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def safetensors(length=None):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + bytes(4)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1000\n"
PAGE = (
    b"<!DOCTYPE html><html><head><title>Google Drive - Virus scan\n warning</title></head></html>"
)
ONNX = b"\x08\x07\x12\x07pytorch\x1a\x052.1.0:\xd4\x02\n\x10some graph" + bytes(50)
KINDS = {
    "LFS": (LFS, "a Git LFS pointer, not the file itself; run git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s1--00.pkl\n", "a git-annex pointer.*; run git annex get"),
    "page": (PAGE, "a web page, 'Google Drive - Virus scan warning',.*; open its address"),
    "page after blanks": (b"\xef\xbb\xbf\n  <html><body>Sign in</body></html>", "a web page or"),
    "XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "an XML message"),
    "JSON error": (b'{"error": {"code": 404}}', r"JSON text \(\{\"error.*server's error"),
    "JSON array": (b"[1, 2]\n", "JSON text"),
    "text": (b"404: Not Found", r"a text file \(404: Not Found\)"),
    "text that begins as a pickle could": (b"Not Found", "a text file"),
    "text that ends in a period": (b"Bad gateway.", "a text file"),
    "UTF-8 cut within a letter": ("é".encode() * 4096, "a text file"),
    "UTF-16": ("network".encode("utf-16"), "a text file"),
    "blanks": (b"\n\n  \n", "nothing but blanks"),
    "shell": (b"#!/bin/sh\nwget x\n", "a text file"),
    "zeros": (bytes(10_000), "nothing but zeros.*; download it again"),
    "safetensors": (safetensors(), "a safetensors file"),
    "cut safetensors": (safetensors(5000), "a truncated safetensors file; download it again"),
    "ONNX": (ONNX, "an ONNX model; give the checkpoint"),
    "TensorFlow's graph": (b"\x08\x01\x12\x90\x02\n\x05graph" + bytes(50), "ONNX or TensorFlow"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(90), "an HDF5 file"),
    "npy": (npy(ONES), r"a NumPy array \(.npy\)"),
    "npz": (npz(w=ONES), r"a NumPy archive \(.npz\)"),
    "zip": (zipped(weights__net_pkl=b"1"), "a ZIP archive, holding weights/net_pkl; unpack it"),
    "empty zip": (zipped(), "a ZIP archive, holding nothing"),
    "cut zip": (zipped(a=bytes(500))[:200], "truncated or damaged ZIP archive; download it again"),
    "TorchScript": (zipped(net__constants_pkl=b"").replace(b"s_pkl", b"s.pkl"), "a TorchScript"),
    "tar": (tarred("network.pkl"), "a tar archive, holding network.pkl; unpack it"),
    "torch's tar": (tarred("storages"), "a tar archive of the first releases of PyTorch"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(40), "a 7z archive; unpack it"),
    "rar": (b"Rar!\x1a\x07\x01" + bytes(40), "a RAR archive; unpack it"),
    "xz": (b"\xfd7zXZ\0" + bytes(40), "an xz archive; unpack it"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(40), "a Zstandard archive"),
    "gzip of a tar": (gzip.compress(tarred("a")), "a tar archive"),
    "gzip of a page": (gzip.compress(PAGE), "a web page"),
    "gzip of gzip": (gzip.compress(gzip.compress(b"1")), "gzip twice; unpack it once"),
    "gzip of nothing": (gzip.compress(b""), "it is empty; copy or download it again"),
    "empty": (b"", "it is empty; copy or download it again"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(40), r"a picture \(PNG\)"),
    "JPEG": (b"\xff\xd8\xff\xe0" + bytes(40), r"a picture \(JPEG\)"),
    "video": (b"\0\0\0\x20ftypisom" + bytes(40), "a video"),
    "protocol 0": (pickle.dumps({"G_ema": 1}, 0), "protocol 0 or 1; write it again with pickle"),
    "protocol 1": (pickle.dumps({"G_ema": 1}, 1), "protocol 0 or 1"),
    "a list of protocol 0": (pickle.dumps([1.5], 0), "protocol 0 or 1"),
}


@pytest.mark.parametrize("read", READERS)
def test_every_kind_is_called_by_its_name_by_every_reader(tmp_path, read):
    path = tmp_path / "network.pkl"
    for kind, (data, words) in KINDS.items():
        path.write_bytes(data)
        with pytest.raises(
            CheckpointError, match=f"network.pkl: it is .*{words}|pkl: {words}"
        ) as e:
            read(path)
        assert len(str(e.value).splitlines()) == 1, kind
        assert "damaged" not in str(e.value) or "cut" in kind, kind


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_old_format_is_known_by_any_protocol(protocol):
    kind = recognize(memoryview(pickle.dumps(MAGIC, protocol) + pickle.dumps(1001, protocol)))
    assert kind is not None
    assert "torch.save (old format)" in kind.name


def test_a_pickle_and_random_bytes_are_no_kind():
    rng = np.random.default_rng(0)
    assert recognize(memoryview(pickle.dumps({"a": 1}, 4))) is None
    known = sum(recognize(memoryview(b"\xc3\x28" + rng.bytes(200))) is not None for _ in range(200))
    assert known == 0


STATE = {"backbone.mapping.w_avg": ONES, "decoder.net.0.bias": ONES}
TORCH = {
    "a state dict": (STATE, "a state dict of 2 tensors without the generator"),
    "of G_ema": ({"G_ema": STATE, "step": 3}, "a state dict under the name G_ema"),
    "of g_ema": ({"g_ema": STATE}, "a state dict under the name G_ema"),
    "a tensor": (ONES, r"one tensor \[4\]"),
    "a list": ([ONES], "a list"),
    "other names": ({"optimizer": {"lr": 0.1}}, "no generator under the name G_ema, but optimizer"),
}


@pytest.mark.parametrize("legacy", [False, True])
def test_an_archive_of_torch_save_is_told_with_what_it_holds(tmp_path, legacy):
    for kind, (value, words) in TORCH.items():
        (tmp_path / "x.pth").write_bytes(saved(value, legacy=legacy))
        with pytest.raises(CheckpointError) as error:
            read_pickle(tmp_path / "x.pth")
        message = str(error.value)
        assert "it is an archive of torch.save" in message, kind
        assert ("(old format)" in message) == legacy
        assert f"holding {words}".replace("\\", "") in message, (kind, message)
        assert message.endswith(
            "; in PyTorch, load it into EG3D's generator and write "
            'pickle.dump({"G_ema": generator}, file) as EG3D does'
        )


def test_an_archive_of_a_module_and_a_damaged_one_are_told_too(tmp_path):
    data = b"\x80\x02}X\x05\0\0\0G_emactraining.triplane\nTriPlaneGenerator\n)\x81}bs."
    for content, words in (
        (archive({"data.pkl": data}), "holding a training.triplane.TriPlaneGenerator under the"),
        (archive({"data.pkl": pickled({"a": 1})})[:-30], "truncated or damaged zip archive of tor"),
        (archive({"data.pkl": b"\x80\x02cos\nsystem\n."}), "archive of torch.save; in PyTorch"),
    ):
        (tmp_path / "x.pth").write_bytes(content)
        with pytest.raises(CheckpointError, match=words):
            read_pickle(tmp_path / "x.pth")


@pytest.mark.parametrize("zipped", [False, True])
def test_a_module_that_torch_saved_is_told(tmp_path, zipped):
    torch = pytest.importorskip("torch", reason="torch writes the file of this test")
    value = {"G_ema": torch.nn.Linear(1, 1)}
    torch.save(value, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    words = "holding a torch.nn.modules.linear.Linear under" if zipped else r"save \(old format\)"
    with pytest.raises(CheckpointError, match=words):
        read_pickle(tmp_path / "x.pth")


def test_a_state_dict_reader_is_given_a_checkpoint(tmp_path, writer):
    (tmp_path / "x.pkl").write_bytes(writer.checkpoint_bytes(writer.smallest()))
    with pytest.raises(CheckpointError, match="a pickle, but not one of torch.save"):
        read_state_dict(tmp_path / "x.pkl")


def test_pickles_without_a_generator_are_told_with_what_they_hold(tmp_path, writer):
    whole = writer.generator_record(writer.smallest())
    for value, words in (
        (whole, "a TriPlaneGenerator alone"),
        ({"G": whole}, "no generator under the name G_ema, but G;"),
        ({"G_ema": None}, "no generator under the name G_ema, but G_ema;"),
        ({"G_ema": {"a": ONES}}, "a state dict under the name G_ema"),
        ({"a": ONES}, "a state dict of 1 tensors"),
    ):
        (tmp_path / "x.pkl").write_bytes(writer.dumps(value))
        with pytest.raises(CheckpointError, match=rf'{words}.*write pickle.dump\(.*"G_ema"'):
            read_pickle(tmp_path / "x.pkl")


def generator(writer, *, name="Generator", **modules):
    def module(parts):
        children = {part: module(inner) for part, inner in parts.items()}
        return {"_parameters": {}, "_buffers": {}, "_modules": children, "z_dim": 512}

    def record(state):
        state["_modules"] = {k: record(v) for k, v in state["_modules"].items()}
        meta = {"type": "class", "version": 6, "class_name": name, "state": state}
        return writer.Call(
            writer.Global("torch_utils.persistence", "_reconstruct_persistent_obj"), (meta,)
        )

    return record(module(modules))


OTHERS = {
    "StyleGAN2": ({"synthesis": {"b4": {}, "b8": {}}, "mapping": {"fc0": {}}}, "a StyleGAN2 gen"),
    "StyleGAN3": ({"synthesis": {"input": {}, "L0_36_512": {}}, "mapping": {}}, "a StyleGAN3 gen"),
    "unknown": ({"net": {}}, "a Generator without rendering options"),
    "unlike any": ({"synthesis": {"x": {}}, "mapping": {}}, "a Generator without rendering opt"),
}


@pytest.mark.parametrize(("modules", "words"), OTHERS.values(), ids=OTHERS.keys())
def test_another_generator_is_called_by_its_name(tmp_path, writer, modules, words):
    (tmp_path / "x.pkl").write_bytes(writer.dumps({"G_ema": generator(writer, **modules)}))
    with pytest.raises(CheckpointError, match=f"its G_ema is {words}.*; give a checkpoint of EG3D"):
        read_generator(read_pickle(tmp_path / "x.pkl"))


def test_generators_with_tri_grids_are_told(convert):
    """PanoHead's has several planes along each axis: more channels than its decoder takes."""
    channels = tiny().num_planes * tiny().plane_features
    for changes in (
        {"attributes": {"backbone.synthesis": {"img_channels": 3 * channels}}},
        {"options": {"triplane_depth": 3}},
        {"attributes": {"": {"triplane_depth": 3}}},
    ):
        with pytest.raises(CheckpointError, match=r"tri-grids \(3 planes .*PanoHead"):
            convert(tiny(), **changes)
