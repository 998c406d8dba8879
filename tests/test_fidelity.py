"""Pages that promise name the tests that show it: fidelity to the originals, and trust."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "fidelity.md").read_text()
TRUST = (ROOT / "docs" / "trust.md").read_text()


@pytest.mark.parametrize("page", [PAGE, TRUST], ids=["fidelity", "trust"])
def test_every_test_named_in_a_page_exists(page):
    code = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"^def (test_\w+)", code, re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)(?:\[\w+\])?`", page))
    assert named
    assert not named - defined


@pytest.mark.parametrize("section", ["Generator", "Inversion"])
def test_every_row_has_a_verdict_and_a_test(section):
    rows = PAGE.split(f"## {section}\n")[1].split("\n## ")[0].strip().splitlines()[2:]
    assert len(rows) > 10
    for row in rows:
        _, _, verdict, _, tests, _ = re.split(r"(?<!\\)\|", row)
        assert verdict.strip() in ("same", "quirk kept", "changed"), row
        assert "`test_" in tests, row


def test_every_line_about_trust_names_a_test():
    rows = [row for row in TRUST.splitlines() if row.startswith("|")]
    rows = [row for row in rows if not row.startswith("|---") and not row.endswith("| test |")]
    assert len(rows) > 10
    assert all("`test_" in row for row in rows)
