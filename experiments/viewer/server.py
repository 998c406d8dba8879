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


class Server:
    """A running server with a page for each client, in threads of its own."""

    def __init__(self, exhibit: Exhibit, host: str, port: int):
        """Start it.

        Raises:
          InputError: if viser is missing or the port is taken.
        """
        viser = load_viser()
        check_port(host, port)
        self._pages: dict[int, Page] = {}
        with guarded():
            self._viser = viser.ViserServer(host=host, port=port, label="eg3d_jax", verbose=False)
        # A share link would let anybody in, whatever --host says. The button stays, without effect:
        # the page of viser 0.2.23 breaks when it is told to hide it.
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
