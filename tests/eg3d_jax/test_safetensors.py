"""Generators as one file: the same bytes there and back, and damaged ones end in a sentence."""

import json
import struct

import jax
import numpy as np
import pytest
from drawn_weights import drawn_generator
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save

from eg3d_jax import checkpoint
from eg3d_jax.config import tiny
from eg3d_jax.errors import InputError

SOURCE = {"file": "x.pkl", "sha256": "0" * 64}


@pytest.fixture(scope="module")
def generator():
    return drawn_generator(tiny(), seed=3)


@pytest.fixture(scope="module")
def path(generator, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "weights.safetensors"
    checkpoint.save(path, generator, source=SOURCE, license="free")
    return path


def parts(content):
    """Header, as a dictionary, and numbers of a file, by the format's description."""
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header, numbers):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def leaves(generator):
    return jax.tree.leaves(nnx.state(generator))


def test_a_generator_survives_in_one_file(generator, path):
    back = checkpoint.load(path)
    assert back.config == generator.config
    assert jax.tree.structure(back) == jax.tree.structure(generator)
    for ours, theirs in zip(leaves(back), leaves(generator), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    metadata = back.origin.metadata
    assert (metadata["source"], metadata["license"]) == (SOURCE, "free")
    assert metadata["fingerprint"] == checkpoint.fingerprint(generator)
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_the_file_is_as_the_format_says_and_the_package_reads_it(path):
    header, numbers = parts(path.read_bytes())
    metadata = header.pop("__metadata__")
    values = json.loads(metadata.pop("eg3d_jax"))
    assert not metadata
    assert checkpoint.config_from_json(values["config"]) == tiny()
    arrays, end = load_file(path), 0
    assert header.keys() == arrays.keys()
    for name, about in header.items():  # in the order of the file
        begin, stop = about["data_offsets"]
        assert (about["dtype"], begin) == ("F32", end)
        read = np.frombuffer(numbers[begin:stop], "<f4").reshape(about["shape"])
        np.testing.assert_array_equal(read, arrays[name])
        end = stop
    assert end == len(numbers)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_folder_and_file_turn_into_each_other_to_the_last_bit(generator, tmp_path, dtype):
    checkpoint.save(tmp_path / "a", generator, source=SOURCE, license="free", dtype=dtype)
    for source, target in (("a", "b.safetensors"), ("b.safetensors", "c"), ("c", "d.safetensors")):
        one = checkpoint.load(tmp_path / source)
        kept = {name: one.origin.metadata[name] for name in ("source", "license", "dtype")}
        checkpoint.save(tmp_path / target, one, **kept)
    b, d = ((tmp_path / name).read_bytes() for name in ("b.safetensors", "d.safetensors"))
    assert b == d
    a, c = (json.loads((tmp_path / name / "checkpoint.json").read_text()) for name in "ac")
    assert {**a, "files": 0} == {**c, "files": 0}
    assert a["dtype"] == np.dtype(dtype).name


def test_a_file_is_replaced_only_when_asked_and_only_by_its_like(generator, tmp_path):
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, generator, license="old")
    with pytest.raises(InputError, match="exists; name another file"):
        checkpoint.save(path, generator)
    checkpoint.save(path, generator, license="new", overwrite=True)
    assert checkpoint.load(path).origin.metadata["license"] == "new"
    path.write_bytes(save({"theirs": np.ones(3, np.float32)}))
    with pytest.raises(InputError, match="without a generator's configuration"):
        checkpoint.save(path, generator, overwrite=True)
    assert load_file(path).keys() == {"theirs"}
    (tmp_path / "folder.safetensors").mkdir()
    for act in (checkpoint.load, lambda path: checkpoint.check_free(path, overwrite=True)):
        with pytest.raises(InputError, match="is a folder"):
            act(tmp_path / "folder.safetensors")


def test_a_write_that_fails_leaves_what_was_there(generator, tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, generator, license="old")

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            checkpoint.save(path, generator, overwrite=True)
    assert checkpoint.load(path).origin.metadata["license"] == "old"
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def spoilt(content):
    """Files that break one rule each, and what is said of them."""
    header, numbers = parts(content)
    names = [name for name in header if name != "__metadata__"]
    first, second = header[names[0]], header[names[1]]
    values = json.loads(header["__metadata__"]["eg3d_jax"])
    size = first["data_offsets"][1]

    def with_entry(**changes):
        return joined({**header, names[0]: {**first, **changes}}, numbers)

    def with_values(text):
        text = text if isinstance(text, str) else json.dumps(text)
        return joined({**header, "__metadata__": {"eg3d_jax": text}}, numbers)

    text = json.dumps(header)
    entry = f"{json.dumps(names[0])}: {json.dumps(first)}"
    wrong = f"{json.dumps(names[0])}: {json.dumps({**first, 'shape': [1]})}"
    renamed = {(f"{names[0]}x" if n == names[0] else n): about for n, about in header.items()}
    return {
        "empty": (b"", "truncated"),
        "a length alone": (content[:8], "truncated"),
        "no header": (struct.pack("<Q", 0), "truncated"),
        "a header beyond the file": (struct.pack("<Q", 2**63) + content[8:], "truncated"),
        "a long header": (joined(b"{" + b" " * 2**21 + b"}", b""), "2097154 bytes, of which"),
        "no JSON": (joined(b"{" + text.encode(), numbers), "damaged"),
        "a list": (joined(b"[]", numbers), "damaged"),
        "nested": (joined(b'{"a":' * 9000 + b"1" + b"}" * 9000, numbers), "damaged"),
        "cut": (content[:-1], "damaged"),
        "more behind": (content + b"\0", "damaged"),
        "a hole": (joined(header, numbers + bytes(8)), "damaged"),
        "an overlap": (with_entry(data_offsets=second["data_offsets"]), "damaged"),
        "beyond the end": (with_entry(data_offsets=[0, 10**12]), "damaged"),
        "backwards": (with_entry(data_offsets=[size, 0]), "damaged"),
        "another size": (with_entry(shape=[*first["shape"], 2]), "damaged"),
        "a negative size": (with_entry(shape=[-1]), "damaged"),
        "an unknown type": (with_entry(dtype="F31"), "damaged"),
        "another type": (with_entry(dtype="I32"), "is of type I32, not F32 or F16"),
        "a name twice": (
            joined(text.replace(f'"{names[1]}"', f'"{names[0]}"').encode(), numbers), "damaged",
        ),
        "a name twice, alike": (
            joined(f"{{{entry},{text[1:]}".encode(), numbers), "stands there twice",
        ),
        "a name twice, and once wrong": (
            joined(f"{{{wrong},{text[1:]}".encode(), numbers), "stands there twice",
        ),
        "another name": (joined(renamed, numbers), "do not belong together"),
        "no metadata": (joined({n: header[n] for n in names}, numbers), "without a generator's"),
        "metadata of others": (
            joined({**header, "__metadata__": {"format": "pt"}}, numbers), "without a generator's",
        ),
        "metadata that are no text": (
            joined({**header, "__metadata__": {"eg3d_jax": values}}, numbers), "damaged",
        ),
        "metadata cut": (with_values('{"format"'), "metadata are damaged"),
        "metadata a list": (with_values([1]), "no JSON object"),
        "metadata nested": (with_values("[" * 100000 + "]" * 100000), "metadata are damaged"),
        "a field twice": (
            with_values(json.dumps(values).replace('"format": 1', '"format": 1, "format": 1')),
            "a name stands there twice",
        ),
        "not finite": (with_values(json.dumps(values).replace("0.0", "1e999", 1)), "1e999 is no"),
        "another format": (with_values({**values, "format": 2}), "has format 2, not 1"),
        "no fingerprint": (
            with_values({n: v for n, v in values.items() if n != "fingerprint"}), "incomplete",
        ),
        "no configuration": (with_values({**values, "config": {}}), "holds no configuration"),
        "a text for a number": (
            with_values({**values, "config": {**values["config"], "z_dim": "x"}}),
            "holds no configuration",
        ),
        "another configuration": (
            with_values({**values, "config": {**values["config"], "z_dim": 9}}),
            "do not belong together",
        ),
        "half the numbers": (with_values({**values, "dtype": "float16"}), "not of type float16"),
        "another number": (
            content[:-4] + struct.pack("<f", 1.25), "do not belong together",
        ),
        "no number": (content[:-4] + struct.pack("<f", np.nan), "not finite"),
        "infinite": (content[:-4] + struct.pack("<f", -np.inf), "not finite"),
    }  # fmt: skip


def test_each_broken_rule_is_named(path, tmp_path):
    bad = tmp_path / "bad.safetensors"
    for kind, (content, said) in spoilt(path.read_bytes()).items():
        bad.write_bytes(content)
        with pytest.raises(InputError) as error:
            checkpoint.load(bad)
        assert said in str(error.value), (kind, str(error.value))
        assert str(bad) in str(error.value), kind
        assert "\n" not in str(error.value), kind
        assert len(str(error.value)) < 600, kind
    with pytest.raises(InputError, match="there is no such file"):
        checkpoint.load(tmp_path / "none.safetensors")


def test_a_billion_layers_are_refused_before_they_are_made(generator, path, tmp_path):
    header, numbers = parts(path.read_bytes())
    values = json.loads(header["__metadata__"]["eg3d_jax"])
    values["config"]["mapping_layers"] = 10**9
    arrays = {name: np.array(a, np.float32) for name, a in load_file(path).items()}
    config = checkpoint.config_from_json(values["config"])
    values["fingerprint"] = checkpoint._fingerprint(config, arrays)  # of one who knows how
    bad = tmp_path / "bad.safetensors"
    header["__metadata__"]["eg3d_jax"] = json.dumps(values)
    bad.write_bytes(joined(header, numbers))
    with pytest.raises(InputError, match="do not belong together"):
        checkpoint.load(bad)
    values["config"]["mapping_layers"] = 3
    config = checkpoint.config_from_json(values["config"])
    values["fingerprint"] = checkpoint._fingerprint(config, arrays)
    header["__metadata__"]["eg3d_jax"] = json.dumps(values)
    bad.write_bytes(joined(header, numbers))
    with pytest.raises(InputError, match="not those of its configuration"):
        checkpoint.load(bad)


@st.composite
def mutations(draw):
    """Places, half of them in the header, and what is done there."""
    return draw(
        st.lists(
            st.tuples(
                st.floats(0, 1, exclude_max=True), st.booleans(),
                st.sampled_from(["flip", "insert", "delete", "repeat", "cut"]),
                st.integers(0, 255),
            ),
            min_size=1, max_size=4,
        )
    )  # fmt: skip


def mutated(content, changes):
    content = bytearray(content)
    for where, in_header, what, value in changes:
        length = int.from_bytes(content[:8], "little") + 8
        size = min(length, len(content)) if in_header else len(content)
        at = int(where * size)
        if what == "flip" and at < len(content):
            content[at] ^= value or 1
        elif what == "insert":
            content[at:at] = bytes([value])
        elif what == "delete":
            del content[at : at + 1 + value % 9]
        elif what == "repeat":
            content[at:at] = content[at : at + 1 + value]
        else:
            del content[at:]
    return bytes(content)


@given(changes=mutations())
def test_a_mutated_file_is_refused_or_holds_the_same_generator(path, generator, changes):
    bad = path.parent / "mutated" / "mutated.safetensors"
    bad.parent.mkdir(exist_ok=True)
    bad.write_bytes(mutated(path.read_bytes(), changes))
    try:
        found, said = checkpoint.load(bad), ""
    except InputError as error:
        found, said = None, str(error)
    finally:
        bad.unlink()
        bad.parent.rmdir()
    if found is None:
        assert str(bad) in said
        assert "\n" not in said
    else:  # only notes, such as the licence, differ
        assert checkpoint.fingerprint(found) == checkpoint.fingerprint(generator)
