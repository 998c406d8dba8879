"""Every kind of video and photo comes as it is meant to be seen, and no broken one passes."""

import json
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from written_videos import write_video as write

from eg3d_jax.errors import InputError
from inversion.footage import pictures, video_files
from inversion.footage.photos import read_photo
from inversion.footage.pictures import Source, about, find_people, read_pictures
from inversion.footage.tone_mapping import tone_mapped

av = pytest.importorskip("av", reason="videos are read by PyAV, of the extra footage")

# Four quarters of plain colours, so that turns show and codecs lose little.
COLOURS = np.array([[[230, 40, 40], [40, 200, 40]], [[50, 60, 220], [230, 230, 60]]], np.uint8)


def quarters(height=48, width=64, shade=0):
    large = COLOURS.repeat(height // 2, 0).repeat(width // 2, 1).astype(int)
    return np.clip(large + shade, 0, 255).astype(np.uint8)


def read(path, **options):
    return list(read_pictures(Source(name="", files=(Path(path),), video=True), **options))


def colours_of(pixels):
    """The colours in the middles of the quarters, [2, 2, 3]."""
    height, width = pixels.shape[:2]
    return pixels[[[height // 4], [3 * height // 4]], [[width // 4, 3 * width // 4]]].astype(int)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "options"),
    [
        ("a.mp4", "libx264", "yuv420p", {}),
        ("a.mov", "libx264", "yuv444p", {"crf": "5"}),
        ("a.mkv", "libx265", "yuv420p10le", {}),
        ("a.webm", "libvpx-vp9", "yuv420p", {"cpu-used": "8"}),
        ("a.mp4", "libsvtav1", "yuv420p", {"preset": "12", "svtav1-params": "lp=1"}),
    ],
)
def test_all_usual_codecs_and_containers_are_read(tmp_path, name, codec, pix_fmt, options):
    side = 64  # AV1's smallest
    frames = [quarters(side, side, shade) for shade in (0, -20)]
    path = write(tmp_path / name, frames, codec=codec, pix_fmt=pix_fmt, options=options)
    found = read(path)
    assert [picture.name for picture in found] == [name, name]
    assert [picture.seconds for picture in found] == pytest.approx([0, 0.1], abs=2e-3)
    for picture, frame in zip(found, frames, strict=True):
        assert picture.pixels.dtype == np.uint8
        # Colours go through 8 bits of YUV and a lossy codec, at its usual quality.
        assert np.abs(colours_of(picture.pixels) - colours_of(frame)).max() < 12
    assert about(find_people([path])[0]).count == 2


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_turned_videos_are_shown_as_ffmpeg_shows_them(tmp_path, turn, flips):
    """A phone's, whose frames lie on their side or are mirrored; ffmpeg's turning is the oracle."""
    import imageio_ffmpeg

    path = write(tmp_path / "phone.mp4", [quarters()], turn=turn, flips=flips)
    shape = (64, 48, 3) if turn in (90, 270) else (48, 64, 3)
    (found,) = read(path)
    assert found.pixels.shape == shape
    program = imageio_ffmpeg.get_ffmpeg_exe()
    raw = ["-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    done = subprocess.run([program, "-v", "error", "-i", path, *raw], capture_output=True)
    shown = np.frombuffer(done.stdout, np.uint8).reshape(shape)
    # Two builds of the same scaler differ in rounding.
    assert np.abs(colours_of(found.pixels) - colours_of(shown)).max() <= 3


def test_times_of_a_variable_rate_are_the_true_ones(tmp_path):
    times = [0, 33, 400, 433, 1000, 1500]
    path = write(tmp_path / "phone.mp4", [quarters()] * 6, times=times)
    assert [p.seconds for p in read(path)] == pytest.approx([t / 1000 for t in times], abs=1e-3)
    # At most 5 a second, by time: those of 33 and 433 ms come too soon.
    thinned = [p.seconds for p in read(path, rate=5)]
    assert thinned == pytest.approx([0, 0.4, 1, 1.5], abs=1e-3)
    between = [p.seconds for p in read(path, start=0.4, end=1)]
    assert between == pytest.approx([0.4, 0.433, 1], abs=1e-3)


@pytest.mark.parametrize(("kept", "rate"), [(30, 30), (15, 15), (10, 10), (13, 12.5)])
def test_a_rate_keeps_evenly_spaced_frames(tmp_path, kept, rate):
    path = write(tmp_path / "a.mp4", [quarters(16, 16)] * 30, fps=30)
    assert len(read(path, rate=rate)) == kept


def test_wide_pixels_are_made_square(tmp_path):
    path = write(tmp_path / "dv.mp4", [quarters()], sample_aspect_ratio=Fraction(3, 2))
    assert read(path)[0].pixels.shape == (48, 96, 3)


@pytest.mark.parametrize(("transfer", "kind"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_mapped_and_told(tmp_path, transfer, kind):
    grey = np.full((64, 64, 3), 0.58 * 65535 if transfer == 16 else 0.75 * 65535, np.uint16)
    path = write(
        tmp_path / "hdr.mkv", [grey], codec="libx265", pix_fmt="yuv420p10le",
        color_trc=transfer, color_primaries=9, colorspace=9,
    )  # fmt: skip
    notes = about(find_people([path])[0]).notes
    assert len(notes) == 1
    assert notes[0].startswith("hdr.mkv has high dynamic range")
    assert kind in notes[0]
    # Both are the white of paper (BT.2408), which keeps four fifths of the light.
    expected = 255 * (1.055 * 0.8 ** (1 / 2.4) - 0.055)
    found = read(path)[0].pixels
    assert np.ptp(found.astype(int), axis=-1).max() <= 2
    assert abs(found.mean() - expected) < 5


@pytest.mark.parametrize("pq", [True, False])
def test_tone_mapping_keeps_order_and_never_leaves_the_range(pq):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)
    grey = tone_mapped(np.stack([ramp] * 3, -1)[None], pq=pq, wide=True)[0].astype(int)
    assert (np.diff(grey[:, 1]) >= 0).all()
    assert grey[0, 1] == 0
    assert grey[-1, 1] == 255
    assert np.ptp(grey, axis=-1).max() <= 1
    # A saturated green of BT.2020 lies outside sRGB: it must not turn into another hue.
    green = tone_mapped(np.array([[[0, 40000, 0]]], np.uint16), pq=pq, wide=True)[0, 0]
    assert green[1] > 3 * max(int(green[0]), int(green[2]))


def test_transparency_of_a_video_is_told(tmp_path):
    path = write(tmp_path / "cut.mkv", [quarters()], codec="ffv1", pix_fmt="yuva420p")
    assert "transparency" in about(find_people([path])[0]).notes[0]


def test_tags_in_another_encoding_do_no_harm(tmp_path):
    path = write(tmp_path / "a.mkv", [quarters()], title="ABCDEFGH")
    content = path.read_bytes()
    assert content.count(b"ABCDEFGH") == 1
    path.write_bytes(content.replace(b"ABCDEFGH", b"\xff\xfeCDEFGH"))
    assert len(read(path)) == 1


def test_a_video_that_stops_midway_gives_what_it_has(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(20)]
    path = write(tmp_path / "a.mkv", frames, options={"bf": "0", "g": "1"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    said = []
    assert 5 <= len(read(path, say=said.append)) < 15
    assert "it should last 2.0 s, but ends at" in said[-1]
    assert read(path, end=0.1, say=lambda text: pytest.fail(text))


def test_damage_in_the_middle_is_passed_over_and_told(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(20)]
    path = write(tmp_path / "a.mkv", frames, codec="mjpeg", pix_fmt="yuvj420p")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    path.write_bytes(content)
    said = []
    found = read(path, say=said.append)
    assert 10 <= len(found) < 20
    assert len(said) == 1
    assert said[0].startswith("a.mkv is damaged")


def sound_only(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        silence.sample_rate = 8000
        for packet in stream.encode(silence):
            container.mux(packet)


def without_its_end(path):
    write(path.with_suffix(".mp4"), [quarters()] * 5)
    content = path.with_suffix(".mp4").read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (sound_only, "holds sound only"),
        (without_its_end, "was not written to its end"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("no video at all\n" * 50), "cannot be read as a video"),
        (lambda path: path.mkdir(), "is no file"),
        (lambda path: None, "does not exist"),
    ],
)
def test_what_is_no_video_is_refused_by_name(tmp_path, make, reason):
    path = tmp_path / "head.mkv"
    make(path)
    with pytest.raises(InputError, match=f"head.mkv .*{reason}"):
        read(path)


def test_times_outside_the_video_are_refused(tmp_path):
    path = write(tmp_path / "a.mp4", [quarters()] * 10)
    with pytest.raises(InputError, match=r"no picture from 5 s to its end; it lasts 1.0 s"):
        read(path, start=5)


def test_only_one_picture_is_held_at_a_time(tmp_path, monkeypatch):
    """A video is decoded as it is asked for: the third picture only after the second is taken."""
    path = write(tmp_path / "a.mp4", [quarters()] * 40)
    made = []
    upright = video_files._upright
    monkeypatch.setattr(video_files, "_upright", lambda *a: made.append(1) or upright(*a))
    found = read_pictures(find_people([path])[0])
    next(found), next(found)
    assert len(made) == 2


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match=r"pip install 'eg3d-jax\[footage\]'"):
        read(tmp_path / "a.mp4")


# Photos.


def exif(orientation):
    found = Image.Exif()
    found[0x112] = orientation
    return found


def test_photos_are_turned_by_their_tag(tmp_path):
    Image.fromarray(quarters()).save(tmp_path / "a.jpg", exif=exif(6), quality=95)
    found = read_photo(tmp_path / "a.jpg")
    assert found.shape == (64, 48, 3)
    assert np.abs(colours_of(found) - np.rot90(COLOURS, -1).astype(int)).max() < 10


def deep_tiff(path):
    Image.fromarray((np.arange(64 * 48).reshape(48, 64) * 21).astype(np.uint16)).save(path)


@pytest.mark.parametrize(
    ("name", "make", "expected"),
    [
        ("a.png", lambda p: Image.fromarray(quarters()).save(p), quarters()),
        ("a.webp", lambda p: Image.fromarray(quarters()).save(p, lossless=True), quarters()),
        ("a.tiff", lambda p: Image.fromarray(quarters()).save(p), quarters()),
        ("grey.png", lambda p: Image.fromarray(quarters()[..., 1]).save(p),
         quarters()[..., 1:2].repeat(3, -1)),
        ("deep.tif", deep_tiff,
         np.round(np.arange(64 * 48).reshape(48, 64, 1) * 21 / 257).repeat(3, -1)),
        ("float.tif", lambda p: Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(p),
         np.full((8, 8, 3), 128)),
        ("palette.png", lambda p: Image.fromarray(quarters()).quantize(8).save(p), quarters()),
        ("cmyk.tif", lambda p: Image.fromarray(quarters()).convert("CMYK").save(p), quarters()),
        ("a.JPG", lambda p: Image.fromarray(quarters()).save(p, quality=98, subsampling=0),
         quarters()),
    ],
)  # fmt: skip
def test_photos_of_every_kind_become_eight_bits_of_srgb(tmp_path, name, make, expected):
    make(tmp_path / name)
    found = read_photo(tmp_path / name)
    assert found.dtype == np.uint8
    assert found.shape == (*np.shape(expected)[:2], 3)
    exact = not name.endswith(("JPG", "palette.png"))
    assert np.abs(found.astype(int) - expected).max() <= (1 if exact else 8)


def test_transparency_is_laid_on_white(tmp_path):
    layer = np.full((4, 4, 4), (200, 0, 0, 0), np.uint8)
    layer[:2, :, 3] = 255
    Image.fromarray(layer).save(tmp_path / "a.png")
    found = read_photo(tmp_path / "a.png")
    assert (found[:2] == (200, 0, 0)).all()
    assert (found[2:] == 255).all()


def test_the_colour_profile_of_a_photo_is_heeded(tmp_path):
    """A profile of sRGB whose primaries red and green are exchanged."""
    usual = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    other = usual.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    image = Image.fromarray(np.full((4, 4, 3), (200, 40, 90), np.uint8))
    for name, profile, expected in (
        ("usual", usual, (200, 40, 90)),
        ("other", other, (40, 200, 90)),
        ("broken", b"no profile", (200, 40, 90)),
    ):
        image.save(tmp_path / f"{name}.png", icc_profile=profile)
        found = read_photo(tmp_path / f"{name}.png").astype(int)
        assert np.abs(found - expected).max() <= 2, name


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jpg", b"\xff\xd8\xff\xe0 no more", "no picture that can be read|cannot be decoded"),
        ("a.png", b"", "no picture that can be read"),
        ("a.heic", b"ftypheic", "HEIC.*export it as jpg"),
        ("a.webp", None, "does not exist"),
    ],
)
def test_broken_photos_are_refused_by_name(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}.*({reason})"):
        read_photo(tmp_path / name)


def test_a_broken_photo_among_others_is_told_and_passed_over(tmp_path):
    Image.fromarray(quarters()).save(tmp_path / "2.png")
    (tmp_path / "1.jpg").write_bytes(b"nothing")
    said = []
    (source,) = find_people([tmp_path])
    assert [p.name for p in read_pictures(source, say=said.append)] == ["2.png"]
    assert len(said) == 1
    assert "1.jpg" in said[0]
    (tmp_path / "2.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"1.jpg.*and 1 more"):
        list(read_pictures(source))


# People.


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def named(sources):
    return {s.name: [path.name for path in s.files] for s in find_people(sources)}


def test_people_are_videos_and_folders_of_photos(tmp_path):
    touch(tmp_path, "anna/2.jpg", "anna/10.png", "anna/notes.txt", "ben.mp4", "more/c.mov",
          "more/d.webm")  # fmt: skip
    assert named([tmp_path / "anna"]) == {"anna": ["2.jpg", "10.png"]}
    assert named([tmp_path / "more"]) == {"c": ["c.mov"], "d": ["d.webm"]}
    assert named([tmp_path / "*"]) == {
        "ben": ["ben.mp4"], "anna": ["2.jpg", "10.png"], "c": ["c.mov"], "d": ["d.webm"],
    }  # fmt: skip
    photos = [tmp_path / "anna" / "2.jpg", tmp_path / "anna" / "10.png"]
    assert named(photos) == {"anna": ["2.jpg", "10.png"]}
    assert named(photos[:1]) == {"2": ["2.jpg"]}


def test_people_of_one_name_are_called_by_their_folders(tmp_path):
    touch(tmp_path, "x/head.mp4", "y/head.mp4", "y/head.mov")
    assert list(named([tmp_path / "x", tmp_path / "y"])) == [
        "x-head-mp4", "y-head-mov", "y-head-mp4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "sources", "reason"),
    [
        ((), (), "no footage is named"),
        ((), ("nothing.mp4",), "does not exist"),
        (("a.txt",), ("*.mp4",), "matches no video"),
        (("f/a.txt",), ("f",), "holds no video or photo"),
        (("f/a.mp4", "f/b.jpg"), ("f",), "holds videos and photos"),
        (("a.mp4",), ("a.mp4", "a.mp4"), "name each file once"),
    ],
)
def test_what_is_no_footage_is_refused(tmp_path, files, sources, reason):
    touch(tmp_path, *files)
    with pytest.raises(InputError, match=reason):
        find_people([tmp_path / source for source in sources])


def test_names_tell_footage_from_folders_of_frames(tmp_path):
    touch(tmp_path, "a.MOV", "b.txt", "c.mp4/frame.png")
    assert pictures.is_footage(tmp_path / "a.MOV")
    assert not pictures.is_footage(tmp_path / "b.txt")
    assert not pictures.is_footage(tmp_path / "c.mp4")


# Pictures of one camera that stands still.


def tracked(folder, count, names="images/{:05d}_00.png"):
    """What VHAP exports of one camera: a picture each moment, the head's motion elsewhere."""
    content = {"frames": [], "fl_x": 600.0, "fl_y": 600.0, "w": 64, "h": 48}
    for i in range(count):
        picture = folder / names.format(i)
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(quarters(shade=i)).save(picture)
        pose = np.diag([1.0, 1, 1, 1])
        pose[2, 3] = 1
        content["frames"].append(
            {"file_path": names.format(i), "timestep_index": i, "transform_matrix": pose.tolist(),
             "flame_param_path": f"flame_param/{i:05d}.npz"}
        )  # fmt: skip
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("named_by", ["", "transforms.json"])
def test_pictures_of_one_still_camera_are_a_video(tmp_path, named_by):
    folder = tracked(tmp_path / "anna", 12)
    (source,) = find_people([folder / named_by])
    assert (source.name, source.video, len(source.files)) == ("anna", True, 12)
    known = pictures.about(source)
    assert (known.count, known.seconds) == (12, 12 / 25)
    assert "one camera, which stands still" in known.notes[0]
    read = list(read_pictures(source))
    np.testing.assert_allclose([p.seconds for p in read], np.arange(12) / 25)
    for i, picture in enumerate(read):
        np.testing.assert_array_equal(picture.pixels, quarters(shade=i))
    fewer = read_pictures(source, start=0.1, end=0.3, rate=12.5)
    assert [round(25 * p.seconds) for p in fewer] == [3, 4, 6]
    with pytest.raises(InputError, match="choose another part"):
        next(read_pictures(source, start=2))


def test_cameras_that_move_are_no_video(tmp_path):
    folder = tracked(tmp_path / "anna", 3)
    path = folder / "transforms.json"
    content = json.loads(path.read_text())
    content["frames"][1]["transform_matrix"][0][3] = 0.01
    path.write_text(json.dumps(content))
    assert pictures.film_of(folder) is None
    (folder / "images" / "00000_00.png").unlink()
    assert pictures.film_of(folder) is None


def test_what_vhap_tracked_is_named_with_the_way_on(tmp_path):
    touch(tmp_path, "run/config.yml", "run/2026-11-02/tracked_flame_params_30.npz")
    with pytest.raises(InputError, match="export it with its export_as_nerf_dataset"):
        find_people([tmp_path / "run"])
