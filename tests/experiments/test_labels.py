"""Numbers, brackets and names of a dataset.json."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eg3d_jax.errors import InputError
from inversion.frames.camera_files import read_labels
from inversion.frames.labels import as_number, parse_labels, plain_name

LABEL = [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1, 4, 0, 0.5, 0, 4, 0.5, 0, 0, 1]
PAIRS = [["a.png", LABEL], ["b.png", LABEL]]


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["{!r}", " {:+.17g}\n"]))
def test_text_that_reads_as_a_number_is_that_number(value, form):
    assert as_number(form.format(value)) == value
    assert as_number(value) == value


@pytest.mark.parametrize("text", ["1", "+1", " 1.", "1e0", "1.0E+00", "100e-2"])
def test_numbers_may_be_written_in_every_usual_way(text):
    label = list(map(str, LABEL))
    label[0] = text
    found = parse_labels("dataset.json", {"labels": [["a.png", label]]})
    np.testing.assert_array_equal(found["a.png"], np.float64(LABEL))


@pytest.mark.parametrize(
    "value", ["", " ", "one", "nan", "inf", "-Infinity", "1,0", "1_0", "0x1", "true", True, None]
)
def test_other_text_and_truth_values_are_no_numbers(value):
    assert as_number(value) is None
    with pytest.raises(InputError, match="at index 3; want a number"):
        parse_labels("dataset.json", {"labels": [["a.png", LABEL[:3] + [value] + LABEL[4:]]]})


@pytest.mark.parametrize("value", [math.nan, math.inf, "1e400", 10**400])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(InputError, match="at index 3; want finite numbers"):
        parse_labels("dataset.json", {"labels": [["a.png", LABEL[:3] + [value] + LABEL[4:]]]})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"labels": [PAIRS]}, "labels has one bracket too many; remove the outer"),
        ({"labels": [[pair] for pair in PAIRS]}, "one bracket too many: remove the outer"),
        ({"labels": [["a.png", [LABEL]]]}, "label of a.png has one bracket too many"),
        ({"labels": {"a.png": [LABEL]}}, "label of a.png has one bracket too many"),
        ({"labels": [["a.png", np.reshape(LABEL, (5, 5)).tolist()]]}, "list of lists"),
        ({"labels": PAIRS[0]}, "lacks brackets round name and label"),
        ({"labels": [["a.png", *LABEL]]}, "lacks brackets round the numbers"),
        (PAIRS, 'holds no labels; put {"labels": } round its list'),
        (dict(PAIRS), 'put {"labels": } round it'),
        ({"labels": None}, "holds no labels; it must be"),
        ({"labels": [["a.png", LABEL[:16]]]}, "16 numbers .the intrinsics are missing"),
        ({"labels": [["a.png", LABEL[:7]]]}, "7 numbers .a position and a quaternion"),
        ({"labels": [["./", LABEL]]}, "entry 0 of labels has no file name"),
        ({"labels": [["a.png", LABEL], ["./a.png", LABEL]]}, "more than one label for a.png"),
    ],
)
def test_brackets_and_forms_are_explained(tmp_path, content, says):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"labels\.json.*" + says):
        read_labels(path)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("./a.png", "a.png"),
        ("00000\\a.png", "00000/a.png"),
        (".\\x\\\\.\\a.png", "x/a.png"),
        ("/x//a.png", "/x/a.png"),
        ("e\u0301.png", "\u00e9.png"),
        (".", ""),
    ],
)
def test_paths_are_written_in_one_way(name, plain):
    assert plain_name(name) == plain
    assert plain_name(plain) == plain
