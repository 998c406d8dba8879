"""The report stands alone, and its sentences follow from its numbers, also where these are bad."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from experiments.report.camera_moves import CameraMoves
from experiments.report.figures import path_of_latents
from experiments.report.page import PictureRow, Report, render, write_report
from experiments.report.summary import Comparison, MethodResult

_YAW = np.linspace(-60, 60, 13)
_VIEWS = frozenset({0, 6, 12})


def _method(name, fitted, tuned, psnr, lpips, **more):
    ones = np.ones(len(_YAW))
    return MethodResult(
        name=name,
        fitted=frozenset(fitted),
        tuned=tuned,
        psnr=psnr * ones,
        lpips=lpips * ones,
        losses={"pixel": np.geomspace(1, 0.1, 700), "prior": np.zeros(700)},
        **more,
    )


def _comparison(many=(24.1, 0.15), few=(21.0, 0.22), latent=(23.5, 0.17), yaw=_YAW):
    methods = [
        _method("1 view, tuned", {6}, True, *few),
        _method("3 views, latent", _VIEWS, False, *latent),
        _method("3 views, tuned", _VIEWS, True, *many, seconds=61.0),
    ]
    return Comparison(yaw_degrees=yaw, methods=methods)


def test_the_path_of_latents_keeps_their_distances():
    """Three points of a plane are drawn as they lie, whatever space the plane is in."""
    corners = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]])
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 2)))[0]
    svg = path_of_latents((corners @ basis.T).reshape(3, 2, 6), np.radians([-30.0, 0.0, 30.0]))
    assert all(text in svg for text in ("-30°", ">0°<", "+30°"))
    (line,) = (
        d for d in re.findall(r'<path d="([^"]*)"', svg) if d.count("L") == 2 and "z" not in d
    )
    points = np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", line), float)
    lengths = np.linalg.norm(points[[1, 2, 0]] - points, axis=1)
    # Points are drawn at whole pixels, so each length is right to within one.
    np.testing.assert_allclose(lengths, lengths[0] / 3 * np.array([3, 4, 5]), atol=3)
    assert lengths.min() > 60


def test_the_gain_of_more_views_is_stated():
    text = " ".join(_comparison().sentences())
    assert "13 frames from -60 to 60 degrees" in text
    assert (
        "Beyond 40 degrees of yaw, on the 2 frames not fitted, three views reach 24.1 dB where one "
        "view reaches 21.0 dB (+3.1 dB); LPIPS is 0.150 against 0.220 (lower is better): more "
        "views help in both measures."
    ) in text
    assert "gains 0.6 dB on the 10 frames not fitted (23.5 to 24.1 dB)" in text
    assert text.endswith("tuning helps in both measures.")


def test_a_loss_is_stated_as_plainly():
    text = " ".join(_comparison(many=(20.0, 0.30), latent=(21.0, 0.2)).sentences())
    assert "(-1.0 dB)" in text
    assert "more views do not help in either measure" in text
    assert "loses 1.0 dB" in text
    assert "tuning does not help in either measure" in text


def test_measures_that_disagree_are_told_apart():
    text = " ".join(_comparison(many=(24.0, 0.25), latent=(24.5, 0.27)).sentences())
    assert "more views help in PSNR but not in LPIPS" in text
    assert "tuning helps in LPIPS but not in PSNR" in text


def test_a_difference_too_small_to_print_is_none():
    text = " ".join(_comparison(many=(21.0001, 0.22), latent=(21.0, 0.22)).sentences())
    assert "more views do not help in either measure" in text


def test_without_side_views_it_says_so():
    text = " ".join(_comparison(yaw=_YAW / 2).sentences())
    assert "No frame beyond 40 degrees of yaw was left to test on; on the 10 frames" in text


def test_with_every_frame_fitted_nothing_is_claimed():
    methods = [_method("1 view", {0}, True, 20, 0.2), _method("all", range(13), True, 30, 0.1)]
    text = " ".join(Comparison(yaw_degrees=_YAW, methods=methods).sentences())
    assert "nothing can be said about views not seen" in text


def test_means_are_over_frames_that_no_method_was_fitted_to():
    psnr = np.zeros(13)
    psnr[[0, 6, 12]] = 100
    psnr[3] = np.nan  # not evaluated
    ones = np.ones(13)
    one = MethodResult(name="a", fitted=frozenset({6}), tuned=True, psnr=psnr, lpips=ones)
    two = MethodResult(name="b", fitted=frozenset({0, 12}), tuned=True, psnr=psnr, lpips=ones)
    comparison = Comparison(yaw_degrees=_YAW, methods=[one, two])
    assert comparison.mean("psnr", "not fitted", one) == 0
    assert comparison.mean("psnr", "fitted", one) == 100
    assert comparison.mean("psnr_foreground", "fitted", one) is None
    numbers = comparison.numbers()[1]
    assert numbers["views"] == 2
    assert numbers["groups"]["not fitted"]["frames"] == 10
    assert numbers["groups"]["side, not fitted"] == {
        "frames": 2, "psnr": 0.0, "psnr_foreground": None, "lpips": 1.0
    }  # fmt: skip


def test_numbers_of_another_length_are_refused():
    with pytest.raises(ValueError, match="one value per frame"):
        _comparison(yaw=_YAW[:5])


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.links, self.ids = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "img", "br"):
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def report(tmp_path):
    video = tmp_path / "turntable.mp4"
    video.write_bytes(b"video")
    picture = np.zeros((8, 8, 3), np.uint8)
    return Report(
        title="Head <1> & more",
        intro="Fitted to three views.",
        comparison=_comparison(),
        columns=["target", "inversion", "depth"],
        rows=[PictureRow(label="0°, fitted", pictures=[picture] * 3)],
        video=video,
        video_caption="Once round.",
        settings={"frames": tmp_path, "latent": {"steps": 300}},
        versions={"jax": "1.2"},
        seconds={"latent": 60.0, "tuning": 23.0},
        notes=["Yellow is near."],
    )


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(report, tmp_path):
    page = write_report(tmp_path / "report.html", report).read_text()
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert all(link.startswith(("data:", "#")) for link in tags.links)
    assert not re.search(r"url\((?!#)|@import|<script|<link", page)
    assert len(tags.ids) == len(set(tags.ids))
    assert {link[1:] for link in tags.links if link[0] == "#"} <= set(tags.ids)
    assert page.count("data:image/png") == 3
    assert page.count("<svg") == 2
    assert "data:video/mp4;base64,dmlkZW8=" in page
    for text in ("Head &lt;1&gt; &amp; more", "latent.steps", "1:23", "Yellow is near.", "jax"):
        assert text in page


def test_the_best_of_each_column_not_fitted_is_marked(report, tmp_path):
    best = re.findall(r'<td class="best">([^<]*)</td>', render(report, folder=tmp_path))
    assert best == ["24.10", "0.150", "24.10", "0.150"]


def test_a_large_video_is_linked_beside_the_page(report, tmp_path):
    report.video.write_bytes(bytes(5 * 2**20))
    page = render(report, folder=tmp_path)
    assert 'src="turntable.mp4"' in page
    assert len(page) < 2**20


def test_what_a_refinement_moved_is_told_by_yaw_and_by_name(report, tmp_path):
    moves = CameraMoves(
        names=[f"frame<{i}>.png" for i in range(6)],
        yaw_degrees=np.array([-70.0, -20.0, -15.0, 0.0, 14.9, 39.0]),
        turn_degrees=np.array([4.04, 0.5, 1.5, 0.1, 0.3, 2.5]),
        shift_percent=np.array([1.0, 0.1, 0.2, 0.3, 0.5, 0.9]),
        focal_factor=1.0123,
    )
    page = render(dataclasses.replace(report, moves=moves), folder=tmp_path)
    part = re.findall(r"<h2>Refined cameras</h2>(.*?)</section>", page, re.DOTALL)[0]
    cells = re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', part)
    assert {name: re.findall("<td>(.*?)</td>", row) for name, row in cells} == {
        "0° to 15°": ["2", "0.20°", "0.30°", "0.40 %", "0.50 %"],
        "15° to 40°": ["3", "1.50°", "2.50°", "0.20 %", "0.90 %"],
        "beyond 60°": ["1", "4.04°", "4.04°", "1.00 %", "1.00 %"],
        "all": ["6", "1.00°", "4.04°", "0.40 %", "1.00 %"],
    }
    assert (
        "Turned most: frame&lt;0&gt;.png at -70° by 4.0°; frame&lt;5&gt;.png at +39° by 2.5°; "
        "frame&lt;2&gt;.png at -15° by 1.5°; frame&lt;1&gt;.png at -20° by 0.5°; "
        "frame&lt;4&gt;.png at +15° by 0.3°. The focal length that all share was multiplied by "
        "1.012."
    ) in part
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []


def test_parts_that_are_missing_are_left_out(tmp_path):
    page = render(Report(title="T", intro="I", comparison=_comparison()), folder=tmp_path)
    for heading in ("Pictures", "Refined cameras", "Turntable", "Remarks", "Time"):
        assert f"<h2>{heading}" not in page
    assert "head" not in re.findall(r"<thead>.*?</thead>", page)[0].replace("thead", "")
