"""Who may ask the viewer's server for what."""

from http import HTTPStatus

import pytest

from experiments.view.server import refusal

HOST = {"Host": "localhost:9000"}


@pytest.mark.parametrize("path", ["/", "/?a=../b", "/assets/index-1.js", "/a..b/c.js"])
def test_the_pages_own_files_are_welcome(path):
    assert refusal(path, HOST) is None


@pytest.mark.parametrize(
    "path",
    ["/../etc/passwd", "/assets/../../x", "/%2e%2e/x", "/..%2Fx", "/..\\x", "/..", "//etc/passwd"],
)
def test_paths_outside_are_not_found(path):
    assert refusal(path, HOST) == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:9000", None),  # through any tunnel: the browser's own address
        ("http://localhost:9001", HTTPStatus.FORBIDDEN),
        ("https://example.org", HTTPStatus.FORBIDDEN),
        ("null", HTTPStatus.FORBIDDEN),
    ],
)
def test_other_pages_may_not_ask(origin, status):
    assert refusal("/", HOST | {"Origin": origin}) == status
