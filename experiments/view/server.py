"""Web server of the viewer, and the requests that it must refuse.

viser 0.2.23 answers `GET /../../anything` with that file of this machine and loads Google's
analytics into its page (1.1.1 does neither), and both take web sockets from any other page that is
open in the browser, and messages of 50 MB.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

from eg3d_jax.errors import InputError
from experiments.view.page import Exhibit, Page

# The page may load what this server has, and nothing from elsewhere.
CONTENT_POLICY = "default-src 'self' ws: wss: data: blob: 'unsafe-inline' 'unsafe-eval'"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Bytes of a message to the viewer: cameras, sliders and buttons, of a few hundred bytes each.
LARGEST_MESSAGE = 2**20


def refusal(path: str, headers: Mapping[str, str], *, host: str) -> HTTPStatus | None:
    """HTTP status with which to refuse a request; None if it is welcome.

    Args:
      path: of the request, with its query.
      headers: of the request; browsers tell in Origin which page asks, and in Host whom.
      host: address that the server listens on. If it is this machine's own, only its names are
        answered: another site may give its name this address, and then ask as from its own page.
    """
    plain = unquote(path.partition("?")[0]).replace("\\", "/")
    if plain.startswith("//") or ".." in plain.split("/"):
        return HTTPStatus.NOT_FOUND
    asked, origin = headers.get("Host", ""), headers.get("Origin")
    if host in LOOPBACK and urlsplit(f"//{asked}").hostname not in LOOPBACK:
        return HTTPStatus.FORBIDDEN
    if origin is not None and urlsplit(origin).netloc != asked:
        return HTTPStatus.FORBIDDEN
    return None


@contextmanager
def guarded(host: str) -> Iterator[None]:
    """Guard web servers started inside the context, as long as they run.

    Requests are refused by `refusal`, and a client that sends more than `LARGEST_MESSAGE` is
    disconnected.

    viser offers no other hook: it makes its server in its constructor.
    """
    from websockets.asyncio import server  # comes with viser

    serve = server.serve

    def guarded_serve(*args: Any, process_request: Any, **options: Any) -> Any:
        def process(connection: Any, request: Any) -> Any:
            status = refusal(request.path, request.headers, host=host)
            if status is not None:
                return connection.respond(status, f"{status.phrase}\n")
            response = process_request(connection, request)
            if response is not None:  # None opens a web socket
                response.headers["Content-Security-Policy"] = CONTENT_POLICY
            return response

        return serve(*args, process_request=process, **{**options, "max_size": LARGEST_MESSAGE})

    server.serve = guarded_serve  # pyright: ignore[reportAttributeAccessIssue]  # for a moment
    try:
        yield
    finally:
        server.serve = serve


def load_viser() -> Any:
    """Import viser, or say how to install it.

    Raises:
      InputError: if it is not installed.
    """
    try:
        return importlib.import_module("viser")
    except ImportError as error:
        raise InputError(
            f"the viewer needs viser ({error}); install it with `pip install -e '.[view]'`"
        ) from None


def check_port(host: str, port: int) -> None:
    """Refuse a port that cannot be listened on; viser would silently take another.

    Raises:
      InputError: if so.
    """
    if not 1 <= port <= 65535:
        raise InputError(f"--port {port} must be from 1 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise InputError(
            f"cannot listen on port {port} of {host} ({error.strerror}); choose another with --port"
        ) from None


class Server:
    """Running server with a page for each client, in threads of its own."""

    def __init__(self, exhibit: Exhibit, host: str, port: int):
        """Start the server.

        Raises:
          InputError: if viser is missing or the port is taken.
        """
        viser = load_viser()
        check_port(host, port)
        self._pages: dict[int, Page] = {}
        with guarded(host):
            self._viser = viser.ViserServer(host=host, port=port, label="eg3d_jax", verbose=False)
        # A share link would let anybody in, whatever --host says. The button stays, without effect:
        # the page of viser 0.2.23 breaks if it is hidden.
        self._viser.request_share_url = lambda *_, **__: None
        self._viser.scene.set_up_direction("+y")

        @self._viser.on_client_connect
        def _(client: Any) -> None:
            self._pages[client.client_id] = Page(client, exhibit)

        @self._viser.on_client_disconnect
        def _(client: Any) -> None:
            if page := self._pages.pop(client.client_id, None):
                page.close()

    def stop(self) -> None:
        """End all drawing, as JAX must not work while Python ends, and the server."""
        for page in list(self._pages.values()):
            page.close()
        self._viser.stop()
