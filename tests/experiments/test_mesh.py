"""Meshes and volumes: of a sphere, whose answers are known, and of a generator, by the command."""

import dataclasses
import json
import math
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import KDTree

from eg3d_jax import checkpoint
from eg3d_jax.errors import InputError
from experiments.mesh import Args, main
from experiments.subjects import EMBEDDED, load_generator
from inversion import meshes
from inversion.footage.face_model import load_face_model
from inversion.meshes import (
    colour_vertices,
    density_grid,
    field_of,
    grid_axis,
    iso_surface,
    linear_light,
    with_empty_faces,
    with_fewer_faces,
    write_mesh,
    write_mrc,
)
from inversion.units import EMBEDDED_METRES, FFHQ_METRES, metres_of_unit

RADIUS, CENTRE = 0.25, np.array([0.1, -0.05, 0.02])


def sphere(points):
    """A field of density 10 on a sphere, more inside; red rises with x, green with y."""
    colours = np.clip(points + 0.5, 0, 1)
    return colours, 10 + 40 * (RADIUS - np.linalg.norm(points - CENTRE, axis=-1))


@pytest.fixture(scope="module")
def surface():
    mesh = iso_surface(density_grid(sphere, 40, 1.0), 10.0, 1.0)
    colour_vertices(mesh, sphere)
    return mesh


def test_the_grid_spans_the_box_and_is_told_of(monkeypatch):
    monkeypatch.setattr(meshes, "CHUNK", 100)
    told = []
    volume = density_grid(lambda p: (p, p[:, 0] + 10 * p[:, 1] + 100 * p[:, 2]), 6, 2.0,
                          tell=told.append)  # fmt: skip
    x, y, z = np.meshgrid(*3 * [grid_axis(6, 2.0)], indexing="ij")
    np.testing.assert_allclose(volume, x + 10 * y + 100 * z, rtol=1e-5)
    assert (x.min(), x.max()) == (-1, 1)
    assert told == [100, 200, 216]


def test_a_sphere_keeps_its_place_and_size(surface):
    distance = np.linalg.norm(surface.vertices - CENTRE, axis=1)
    # Linear interpolation in a cell of 1/39 errs by its square over 8 radii.
    np.testing.assert_allclose(distance, RADIUS, atol=5e-4)
    assert surface.is_watertight
    assert surface.is_winding_consistent
    assert surface.euler_number == 2
    np.testing.assert_allclose(surface.volume, 4 / 3 * math.pi * RADIUS**3, rtol=0.01)


def test_normals_point_outward(surface):
    outward = (surface.triangles_center - CENTRE) / RADIUS
    assert (np.sum(surface.face_normals * outward, axis=1) > 0.9).all()


def glb_values(content, name, kind):
    """[n, 3 or 4] of a vertex in a binary glTF: a header, a JSON chunk, a chunk of numbers."""
    length = int.from_bytes(content[12:16], "little")
    tree = json.loads(content[20 : 20 + length])
    accessor = tree["accessors"][tree["meshes"][0]["primitives"][0]["attributes"][name]]
    view = tree["bufferViews"][accessor["bufferView"]]
    start = 20 + length + 8 + view["byteOffset"]
    values = np.frombuffer(content[start : start + view["byteLength"]], kind)
    return values.reshape(accessor["count"], -1)


@pytest.mark.parametrize("kind", ["ply", "obj", "glb"])
def test_a_file_loads_as_the_same_closed_coloured_surface(surface, tmp_path, kind):
    path = write_mesh(tmp_path / f"mesh.{kind}", surface)
    read = trimesh.load(path, force="mesh")
    assert read.is_watertight
    unit = FFHQ_METRES if kind == "glb" else 1
    np.testing.assert_allclose(read.volume, surface.volume * unit**3, rtol=1e-4)
    np.testing.assert_allclose(read.bounds, surface.bounds * unit, atol=1e-6)
    colours = np.round(sphere(np.asarray(read.vertices) / unit)[0] * 255).astype(np.uint8)
    if kind == "glb":  # trimesh does not read the colours of what has a material
        stored = glb_values(path.read_bytes(), "COLOR_0", "<u2")
        assert (np.abs(stored[:, :3] - linear_light(colours).astype(int)) <= 600).all()  # 1 of 255
        assert (stored[:, 3] == 65535).all()
    else:
        assert np.abs(read.visual.vertex_colors[:, :3].astype(int) - colours).max() <= 1


def test_light_becomes_linear():
    """IEC 61966-2-1: 188 of 255 is half the light, 0 none and 255 all."""
    light = linear_light(np.array([0, 10, 188, 255]))
    assert light.tolist() == [0, 199, 32957, 65535]
    # Of 16 bits, for as many shades as there were: 8 would leave 183 of the 256.
    assert len(np.unique(linear_light(np.arange(256)))) == 256


def test_a_second_reader_finds_what_gltf_wants(surface, tmp_path):
    pygltflib = pytest.importorskip("pygltflib", reason="of the extra dev")
    path = write_mesh(tmp_path / "mesh.glb", surface, metres=0.5)
    file = pygltflib.GLTF2().load(str(path))
    assert file.asset.version == "2.0"
    assert file.asset.extras == {"metres_of_world_unit": 0.5}
    material = file.materials[0].pbrMetallicRoughness
    assert (material.metallicFactor, material.roughnessFactor) == (0.0, 1.0)
    primitive = file.meshes[0].primitives[0]
    assert primitive.material == 0

    def values(number, kind, columns):
        accessor = file.accessors[number]
        view, blob = file.bufferViews[accessor.bufferView], file.binary_blob()
        start = (view.byteOffset or 0) + (accessor.byteOffset or 0)
        found = np.frombuffer(blob, kind, accessor.count * columns, start)
        assert view.target == (34963 if columns == 1 else 34962)
        return found.reshape(-1, columns), accessor

    points, about = values(primitive.attributes.POSITION, "<f4", 3)
    np.testing.assert_allclose(points, surface.vertices * 0.5, atol=1e-6)
    np.testing.assert_allclose([about.min, about.max], [points.min(0), points.max(0)])
    normals, _ = values(primitive.attributes.NORMAL, "<f4", 3)
    outward = (surface.vertices - CENTRE) / RADIUS
    assert (np.sum(normals * outward, axis=1) > 0.95).all()
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    about = file.accessors[primitive.attributes.COLOR_0]
    assert (about.componentType, about.normalized, about.type) == (5123, True, "VEC4")
    faces, _ = values(primitive.indices, "<u4", 1)
    np.testing.assert_array_equal(faces.reshape(-1, 3), surface.faces)


def test_a_point_without_area_has_a_normal(tmp_path):
    needle = trimesh.Trimesh(
        [[0, 0, 0], [0, 0, 0], [0, 0, 0]], [[0, 1, 2]],
        vertex_colors=np.full((3, 4), 255, np.uint8), process=False,
    )  # fmt: skip
    content = write_mesh(tmp_path / "mesh.glb", needle).read_bytes()
    assert glb_values(content, "NORMAL", "<f4").tolist() == [[0, 1, 0]] * 3


def test_lengths_are_those_of_people():
    """The eyes of the face by which FFHQ's crops are measured are as far apart as people's."""
    points = load_face_model().points
    eyes = [points[[33, 133]].mean(0), points[[362, 263]].mean(0)]  # corners of each
    assert 0.058 < FFHQ_METRES * np.linalg.norm(eyes[0] - eyes[1]) < 0.068
    ours = checkpoint.embedded_fingerprint()
    tuned = {"fingerprint": "x", "source": {"tuned_from": ours}}
    assert metres_of_unit({"fingerprint": ours}) == metres_of_unit(tuned) == EMBEDDED_METRES
    assert metres_of_unit({"fingerprint": "y"}) == metres_of_unit({}) == FFHQ_METRES


def test_fewer_triangles_are_closed_and_where_the_surface_was(surface):
    assert with_fewer_faces(surface, len(surface.faces)) is surface
    for faces in (2000, 500, 100):
        simple = with_fewer_faces(surface, faces)
        assert 0.7 * faces < len(simple.faces) <= faces
        assert simple.is_watertight
        assert simple.is_winding_consistent
        # A vertex is one of the surface's, with its colour.
        distance, at = KDTree(surface.vertices).query(simple.vertices)
        assert distance.max() < 1e-6
        np.testing.assert_array_equal(simple.visual.vertex_colors, surface.visual.vertex_colors[at])
        np.testing.assert_allclose(simple.volume, surface.volume, rtol=20 / faces)


def test_triangles_stay_where_colours_change(surface):
    """A border between black and white blurs over a smaller area than if shape alone counted."""
    black = surface.vertices[:, 0] < CENTRE[0]

    def blurred(colour_first):
        mesh = surface.copy()
        seen = black if colour_first else np.zeros_like(black)
        mesh.visual.vertex_colors = np.where(seen[:, None], [0, 0, 0, 255], 255).astype(np.uint8)
        simple = with_fewer_faces(mesh, 300)
        side = simple.vertices[simple.faces][..., 0] < CENTRE[0]
        return simple.area_faces[side.any(1) & ~side.all(1)].sum() / simple.area

    assert blurred(True) < 0.6 * blurred(False)


@given(seed=st.integers(0, 2**32 - 1), faces=st.integers(100, 3000))
@settings(max_examples=10)
def test_any_blob_stays_closed(seed, faces):
    """Smooth noise, whose surfaces have handles and holes that are as thin as the grid."""
    rng = np.random.default_rng(seed)
    waves, phases = rng.normal(0, 14, (12, 3)), rng.uniform(0, 2 * np.pi, 12)

    def blob(points):
        value = np.cos(points @ waves.T + phases).sum(-1)
        return np.clip(points + 0.5, 0, 1), 10 + value + 8 * (0.4 - np.linalg.norm(points, axis=-1))

    mesh = iso_surface(density_grid(blob, 24, 1.0), 10.0, 1.0)
    colour_vertices(mesh, blob)
    try:
        simple = with_fewer_faces(mesh, faces)
    except InputError as error:
        assert "ask for more" in str(error)  # noqa: PT017
        return
    assert len(simple.faces) <= max(faces, 4)
    assert simple.is_watertight
    assert simple.is_winding_consistent
    assert simple.volume > 0


def test_a_surface_of_too_few_triangles_is_refused(surface):
    with pytest.raises(InputError, match="--faces 3.*ask for more"):
        with_fewer_faces(surface, 3)


def test_what_the_box_cuts_is_closed_inside_it():
    volume = np.full((12, 12, 12), 30.0, np.float32)
    mesh = iso_surface(volume, 10.0, 1.0)
    assert mesh.is_watertight
    assert np.abs(mesh.bounds).max() < 0.5
    assert with_empty_faces(volume, 10.0)[1:-1, 1:-1, 1:-1].min() == 30


def test_specks_are_dropped():
    def two(points):
        colours, density = sphere(points)
        speck = 10 + 40 * (0.06 - np.linalg.norm(points + 0.4, axis=-1))
        return colours, np.maximum(density, speck)

    mesh = iso_surface(density_grid(two, 40, 1.0), 10.0, 1.0)
    assert mesh.is_watertight
    np.testing.assert_allclose(mesh.volume, 4 / 3 * math.pi * RADIUS**3, rtol=0.01)


def test_a_level_that_is_never_reached_is_named():
    with pytest.raises(InputError, match=r"--level 99: .* reaches"):
        iso_surface(density_grid(sphere, 12, 1.0), 99.0, 1.0)


def test_the_mrc_header_says_what_mrc2014_wants(tmp_path):
    """Words as numbered in the format's table, 4 bytes each, counted from 1."""
    volume = np.random.default_rng(0).normal(size=(5, 5, 5)).astype(np.float32)
    content = write_mrc(tmp_path / "a.mrc", volume, 1.0).read_bytes()
    whole, real = np.frombuffer(content[:1024], "<i4"), np.frombuffer(content[:1024], "<f4")
    assert whole[:4].tolist() == [5, 5, 5, 2]
    assert whole[4:10].tolist() == [0, 0, 0, 5, 5, 5]
    np.testing.assert_allclose(real[10:16], [1.25, 1.25, 1.25, 90, 90, 90])
    assert whole[16:19].tolist() == [1, 2, 3]
    np.testing.assert_allclose(real[19:22], [volume.min(), volume.max(), volume.mean()], rtol=1e-5)
    assert whole[22:24].tolist() == [1, 0]
    assert whole[27] == 20141
    np.testing.assert_allclose(real[49:52], -0.5)
    assert content[208:212] == b"MAP "
    assert content[212:216] == bytes([0x44, 0x44, 0, 0])
    np.testing.assert_allclose(real[54], volume.std(), rtol=1e-5)
    assert whole[55] == 1
    assert content[224:232] == b"eg3d_jax"
    assert len(content) == 1024 + 4 * 125
    data = np.frombuffer(content[1024:], "<f4").reshape(5, 5, 5)
    np.testing.assert_array_equal(data[3, 1, 2], volume[2, 1, 3])  # sections z, rows y, columns x


def arguments(output, **changes) -> Args:
    args = Args(generator=Path("embedded"), seed=3, resolution=32, output=output)
    return dataclasses.replace(args, **changes)


@pytest.fixture(scope="module")
def meshed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mesh")
    main(arguments(folder))
    return folder


def test_the_embedded_head_becomes_a_closed_surface_in_its_box(meshed):
    numbers = json.loads((meshed / "mesh.json").read_text())
    assert numbers["watertight"]
    assert "Apache" in numbers["generator"]["license"]
    assert numbers["metres_of_world_unit"] == EMBEDDED_METRES
    for kind in ("ply", "obj", "glb"):
        mesh = trimesh.load(meshed / f"mesh.{kind}", force="mesh")
        assert mesh.is_watertight
        if kind == "glb":
            head = mesh.vertices[mesh.vertices[:, 1] > 0.05]
            assert 0.13 < np.ptp(head[:, 0]) < 0.22  # m, with hair
            mesh.apply_scale(1 / EMBEDDED_METRES)
        assert np.abs(mesh.bounds).max() < 0.5
        assert 0.03 < mesh.volume < 0.3  # a head and shoulders in a box of volume 1
        # A head faces +z from the middle of the box: its nose is in front, below its crown.
        front = mesh.vertices[mesh.vertices[:, 1] > -0.2]
        assert abs(front[front[:, 2].argmax()][0]) < 0.1


def test_the_mrc_of_the_embedded_head_is_what_the_surface_was_cut_from(meshed):
    content = (meshed / "density.mrc").read_bytes()
    volume = np.frombuffer(content[1024:], "<f4").reshape(32, 32, 32).transpose(2, 1, 0)
    again = iso_surface(volume, 10.0, 1.0)
    mesh = trimesh.load(meshed / "mesh.ply", force="mesh")
    np.testing.assert_allclose(again.volume, mesh.volume, rtol=1e-4)


def test_points_queried_in_chunks_are_those_queried_at_once(monkeypatch):
    generator = load_generator(EMBEDDED)
    config = generator.config
    query = field_of(generator, jax.random.normal(jax.random.key(0), (config.num_ws, config.w_dim)))
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 3))
    at_once = query(points)
    monkeypatch.setattr(meshes, "CHUNK", 16)
    for part, whole in zip(query(points), at_once, strict=True):
        assert len(part) == 50
        np.testing.assert_allclose(part, whole, rtol=1e-4, atol=1e-3)


def test_the_command_makes_fewer_triangles_and_takes_the_length_of_a_unit(tmp_path):
    main(arguments(tmp_path / "a", faces=600, metres=2.0, formats=("glb",)))
    numbers = json.loads((tmp_path / "a" / "mesh.json").read_text())
    mesh = trimesh.load(tmp_path / "a" / "mesh.glb", force="mesh")
    assert mesh.is_watertight
    assert len(mesh.faces) == numbers["triangles"] <= 600
    np.testing.assert_allclose(mesh.bounds, 2 * np.array(numbers["bounds"]), atol=1e-5)


def test_earlier_files_are_not_replaced_unasked(meshed):
    with pytest.raises(InputError, match="--overwrite"):
        main(arguments(meshed))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 4}, "--resolution 4"),
        ({"level": float("nan")}, "--level nan"),
        ({"yaw": float("inf")}, "--yaw inf"),
        ({"formats": ()}, "--formats is empty"),
        ({"faces": 99}, "--faces 99 must be from 100"),
        ({"metres": 0.0}, "--metres 0.0 must be from"),
        ({"generator": None}, "add --generator"),
        ({"generator": None, "seed": None, "run": "nowhere"}, "no folder"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(tmp_path, changes, message):
    if "run" in changes:
        changes = changes | {"run": tmp_path / changes["run"]}
    with pytest.raises(InputError, match=message):
        main(arguments(tmp_path / "a", **changes))
    assert not (tmp_path / "a").exists()


def test_a_missing_library_is_named_with_its_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[mesh\]'"):
        main(arguments(tmp_path / "a"))
