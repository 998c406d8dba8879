"""The viewer's server, by viser, and what it refuses; each client gets a `Page`."""

from __future__ import annotations

import importlib
import socket
from typing import Any

from experiments.errors import InputError
from experiments.viewer.guard import guarded
from experiments.viewer.page import Exhibit, Page


def load_viser() -> Any:
    """The library.

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


def serve(exhibit: Exhibit, host: str, port: int) -> Any:
    """Start a server in threads of its own; `stop` ends it.

    Raises:
      InputError: if viser is missing or the port is taken.
    """
    viser = load_viser()
    check_port(host, port)
    with guarded():
        server = viser.ViserServer(host=host, port=port, label="eg3d_jax", verbose=False)
    # A share link would let anybody in, whatever --host says. The button stays, without effect:
    # the page of viser 0.2.23 breaks when it is told to hide it.
    server.request_share_url = lambda *_, **__: None
    server.scene.set_up_direction("+y")
    pages: dict[int, Page] = {}

    @server.on_client_connect
    def _(client: Any) -> None:
        pages[client.client_id] = Page(client, exhibit)

    @server.on_client_disconnect
    def _(client: Any) -> None:
        if page := pages.pop(client.client_id, None):
            page.close()

    return server
