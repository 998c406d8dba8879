"""What a server on a port of this machine must refuse, whoever asks.

viser 0.2.23 answers `GET /../../anything` with that file of this machine and loads Google's
analytics into its page (1.1.1 does neither), and both take web sockets from any other page that is
open in the browser.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

# The page may load what this server has, and nothing from elsewhere.
CONTENT_POLICY = "default-src 'self' ws: wss: data: blob: 'unsafe-inline' 'unsafe-eval'"


def refusal(path: str, headers: Mapping[str, str]) -> HTTPStatus | None:
    """The status with which a request must be refused; None for one that is welcome.

    Args:
      path: of the request, with its query.
      headers: of the request; browsers tell in Origin which page asks.
    """
    plain = unquote(path.partition("?")[0]).replace("\\", "/")
    if plain.startswith("//") or ".." in plain.split("/"):
        return HTTPStatus.NOT_FOUND
    origin = headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("Host"):
        return HTTPStatus.FORBIDDEN
    return None


@contextmanager
def guarded() -> Iterator[None]:
    """Web servers that start inside refuse what `refusal` says, for as long as they run.

    viser leaves no other place to step in: it makes its server in its constructor.
    """
    from websockets.asyncio import server  # comes with viser

    serve = server.serve

    def guarded_serve(*args: Any, process_request: Any, **options: Any) -> Any:
        def process(connection: Any, request: Any) -> Any:
            status = refusal(request.path, request.headers)
            if status is not None:
                return connection.respond(status, f"{status.phrase}\n")
            response = process_request(connection, request)
            if response is not None:  # None opens a web socket
                response.headers["Content-Security-Policy"] = CONTENT_POLICY
            return response

        return serve(*args, process_request=process, **options)

    server.serve = guarded_serve  # pyright: ignore[reportAttributeAccessIssue]  # for a moment
    try:
        yield
    finally:
        server.serve = serve
