"""Who may ask the viewer's server for what."""

from http import HTTPStatus

import pytest

from experiments.view.server import refusal

HOST = {"Host": "localhost:9000"}


@pytest.mark.parametrize("path", ["/", "/?a=../b", "/assets/index-1.js", "/a..b/c.js"])
def test_the_pages_own_files_are_welcome(path):
    assert refusal(path, HOST, host="127.0.0.1") is None


@pytest.mark.parametrize(
    "path",
    ["/../etc/passwd", "/assets/../../x", "/%2e%2e/x", "/..%2Fx", "/..\\x", "/..", "//etc/passwd"],
)
def test_paths_outside_are_not_found(path):
    assert refusal(path, HOST, host="127.0.0.1") == HTTPStatus.NOT_FOUND


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
    assert refusal("/", HOST | {"Origin": origin}, host="127.0.0.1") == status


@pytest.mark.parametrize(
    ("listens", "asked", "status"),
    [
        ("127.0.0.1", "127.0.0.1:8080", None),
        ("127.0.0.1", "localhost:9000", None),  # through a tunnel
        ("127.0.0.1", "[::1]:8080", None),
        # A site of that name, which the visitor's browser was told to find at this address.
        ("127.0.0.1", "evil.example:8080", HTTPStatus.FORBIDDEN),
        ("localhost", "evil.example", HTTPStatus.FORBIDDEN),
        ("::1", "", HTTPStatus.FORBIDDEN),
        ("0.0.0.0", "workstation.local:8080", None),  # let in by --host
    ],
)
def test_only_own_names_are_answered(listens, asked, status):
    headers = {"Host": asked, "Origin": f"http://{asked}"} if asked else {}
    assert refusal("/", headers, host=listens) == status
