"""Files of Gaussians: round trips, names and axes of the formats, and readers of others."""

import csv
import dataclasses
import gzip
import io
import math
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from eg3d_jax.errors import InputError
from inversion.splats.files import ply_names, splat_bytes, spz_bytes
from inversion.splats.gaussians import Gaussians, harmonic_basis, load_gaussians
from inversion.splats.rasteriser import rotation_matrices
from inversion.units import FFHQ_METRES


def drawn(count=20, degree=1, seed=0) -> Gaussians:
    rng = np.random.default_rng(seed)
    fields = {
        "centres": rng.uniform(-0.5, 0.5, (count, 3)),
        "log_scales": rng.uniform(-8, -2, (count, 3)),
        "rotations": rng.normal(size=(count, 4)),
        "opacity_logits": rng.uniform(-5, 5, count),
        "harmonics": rng.uniform(-0.9, 0.9, (count, (degree + 1) ** 2, 3)),
    }
    return Gaussians(**{name: jnp.asarray(x, jnp.float32) for name, x in fields.items()})


def shapes(gaussians: Gaussians) -> np.ndarray:
    """Covariances [N, 3, 3], over the largest variance of each."""
    axes = np.asarray(rotation_matrices(gaussians.rotations), np.float64)
    axes = axes * np.exp(np.asarray(gaussians.log_scales, np.float64))[:, None]
    covariance = axes @ axes.transpose(0, 2, 1)
    return covariance / np.trace(covariance, axis1=1, axis2=2)[:, None, None]


cases = given(count=st.integers(1, 40), degree=st.integers(0, 3), seed=st.integers(0, 2**32 - 1))


@settings(max_examples=20)
@cases
def test_a_ply_comes_back(tmp_path_factory, count, degree, seed):
    gaussians = drawn(count, degree, seed)
    path = gaussians.save(tmp_path_factory.mktemp("ply") / "a.ply")
    back = load_gaussians(path)
    assert (len(back), back.degree) == (count, degree)
    # float32, and a factor there and back.
    for name in ("centres", "log_scales", "opacity_logits", "harmonics"):
        np.testing.assert_allclose(getattr(back, name), getattr(gaussians, name), rtol=1e-6,
                                   atol=1e-6)  # fmt: skip
    np.testing.assert_allclose(shapes(back), shapes(gaussians), atol=2e-6)
    assert path.stat().st_size < 1000 + 1000 * degree + count * 4 * len(ply_names(degree))


@settings(max_examples=20)
@cases
def test_an_spz_comes_back_as_near_as_its_bits_allow(tmp_path_factory, count, degree, seed):
    gaussians = drawn(count, degree, seed)
    back = load_gaussians(gaussians.save(tmp_path_factory.mktemp("spz") / "a.spz"))
    assert (len(back), back.degree) == (count, degree)
    half = 0.5 + 1e-3  # of a step, and float32
    for name, step in (("centres", 2**-18 / FFHQ_METRES), ("log_scales", 1 / 16)):
        np.testing.assert_allclose(getattr(back, name), getattr(gaussians, name), atol=half * step)
    opacity = [1 / (1 + np.exp(-np.asarray(g.opacity_logits))) for g in (back, gaussians)]
    np.testing.assert_allclose(*opacity, atol=half / 255)
    np.testing.assert_allclose(back.harmonics[:, 0], gaussians.harmonics[:, 0],
                               atol=half / 255 / 0.15)  # fmt: skip
    np.testing.assert_allclose(back.harmonics[:, 1:], gaussians.harmonics[:, 1:], atol=half / 128)
    quaternions = [np.asarray(g.rotations) for g in (back, gaussians)]
    cosine = np.sum(quaternions[0] * quaternions[1], -1) / np.linalg.norm(quaternions[1], axis=-1)
    # Three parts each off by half of 2 ** -0.5 / 511, and the fourth made up for it.
    assert np.abs(cosine).min() > 1 - 4e-6


def test_the_properties_are_those_of_the_reference_implementation():
    gaussians = drawn(3, degree=2)
    header, _, body = gaussians_ply(gaussians).partition(b"end_header\n")
    lines = header.decode().splitlines()
    names = [line.split()[-1] for line in lines if line.startswith("property float")]
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert names == [
        "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2",
        *[f"f_rest_{i}" for i in range(24)],
        "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
    ]  # fmt: skip
    row = dict(zip(names, np.frombuffer(body, "<f4").reshape(3, -1)[1], strict=True))
    centre = np.asarray(gaussians.centres)[1] * FFHQ_METRES
    np.testing.assert_allclose([row["x"], row["y"], row["z"]], centre * [1, -1, -1], rtol=1e-6)
    np.testing.assert_allclose(
        math.exp(row["scale_2"]),
        math.exp(gaussians.log_scales[1, 2]) * FFHQ_METRES, rtol=1e-5,
    )  # fmt: skip
    assert row["opacity"] == gaussians.opacity_logits[1]
    assert row["f_dc_1"] == gaussians.harmonics[1, 0, 1]
    # All of red, then all of green: f_rest_8 is green's first beyond the constant.
    assert row["f_rest_8"] == gaussians.harmonics[1, 1, 1]
    w, x, y, z = np.asarray(gaussians.rotations)[1] / np.linalg.norm(gaussians.rotations[1])
    found = [row[f"rot_{i}"] for i in range(4)]
    np.testing.assert_allclose(found, [w, x, -y, -z], atol=1e-6)


def gaussians_ply(gaussians):
    with tempfile.TemporaryDirectory() as folder:
        return gaussians.save(Path(folder) / "a.ply").read_bytes()


def test_trimesh_reads_the_ply(tmp_path):
    trimesh = pytest.importorskip("trimesh", reason="trimesh is of the extra mesh")
    gaussians = drawn(50, degree=3)
    cloud = trimesh.load(gaussians.save(tmp_path / "a.ply"))
    np.testing.assert_allclose(
        cloud.vertices, np.asarray(gaussians.centres) * FFHQ_METRES * [1, -1, -1],
        rtol=1e-6,
    )  # fmt: skip
    data = cloud.metadata["_ply_raw"]["vertex"]["data"]
    for i in range(3):
        np.testing.assert_array_equal(data[f"f_dc_{i}"], gaussians.harmonics[:, 0, i])
    np.testing.assert_array_equal(data["f_rest_44"], gaussians.harmonics[:, 15, 2])


def test_plyfile_reads_the_ply(tmp_path):
    plyfile = pytest.importorskip("plyfile", reason="plyfile, as many tools of splats read them")
    gaussians = drawn(50, degree=1)
    vertex = plyfile.PlyData.read(str(gaussians.save(tmp_path / "a.ply")))["vertex"]
    assert [p.name for p in vertex.properties] == ply_names(1)
    np.testing.assert_array_equal(vertex["opacity"], gaussians.opacity_logits)


@pytest.mark.parametrize("kind", ["ply", "spz"])
def test_splat_transform_reads_it(tmp_path, kind):
    """PlayCanvas' converter; it leaves numbers as they are in the file."""
    program = shutil.which("splat-transform")
    if program is None:
        pytest.skip("needs splat-transform: npm install -g @playcanvas/splat-transform")
    gaussians = drawn(30, degree=3)
    path = gaussians.save(tmp_path / f"a.{kind}")
    subprocess.run([program, "-q", path, tmp_path / "a.csv"], check=True, capture_output=True)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    flip = [1, -1, -1] if kind == "ply" else [1, 1, 1]
    found = np.array([[float(row[name]) for name in "xyz"] for row in rows])
    centres = np.asarray(gaussians.centres) * FFHQ_METRES
    np.testing.assert_allclose(found, centres * flip, atol=3e-6)
    q = np.asarray(gaussians.rotations)
    q = q / np.linalg.norm(q, axis=-1, keepdims=True) * [1, 1, flip[1], flip[2]]
    found = np.array([[float(row[f"rot_{i}"]) for i in range(4)] for row in rows])
    assert np.abs(np.sum(q * found, -1)).min() > 1 - 1e-5
    scales = np.array([[float(row[f"scale_{i}"]) for i in range(3)] for row in rows])
    expected = np.asarray(gaussians.log_scales) + math.log(FFHQ_METRES)
    np.testing.assert_allclose(scales, expected, atol=1 / 31)
    red = np.array([[float(row[f"f_rest_{i}"]) for i in range(15)] for row in rows])
    turned = np.asarray(gaussians.harmonics)[:, 1:, 0]
    if kind == "spz":
        turned = turned * SIGNS[1:]
    np.testing.assert_allclose(red, turned, atol=1 / 255)


# Of harmonics, as half a turn about x leaves or reverses them.
SIGNS = np.sign(
    np.asarray(harmonic_basis(jnp.array([0.6, 0.5, 0.3]), 3))
    * np.asarray(harmonic_basis(jnp.array([0.6, -0.5, -0.3]), 3))
)


def test_both_formats_show_one_colour_from_one_side():
    """SPZ's axes are y up, a ply's y down: the same colour for the same direction in the world."""
    gaussians = drawn(10, degree=3)
    content = gzip.decompress(spz_bytes(gaussians.fields()))
    others = np.frombuffer(content[-10 * 45 :], np.uint8).reshape(10, 15, 3)
    direction = np.array([0.48, 0.6, 0.64])
    in_world = np.asarray(harmonic_basis(jnp.asarray(direction), 3))[1:]
    in_ply = np.asarray(harmonic_basis(jnp.asarray(direction * [1, -1, -1]), 3))[1:]
    spz = np.einsum("b,nbc->nc", in_world, (others - 128.0) / 128)
    ply = np.einsum("b,nbc->nc", in_ply, np.asarray(gaussians.harmonics)[:, 1:])
    # Each of 15 coefficients is off by half of 1/128 at most.
    np.testing.assert_allclose(spz, ply, atol=np.abs(in_world).sum() / 256 + 1e-5)


def test_the_header_of_an_spz():
    content = gzip.decompress(spz_bytes(drawn(7, degree=2).fields()))
    assert content[:4] == b"NGSP"
    assert struct.unpack("<2I4B", content[4:16]) == (3, 7, 2, 18, 0, 0)
    assert len(content) == 16 + 7 * (9 + 1 + 3 + 3 + 4 + 3 * 8)
    # A Gaussian above the world's middle lies above it in the file, too: y up.
    high = dataclasses.replace(drawn(1), centres=jnp.array([[0.0, 0.25, 0.0]]))
    y = gzip.decompress(spz_bytes(high.fields()))[19:22] + b"\0"
    assert int.from_bytes(y, "little") == round(0.25 * 2**18)


def test_what_pages_show_begins_with_the_most_visible():
    gaussians = drawn(30)
    content = splat_bytes(gaussians.fields(), units_a_world_unit=10.0)
    record = np.frombuffer(content, "<f4").reshape(30, 8)
    opacity = np.frombuffer(content, np.uint8).reshape(30, 32)[:, 27] / 255
    visible = record[:, 3:6].prod(-1) * opacity
    assert (np.diff(visible) <= 0.01 * visible[:-1]).all()  # opacity is in steps of 1/255
    sizes = np.sort(np.exp(np.asarray(gaussians.log_scales)).ravel() * 10)
    np.testing.assert_allclose(np.sort(record[:, 3:6].ravel()), sizes, rtol=1e-5)


def test_other_suffixes_and_numbers_that_are_not_finite_are_refused(tmp_path):
    gaussians = drawn()
    with pytest.raises(InputError, match=r"\.ply or \.spz"):
        gaussians.save(tmp_path / "a.obj")
    broken = dataclasses.replace(gaussians, opacity_logits=gaussians.opacity_logits.at[3].set(
        jnp.nan))  # fmt: skip
    with pytest.raises(InputError, match="opacity_logits holds numbers that are not finite"):
        broken.save(tmp_path / "a.ply")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["ply", "spz"])
def test_damaged_files_are_named(tmp_path, kind):
    path = drawn().save(tmp_path / f"a.{kind}")
    whole = path.read_bytes()
    other = b"ply\nformat ascii 1.0\nend_header\n"
    for content in (b"", whole[:-5], whole[: len(whole) // 2], other, whole + b"more", b"\0" * 99):
        path.write_bytes(content)
        with pytest.raises(InputError, match="no complete splat"):
            load_gaussians(path)
    with pytest.raises(InputError, match="no complete splat"):
        load_gaussians(tmp_path / f"missing.{kind}")
    with pytest.raises(InputError, match=r"read from \.ply or \.spz"):
        load_gaussians(tmp_path / "a.glb")
