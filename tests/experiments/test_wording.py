"""What is said of numbers is true of their digits: sentences are read back and judged by those."""

import re
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from experiments.benchmark.bars import Findings, show
from experiments.benchmark.promises import Bar
from experiments.compare.claims import Claim, claims_table
from experiments.crosscheck.comparison import Difference, verdict
from experiments.report.page import Report, render
from experiments.report.summary import Comparison, MethodResult
from inversion.wording import Change, beside, decimals, degrees, rounded

_YAW = np.linspace(-60, 60, 13)
_VIEWS = frozenset({0, 6, 12})
# Near enough to each other that their difference rounds another way than they do.
_NEAR = st.floats(-0.2, 0.2).map(lambda x: round(x, 5))
_PSNR = st.tuples(st.floats(5, 60), _NEAR).map(lambda p: (p[0], p[0] + p[1]))
_LPIPS = st.tuples(st.floats(0.3, 1), _NEAR.map(lambda x: x / 50)).map(lambda p: (p[0], sum(p)))
_NUMBER = r"([+-]?\d+\.\d+)"


def _comparison(psnr, lpips):
    """One view and three, each tuned, three not tuned, and three latents: from worse to better."""

    def method(name, fitted, tuned, i, latents=1):
        ones = np.ones(len(_YAW))
        return MethodResult(name=name, fitted=frozenset(fitted), tuned=tuned, latents=latents,
                            psnr=psnr[i] * ones, lpips=lpips[i] * ones)  # fmt: skip

    methods = [
        method("1 view, tuned", {6}, True, 0),
        method("3 views, latent", _VIEWS, False, 0),
        method("3 views, tuned", _VIEWS, True, 1),
        method("3 latents, tuned", _VIEWS, True, 0, latents=3),
    ]
    return Comparison(yaw_degrees=_YAW, methods=methods)


def _helps(verdict_text):
    """Whether a verdict says that PSNR, and that LPIPS, became better."""
    if "both measures" in verdict_text:
        return True, True
    if "either measure" in verdict_text:
        return False, False
    return ("in PSNR but" in verdict_text), ("in LPIPS but" in verdict_text)


@given(_PSNR, _LPIPS)
@example((24.04, 24.06), (0.0116, 0.0114))  # 0.012 to 0.011, which was no gain
@example((24.06, 24.149), (0.0114, 0.0106))  # 24.1 to 24.1 dB, which was a gain
def test_verdicts_and_gains_are_those_of_the_digits_shown(psnr, lpips):
    text = _comparison(psnr, lpips).sentences()
    found = [
        re.search(
            rf"views reach {_NUMBER} dB where one view reaches {_NUMBER} dB \({_NUMBER} dB\); "
            rf"LPIPS is {_NUMBER} against {_NUMBER} \(.*?\): (.*)\.$", text[1],
        ).group(2, 1, 3, 5, 4, 6),
    ]  # fmt: skip
    tuning = re.search(
        rf"(gains|loses|changes PSNR by) {_NUMBER} dB .* \({_NUMBER} to {_NUMBER} dB\) and takes "
        rf"LPIPS from {_NUMBER} to {_NUMBER}: (.*)\.$", text[2],
    )  # fmt: skip
    verb, size, *rest = tuning.groups()
    assert (verb == "changes PSNR by") == (float(size) == 0)
    found.append((*rest[:2], f"{'-' if verb == 'loses' else ''}{size}", *rest[2:]))
    for part in re.finditer(
        rf"{_NUMBER} dB on the \d+ frames[\w ]* \({_NUMBER} to {_NUMBER} dB; "
        rf"LPIPS {_NUMBER} to {_NUMBER}\): ([^;.]*)", text[3],
    ):  # fmt: skip
        gain, before, after, *rest = part.groups()
        found.append((before, after, gain, *rest))
    assert len(found) == 4
    for before, after, gain, lpips_before, lpips_after, said in found:
        assert float(gain) == pytest.approx(float(after) - float(before), abs=1e-9)
        assert not re.fullmatch(r"[+-]0\.0", gain)
        better = float(after) > float(before), float(lpips_after) < float(lpips_before)
        assert _helps(said) == better


@given(_PSNR, _LPIPS)
def test_all_that_show_the_best_digits_are_bold(psnr, lpips):
    comparison = _comparison(psnr, lpips)
    # Curves take a second to draw, and are not looked at.
    with mock.patch("experiments.report.page.yaw_curves", return_value=""):
        page = render(Report(title="", intro="", comparison=comparison), folder=Path())
    body = re.search(r"<tbody>(.*?)</tbody>", page, re.DOTALL).group(1)
    rows = [re.findall(r'<td( class="best")?>([\d.]+)</td>', row) for row in body.split("</tr>")]
    for column, best in ((2, max), (3, min), (4, max), (5, min)):
        cells = [row[column] for row in rows if row]
        wanted = best(float(text) for _, text in cells)
        assert [bool(bold) for bold, _ in cells] == [float(text) == wanted for _, text in cells]


@given(st.floats(-1e6, 1e6), st.integers(0, 6))
def test_what_is_shown_is_what_is_compared_and_zero_has_no_sign(value, digits):
    for text in (decimals(value, digits), decimals(value, digits, signed=True)):
        assert float(text) == rounded(value, digits)
        assert text.lstrip("+-") == text or float(text) != 0
    assert decimals(value, digits, signed=True).startswith("+") == (rounded(value, digits) > 0)


def test_small_angles_and_gains_have_no_sign():
    assert [degrees(x) for x in (-0.4, 0.0, 0.4, -0.6, 40)] == ["0°", "0°", "0°", "-1°", "+40°"]
    assert decimals(-0.004, 2) == "0.00"
    endless = Change(np.inf, np.inf, digits=1, higher_is_better=True)  # two perfect pictures
    assert (endless.rise, endless.better, endless.old) == (0.0, False, "inf")


_STYLES = st.sampled_from("gfe")


@given(st.floats(1e-9, 1e6), st.floats(-1e-3, 1e-3), st.integers(1, 4), _STYLES)
@example(0.9996, 4.001e-4, 2, "f")
def test_a_number_beside_its_bound_shows_on_which_side_it_is(bound, part, digits, style):
    value = bound * (1 + part)
    shown, limit = map(float, beside(value, bound, digits, style))
    assert (shown < limit, shown > limit) == (value < bound, value > bound)
    assert beside(2.0, 1.0, digits, "g") == ("2", "1")


@given(st.floats(0.5, 60), st.floats(-1e-4, 1e-4), st.booleans())
def test_promises_are_kept_as_their_digits_say(bound, part, at_least):
    bar = Bar(name="a", value=bound * (1 + part), bound=bound, unit="s", at_least=at_least)
    said = []
    show(
        Findings(bars=[bar]), type("Progress", (), {"say": lambda self, text: said.append(text)})()
    )
    value, sign, limit, kept = re.search(
        r"\| a \| (\S+) \| ([≥≤]) (\S+) \| s \| (yes|NO) \|", said[0]
    ).groups()
    within = float(value) >= float(limit) if sign == "≥" else float(value) <= float(limit)
    assert within == (kept == "yes") == bar.kept


@given(st.floats(1e-6, 1e-2), st.floats(1e-9, 1e-3))
def test_disagreement_shows_in_the_digits(tolerance, part):
    item = Difference(stage="ws", largest=tolerance * (1 + part), mean=0.0, tolerance=tolerance)
    shown, limit = re.search(r": (\S+), tolerance (\S+)$", verdict([item])).groups()
    assert float(shown) > float(limit)


_RATIO = st.floats(-0.002, 0.002)


@given(st.sampled_from([0.7, 1.0, 1.05]), st.lists(_RATIO, min_size=3, max_size=3).map(sorted))
def test_claims_hold_as_their_digits_say(bound, offsets):
    low, ratio, high = (bound + x for x in offsets)
    claim = Claim(claim="c", method="m", reference="r", metric="mse", frames="all", bound=bound,
                  ratio=ratio, low=low, high=high, heads=(1, 1))  # fmt: skip
    row = claims_table([claim]).splitlines()[2]
    low, high, limit, said = re.search(
        r"\(([\d.]+) to ([\d.]+)\) \| ≤ ([\d.]+) \| 1 of 1 \| ([\w ]+) \|", row
    ).groups()
    low, high, limit = float(low), float(high), float(limit)
    wanted = "holds" if high <= limit else "does not hold" if low > limit else "not clear"
    assert said == wanted
